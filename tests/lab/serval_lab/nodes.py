"""Nodes: each a set of namespaces with its own containerd, kubelet, kube-proxy and device plugins."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from serval_lab import cgroups, control_plane, device_control, network, node_config
from serval_lab.context import PACKAGE_ROOT, Context
from serval_lab.kube import KubeClient, allocatable, is_ready
from serval_lab.pki import Authority
from serval_lab.procs import Process, kill_all
from serval_lab.services import hosts_folder, pause_image
from serval_lab.spec import NodeSpec, parse_taint
from serval_lab.wait import wait_for

NAMESPACES_LIMIT = 10.0
STARTS = "the lab starts the node"
READY_LIMIT = 120.0
"""Seconds. On an idle machine a node takes 2."""


def component(node: str) -> str:
    """Return the name of a node's first process, for its pid file and log."""
    return f"node-{node}"


def prepare(context: Context, authority: Authority) -> None:
    """Write what all nodes read: certificates, configurations, control files of devices."""
    machine = node_config.Machine.measure(context.folder.path)
    for position, node in enumerate(context.state.nodes):
        folder = context.folder.node(node.name)
        for name in ("kubelet", "containerd", "cni", "log", "devices"):
            (folder / name).mkdir(parents=True)
        address = str(context.plan.node(position).address)
        pair = authority.issue(
            f"node-{node.name}",
            f"system:node:{node.name}",
            organization="system:nodes",
            sans=[node.name, address],
        )
        control_plane.kubeconfig(context, context.folder.pki / f"node-{node.name}.conf", pair)
        reserve = node_config.reserved(machine, context.state.nodes, position)
        _write_configs(context, position, folder, reserve)
        for resource, units in node.devices.items():
            device_control.write(folder / "devices", device_control.DeviceState(resource, units))


def _write_configs(context: Context, position: int, folder: Path, reserve: dict[str, str]) -> None:
    node, plan, addresses = context.state.nodes[position], context.plan, context.plan.node(position)
    kubelet = node_config.kubelet(
        address=str(addresses.address),
        pods=addresses.pods,
        dns=context.host,
        pki=context.folder.pki,
        node=node,
        cgroup_root=cgroups.kubelet_root(plan.bridge, node.name),
        reserve=reserve,
    )
    (folder / "kubelet.json").write_text(json.dumps(kubelet, indent=1))
    containerd = node_config.containerd(
        sandbox_image=pause_image(context),
        hosts=hosts_folder(context),
        cni_bins=context.binaries.dirs,
        runc=context.binaries.path("runc"),
    )
    (folder / "containerd.toml").write_text(containerd)
    (folder / "cni-conf").mkdir()
    (folder / "cni-conf" / "10-lab.conflist").write_text(json.dumps(node_config.cni(addresses.pods)))
    (folder / "node.json").write_text(json.dumps(_init_config(context, position, folder), indent=1))


def _init_config(context: Context, position: int, folder: Path) -> dict[str, Any]:
    """Return what `node_init` reads."""
    node, plan = context.state.nodes[position], context.plan
    addresses, others = plan.node(position), [plan.node(i) for i in range(len(context.state.nodes))]
    binary, pki = context.binaries.path, context.folder.pki
    return {
        "name": node.name,
        "logs": str(context.folder.logs),
        "address": f"{addresses.address}/{plan.nodes.prefixlen}",
        "routes": {str(o.pods): str(o.address) for o in others if o != addresses},
        "keep": [str(path) for path in _kept(context)],
        "binds": {
            str(folder / "kubelet"): "/var/lib/kubelet",
            str(folder / "containerd"): "/var/lib/containerd",
            str(folder / "cni"): "/var/lib/cni",
            str(folder / "cni-conf"): node_config.CNI_FOLDER,
            str(folder / "log"): "/var/log",
        },
        "containerd_socket": node_config.CONTAINERD_SOCKET,
        "devices": str(folder / "devices"),
        "programs": {
            "containerd": [str(binary("containerd")), "-c", str(folder / "containerd.toml")],
            "kube-proxy": [
                str(binary("kube-proxy")),
                *node_config.kube_proxy_flags(
                    kubeconfig=pki / "kube-proxy.conf",
                    node=node.name,
                    address=str(addresses.address),
                    pods=plan.pods,
                ),
            ],
            "kubelet": [
                str(binary("kubelet")),
                f"--config={folder / 'kubelet.json'}",
                f"--kubeconfig={pki / f'node-{node.name}.conf'}",
                f"--hostname-override={node.name}",
                f"--node-ip={addresses.address}",
            ],
        },
        "device_plugin": [context.python, "-m", "serval_lab.device_plugin"],
    }


def _kept(context: Context) -> list[Path]:
    """Return the folders that a node must see even where they lie below /run or /var/lib."""
    python = Path(context.python).absolute()
    folders = [context.folder.path, PACKAGE_ROOT, python.parents[1], python.resolve().parents[1]]
    folders += [context.binaries.path(name).absolute().parent for name in ("containerd", "kubelet")]
    return list(dict.fromkeys([*folders, *context.binaries.dirs]))


def register(context: Context, api: KubeClient, node: NodeSpec) -> None:
    """Make the Node object, with labels and taints; one that is there is said to be not ready any more.

    A kubelet may not set labels such as node-role.kubernetes.io/x on itself; the administrator may. The
    kubelet fills in the rest. What it said before the node died would otherwise pass for news.
    """
    path = f"/api/v1/nodes/{node.name}"
    if api.get(path) is not None:
        stale = {
            "conditions": [{"type": "Ready", "status": "False", "reason": "NodeStarts", "message": STARTS}],
            "allocatable": dict.fromkeys(device.resource for device in devices(context, node)),
        }
        api.request(
            "PATCH", f"{path}/status", {"status": stale}, content="application/strategic-merge-patch+json"
        )
        return
    body = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node.name, "labels": dict(node.labels)},
        "spec": {"taints": [parse_taint(taint) for taint in node.taints]},
    }
    api.request("POST", "/api/v1/nodes", body)


def start(context: Context, position: int) -> None:
    """Start a node's first process and connect it to the bridge; the rest is `node_init`'s."""
    node, plan = context.state.nodes[position], context.plan
    # As after a reboot. Groups of earlier pods would hold the kubelet up, by 3 s for each container.
    cgroups.remove(plan.bridge, node.name)
    cgroups.make(plan.bridge, node.name)
    command: list[str | Path] = [
        "unshare", "--mount", "--pid", "--fork", "--mount-proc", "--uts", "--net", "--kill-child",
        context.python, PACKAGE_ROOT / "serval_lab" / "node_init.py",
        context.folder.node(node.name) / "node.json",
    ]  # fmt: skip
    name = component(node.name)
    process = context.start(name, command, {"PYTHONPATH": str(PACKAGE_ROOT)})
    wait_for(
        f"the namespaces of node {node.name}",
        lambda: has_namespaces(process.pid),
        NAMESPACES_LIMIT,
        log=context.log(name),
        alive=lambda: process.alive,
        every=0.005,
    )
    network.connect(plan, position, process.pid)


def has_namespaces(pid: int) -> bool:
    """Whether a process has left the machine's network namespace."""
    try:
        return Path(f"/proc/{pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()
    except OSError:
        return False


def kill(context: Context, position: int) -> None:
    """Kill a node's first process: the kernel ends everything else on it."""
    node = context.state.nodes[position]
    process = context.process(component(node.name))
    if process:
        inside = processes_of(context, node.name)
        kill_all([process])
        wait_for(
            f"the end of the processes of node {node.name}",
            lambda: not [one for one in inside if one.alive],
            NAMESPACES_LIMIT,
        )
    network.disconnect(context.plan, position)
    route_services(context)


def cut(context: Context, position: int) -> None:
    """Cut a node from the bridge. What runs on it goes on; ClusterIPs are routed through another node."""
    network.cut(context.plan, position)
    route_services(context)


def mend(context: Context, position: int) -> None:
    """Connect a node that was cut, and wait until its kubelet has found the API server again."""
    before = _last_sign(context, position)
    network.mend(context.plan, position)
    route_services(context)
    _wait_sign(context, position, before)


def restart_programs(context: Context) -> None:
    """Kill kubelet and kube-proxy of the nodes that run, which start them again; pods go on.

    Returns once the kubelets of those that are not cut have told the API server that they live.
    """
    programs = [str(context.binaries.path(name)) for name in ("kubelet", "kube-proxy")]
    signs = {}
    for position, node in enumerate(context.state.nodes):
        if not network.is_cut(context.plan, position) and context.process(component(node.name)):
            signs[position] = _last_sign(context, position)
        kill_all(one for one in processes_of(context, node.name) if one.program in programs)
    for position, before in signs.items():
        _wait_sign(context, position, before)


def _last_sign(context: Context, position: int) -> str:
    """Return when a node's kubelet last renewed its lease, as it wrote it."""
    node, api = context.state.nodes[position], control_plane.client(context)
    lease = api.get(f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{node.name}") or {}
    api.close()
    return str(lease.get("spec", {}).get("renewTime", ""))


def _wait_sign(context: Context, position: int, before: str) -> None:
    """Wait until a kubelet has renewed its lease since `before`, and its node is Ready with its devices."""
    node = context.state.nodes[position]
    wait_for(
        f"a sign of life of node {node.name}",
        lambda: _last_sign(context, position) != before,
        READY_LIMIT,
        log=explaining_log(context, node.name),
        alive=context.alive(component(node.name)),
        every=0.1,
    )
    wait_ready(context, [node])


def processes_of(context: Context, node: str) -> list[Process]:
    """Return all processes of a node itself; those of its pods lie in namespaces below."""
    first = context.process(component(node))
    if first is None:
        return []
    try:
        children = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()
        namespace = Path(f"/proc/{children[0]}/ns/pid").readlink()
    except (OSError, IndexError):
        return []
    found = []
    for entry in Path("/proc").iterdir():
        try:
            inside = entry.name.isdecimal() and (entry / "ns/pid").readlink() == namespace
        except OSError:
            continue
        process = Process.of(int(entry.name)) if inside else None
        if process:
            found.append(process)
    return found


def route_services(context: Context) -> None:
    """Route ClusterIPs through the first node that runs and can be reached; leave the route if none does."""
    for position, node in enumerate(context.state.nodes):
        if context.process(component(node.name)) and not network.is_cut(context.plan, position):
            network.route_services(context.plan, position)
            return


def wait_ready(context: Context, nodes: Sequence[NodeSpec]) -> None:
    """Wait until nodes are Ready with their devices."""
    api = control_plane.client(context)
    for node in nodes:
        name = component(node.name)
        wait_for(
            f"node {node.name} Ready",
            partial(_is_up, context, api, node),
            READY_LIMIT,
            log=explaining_log(context, node.name),
            alive=context.alive(name),
            every=0.1,
        )
    api.close()


def devices(context: Context, node: NodeSpec) -> list[device_control.DeviceState]:
    """Return what a node's fake device plugins were last told."""
    return device_control.read_all(context.folder.node(node.name) / "devices")


def _is_up(context: Context, api: KubeClient, node: NodeSpec) -> bool:
    found = api.get(f"/api/v1/nodes/{node.name}")
    if found is None or not is_ready(found):
        return False
    return all(
        allocatable(found, device.resource) == len(device.healthy) for device in devices(context, node)
    )


def explaining_log(context: Context, node: str) -> Path:
    """Return the log that says most about a node: the kubelet's, or its first process's before that."""
    kubelet = context.log(f"{node}-kubelet")
    return kubelet if kubelet.exists() else context.log(component(node))


def is_root() -> bool:
    """Whether nodes can be made at all."""
    return os.geteuid() == 0
