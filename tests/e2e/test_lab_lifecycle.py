"""The lab itself, on real nodes: up, down, crashes, nodes that die, devices that fail."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from serval_lab import ControlPlane, Lab, LabError, NodeSpec, Settings
from serval_lab.binaries import locate
from serval_lab.cleanup import leftovers, orphans
from serval_lab.kube import allocatable, is_ready
from serval_lab.metrics import POD_SELECTOR
from serval_lab.pins import ALL, KUBERNETES
from serval_lab.procs import Process, kill_all, marked
from serval_lab.push_registry import Account
from serval_lab.services import resolve, write_image
from serval_lab.wait import wait_for
from support.registry import Registry

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="nodes are namespaces of the kernel and need root")

GPU = "nvidia.com/gpu"
FPGA = "amd.com/xilinx_u250"
EMULATED = "emulated.serval.dev/fpga"
LOCKS = "serval/device-locks"
IMAGE = "test/kubectl:1"
METRIC = "serval_requests_in_flight"
KUBELET_PORT = 10250
NODES = (
    NodeSpec("alpha", labels={"node-role.kubernetes.io/gpu": ""}, devices={GPU: 2}),
    NodeSpec("beta", taints=("dedicated=beta:NoSchedule",)),
)
PACKAGE_ROOT = Path(__file__).parents[1] / "lab"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """State and registry data of this module's own; the machine's binaries."""
    return dataclasses.replace(Settings.from_environment(), state=tmp_path_factory.mktemp("labs"))


@pytest.fixture(scope="module")
def make(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Lab]:
    data = tmp_path_factory.mktemp("registry")
    return lambda name, *nodes: Lab(name, nodes, settings=settings, registry_data=data, node_grace=8)


@pytest.fixture(scope="module")
def lab(make: Callable[..., Lab], settings: Settings) -> Iterator[Lab]:
    with make("life", *NODES) as up:
        yield up
    assert not leftovers(settings.state, up.folder.path)


def components(lab: Lab) -> dict[str, Process | None]:
    return {path.name: lab.context.process(path.name) for path in lab.folder.pids.iterdir()}


def node(lab: Lab, name: str) -> dict[str, Any]:
    api = lab.client()
    try:
        return api.nodes()[name]
    finally:
        api.close()


def run_pod(lab: Lab, name: str, image: str, **spec: Any) -> None:
    container = {"name": "main", "image": image, **spec}
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
    }
    lab.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))


def test_second_up_is_the_same_cluster(lab: Lab) -> None:
    before, lines = components(lab), list[str]()
    Lab(lab.name, settings=lab.settings).up(lines.append)
    assert components(lab) == before
    assert lines == ["lab life is up"]


def test_up_refuses_other_nodes_than_those_that_are_up(lab: Lab) -> None:
    with pytest.raises(LabError, match="up with other nodes"):
        Lab(lab.name, (NodeSpec("gamma"),), settings=lab.settings).up()


def test_nodes_have_labels_taints_devices_and_their_share_of_the_machine(lab: Lab) -> None:
    alpha, beta = node(lab, "alpha"), node(lab, "beta")
    assert alpha["metadata"]["labels"]["node-role.kubernetes.io/gpu"] == ""
    assert (allocatable(alpha, GPU), allocatable(beta, GPU)) == (2, 0)
    assert [taint["key"] for taint in beta["spec"]["taints"]] == ["dedicated"]

    def millicores(one: dict[str, Any]) -> int:
        text = one["status"]["allocatable"]["cpu"]
        return int(text[:-1]) if text.endswith("m") else int(text) * 1000

    assert millicores(alpha) + millicores(beta) <= (os.cpu_count() or 1) * 1000


def test_pod_runs_with_logs_exec_dns_and_the_cluster_network(lab: Lab, tmp_path: Path) -> None:
    write_image(tmp_path, lab.context.binaries.path("kubectl"), "/kubectl")
    image = lab.load_image(tmp_path, IMAGE)
    assert lab.load_image(tmp_path, IMAGE) == image
    # The API server by its DNS name instead of its ClusterIP, so that a pod needs both.
    by_name = [{"name": "KUBERNETES_SERVICE_HOST", "value": "kubernetes.default.svc.cluster.local"}]
    run_pod(
        lab, "client", image, args=["proxy", "--port=8001"], env=by_name, resources={"limits": {GPU: "1"}}
    )
    lab.kubectl("wait", "--for=condition=Ready", "pod/client", "--timeout=60s")

    wait_for("the pod's words", lambda: "Starting to serve" in lab.kubectl("logs", "client").stdout, 10)
    answer = lab.kubectl("exec", "client", "--", "/kubectl", "get", "--raw=/version").stdout
    assert json.loads(answer)["gitVersion"] == f"v{KUBERNETES}"


def test_cluster_dns_and_service_addresses_answer_on_the_machine(lab: Lab) -> None:
    service = str(lab.context.plan.apiserver_service)
    assert resolve(lab.host, "kubernetes.default.svc.cluster.local") == [service]
    assert resolve(lab.host, "no-such-service.default.svc.cluster.local") == []
    socket.create_connection((service, 443), timeout=5).close()


def test_audit_log_names_user_verb_and_resource(lab: Lab) -> None:
    lab.kubectl("create", "configmap", "audited")
    events = [json.loads(line) for line in lab.audit_log.read_text().splitlines()]
    written = [e for e in events if e.get("objectRef", {}).get("name") == "audited"]
    assert [(e["user"]["username"], e["verb"], e["objectRef"]["resource"]) for e in written] == [
        ("admin", "create", "configmaps")
    ]


def test_no_way_out_of_the_machine(lab: Lab) -> None:
    pid = str(lab.node("alpha").pid)
    routes = subprocess.run(
        ["nsenter", "--target", pid, "--net", "ip", "route"],
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    ).stdout
    assert "10." in routes
    assert "default" not in routes


def test_devices_fail_heal_multiply_and_refuse(lab: Lab) -> None:
    device = lab.device("alpha", GPU)
    device.set_unhealthy(["unit-1"])
    wait_for("one GPU left", lambda: allocatable(node(lab, "alpha"), GPU) == 1, 20)
    device.set_unhealthy([])
    device.set_units(3)
    wait_for("three GPUs", lambda: allocatable(node(lab, "alpha"), GPU) == 3, 20)

    lab.device("beta", FPGA).set_units(2)
    wait_for("two FPGA units", lambda: allocatable(node(lab, "beta"), FPGA) == 2, 20)

    device.refuse(True, "no such luck")
    run_pod(lab, "refused", f"{lab.registry}/{IMAGE}", resources={"limits": {GPU: "1"}})

    def status() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(lab.kubectl("get", "pod", "refused", "-o", "json").stdout)[
            "status"
        ]
        return found

    wait_for("the pod's refusal", lambda: status().get("reason") == "UnexpectedAdmissionError", 30)
    assert "no such luck" in status()["message"]
    device.refuse(False)
    device.set_units(2)


def environments(lab: Lab, pod: str) -> dict[Path, dict[str, str]]:
    """Folder in /proc of each process of a pod that has its name in its environment, and that environment."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            entries = (folder / "environ").read_text(errors="replace").split("\0")
        except OSError:
            continue
        environment = dict(entry.split("=", 1) for entry in entries if "=" in entry)
        if environment.get("POD") == f"{lab.name}/{pod}":
            found[folder] = environment
    return found


def holder(lab: Lab, pod: str) -> tuple[Path, str]:
    """Run a pod with one emulated unit; return the folder of its locks, as it sees it, and its card."""
    name = [{"name": "POD", "value": f"{lab.name}/{pod}"}]
    limits = {"limits": {EMULATED: "1"}}
    run_pod(lab, pod, f"{lab.registry}/{IMAGE}", args=["proxy"], env=name, resources=limits)
    lab.kubectl("wait", "--for=condition=Ready", f"pod/{pod}", "--timeout=60s")
    # The container counts as running a moment before its program has its environment.
    wait_for(f"the program of {pod}", lambda: environments(lab, pod), 10)
    ((folder, environment),) = environments(lab, pod).items()
    assert environment["SERVAL_DEVICE_LOCK_DIR"] == f"/{LOCKS}"
    return folder / "root" / LOCKS, environment["SERVAL_DEVICE_UNITS"]


def locked(folder: Path, card: str) -> int | None:
    """Lock a card; return the open file, or None where another container has it."""
    handle = os.open(folder / f"unit-{card}.lock", os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def test_containers_of_a_node_lock_each_others_cards_out(lab: Lab) -> None:
    device = lab.device("alpha", EMULATED)
    device.set_units(3)
    wait_for("three emulated units", lambda: allocatable(node(lab, "alpha"), EMULATED) == 3, 20)
    first, card = holder(lab, "first")
    second, other = holder(lab, "second")
    assert first.stat().st_mode & 0o7777 == 0o1777
    assert {card, other} < {"unit-0", "unit-1", "unit-2"}
    held, free = locked(first, card), locked(second, other)
    assert held is not None
    assert free is not None
    # One card behind all units: the plugin gives it to a container that finds it locked.
    device.set_cards(1)
    third, twice = holder(lab, "third")
    assert twice == "unit-0"
    assert locked(third, card) is None
    os.close(held)
    again = locked(third, card)
    assert again is not None
    for handle in (free, again):
        os.close(handle)
    device.set_faults({"unit-0": "too hot"})
    assert (second / "unit-unit-0.unhealthy").read_text() == "too hot"
    device.set_faults({})
    assert not (second / "unit-unit-0.unhealthy").exists()
    lab.kubectl("delete", "pod", "first", "second", "third")


@pytest.mark.parametrize("scheme", ["https", "http"])
def test_accounts_of_the_push_registry_reach_their_own_repositories(
    lab: Lab, tmp_path: Path, scheme: str
) -> None:
    write_image(tmp_path, lab.context.binaries.path("kubectl"), "/kubectl")
    registry = lab.push_registry(tls=scheme == "https")
    own, other = registry.account("default"), registry.account("stranger")

    def push(account: Account, repository: str = "default/tool", tag: str = "1") -> str:
        bearer = {"Authorization": f"Bearer {registry.token(account, repository)}"}
        return Registry(registry.host, registry.ca, bearer, scheme).push_layout(repository, tag, tmp_path)

    pushed = push(own)
    for account, repository in ((other, "default/tool"), (own, "stranger/tool"), (own, "tool")):
        with pytest.raises(AssertionError, match="401"):
            push(account, repository)
    with pytest.raises(LabError, match="401 for default"):
        push(dataclasses.replace(own, password="guessed"))

    # The same name for images of pods: the kubelet shows the account of the Secret.
    image = f"{registry.host}/default/tool@{pushed}"
    for name, account in (("own", own), ("other", other)):
        lab.kubectl("apply", "-f", "-", stdin=json.dumps(account.secret(name, "default")))
        container = {"name": "main", "image": image, "imagePullPolicy": "Always", "args": ["proxy"]}
        spec = {"imagePullSecrets": [{"name": name}], "containers": [container]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"pulls-{name}"}, "spec": spec}
        lab.kubectl("apply", "-f", "-", stdin=json.dumps(pod))
    lab.kubectl("wait", "--for=condition=Ready", "pod/pulls-own", "--timeout=60s")
    wait_for("the refused pull", lambda: "denied" in why_waiting(lab, "pulls-other"), 30)
    lab.kubectl("delete", "pod", "pulls-own", "pulls-other", "--grace-period=1")

    registry.set_lifetime(0)
    with pytest.raises(AssertionError, match="401"):
        push(own, tag="2")
    registry.set_lifetime()
    registry.kill()
    assert not registry.alive
    registry.start()
    assert push(own, tag="2") == pushed
    registry.close_account("default")
    with pytest.raises(LabError, match="401 for default"):
        push(own, tag="3")


def why_waiting(lab: Lab, pod: str) -> str:
    """What the kubelet says of the container of a pod that waits."""
    found = json.loads(lab.kubectl("get", "pod", pod, "-o", "json").stdout)
    (container,) = found["status"].get("containerStatuses", [{}])
    return str(container.get("state", {}).get("waiting", {}).get("message", ""))


def test_killed_node_is_gone_at_once_and_comes_back(lab: Lab) -> None:
    alpha = lab.node("alpha")
    alpha.kill()
    assert not alpha.alive
    assert lab.status().nodes["alpha"] == "killed"
    # ClusterIPs from the machine now go through the other node.
    socket.create_connection((str(lab.context.plan.apiserver_service), 443), timeout=5).close()
    wait_for("alpha NotReady", lambda: not is_ready(node(lab, "alpha")), 60, every=0.5)
    alpha.start()
    assert lab.status().nodes == {"alpha": "Ready", "beta": "Ready"}
    assert allocatable(node(lab, "alpha"), GPU) == 2


def test_cut_node_goes_on_unseen_and_is_back_when_mended(lab: Lab) -> None:
    alpha = lab.node("alpha")
    alpha.cut()
    assert alpha.alive
    assert not alpha.reachable
    # ClusterIPs from the machine now go through the other node.
    socket.create_connection((str(lab.context.plan.apiserver_service), 443), timeout=5).close()
    with pytest.raises(OSError, match=r"timed out|No route"):
        socket.create_connection((alpha.address, KUBELET_PORT), timeout=1)
    wait_for("alpha NotReady", lambda: not is_ready(node(lab, "alpha")), 60, every=0.5)
    alpha.mend()
    assert alpha.reachable
    assert is_ready(node(lab, "alpha"))
    socket.create_connection((alpha.address, KUBELET_PORT), timeout=5).close()


def test_stopped_plugin_takes_its_devices_along_and_brings_them_back(lab: Lab) -> None:
    device = lab.device("alpha", GPU)
    device.stop_plugin()
    wait_for("no GPU", lambda: allocatable(node(lab, "alpha"), GPU) == 0, 20)
    # The kubelet leaves a plugin five minutes to come back.
    assert node(lab, "alpha")["status"]["capacity"][GPU] == "2"
    device.start_plugin()
    wait_for("two GPUs", lambda: allocatable(node(lab, "alpha"), GPU) == 2, 20)


def test_killed_api_server_answers_nobody_and_comes_back_with_what_it_knew(lab: Lab) -> None:
    lab.kubectl("create", "configmap", "kept")
    lab.apiserver.kill()
    assert not lab.apiserver.alive
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((lab.host, 6443), timeout=1)
    lab.apiserver.start()
    assert "kept" in lab.kubectl("get", "configmaps", "-o", "name").stdout


def test_etcd_goes_back_to_a_snapshot_while_pods_go_on(lab: Lab) -> None:
    def client() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(lab.kubectl("get", "pod", "client", "-o", "json").stdout)
        return found

    before, revision = client()["status"]["containerStatuses"], lab.etcd.revision
    snapshot = lab.etcd.snapshot()
    lab.kubectl("create", "configmap", "forgotten")
    lab.kubectl("delete", "configmap", "audited")
    assert lab.etcd.revision > revision
    lab.etcd.restore(snapshot)
    names = lab.kubectl("get", "configmaps", "-o", "name").stdout
    assert "forgotten" not in names
    assert "audited" in names
    assert lab.status().nodes == {"alpha": "Ready", "beta": "Ready"}
    wait_for("the pod as it was", lambda: client()["status"]["containerStatuses"] == before, 30, every=0.2)
    # Controllers, scheduler and kubelets see what is made from now on: none of them waits for the past.
    run_pod(lab, "later", f"{lab.registry}/{IMAGE}", args=["proxy"])
    lab.kubectl("wait", "--for=condition=Ready", "pod/later", "--timeout=60s")


def test_a_lab_that_is_up_gets_sources_of_metrics(lab: Lab) -> None:
    lines = list[str]()
    Lab(lab.name, settings=lab.settings, metrics=True, prometheus=True).up(lines.append)
    assert lines == ["lab life is up; started again: metrics-server, prometheus, prometheus-adapter"]
    items = [{"key": "page", "path": "prometheus/metrics"}]
    lab.kubectl("create", "configmap", "page", f"--from-literal=page={METRIC} 7")
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "measured", "labels": dict([POD_SELECTOR.split("=")])},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "volumes": [{"name": "page", "configMap": {"name": "page", "items": items}}],
            "containers": [
                {
                    "name": "main",
                    "image": f"{lab.registry}/{IMAGE}",
                    # It serves files too.
                    "args": ["proxy", "--address=0.0.0.0", "--www=/page", "--www-prefix=/monitoring/"],
                    "ports": [{"name": "http", "containerPort": 8001}],
                    "volumeMounts": [{"name": "page", "mountPath": "/page"}],
                }
            ],
        },
    }
    lab.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
    path = f"/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/pods/measured/{METRIC}"

    def custom() -> str:
        answer = lab.kubectl("get", f"--raw={path}", check=False)
        return str(json.loads(answer.stdout)["items"][0]["value"]) if answer.returncode == 0 else ""

    wait_for("the pod's own metric", lambda: custom() == "7", 60, every=0.5)
    wait_for("the pod's use of the CPU", lambda: "measured" in top(lab), 60, every=0.5)


def top(lab: Lab) -> str:
    return lab.kubectl("top", "pods", "--no-headers", check=False).stdout


def test_two_labs_side_by_side(lab: Lab, make: Callable[..., Lab], settings: Settings) -> None:
    before = components(lab)
    with make("beside", NodeSpec("alpha")) as other:
        assert other.host != lab.host
        assert other.status().nodes == {"alpha": "Ready"}
        assert lab.status().nodes == {"alpha": "Ready", "beta": "Ready"}
    assert components(lab) == before
    assert not leftovers(settings.state, other.folder.path)


def start_up(settings: Settings, name: str) -> subprocess.Popen[bytes]:
    env = os.environ | {
        "PYTHONPATH": str(PACKAGE_ROOT),
        "SERVAL_STATE": str(settings.state),
        "SERVAL_CACHE": str(settings.cache),
    }
    data = f"--registry-data={settings.state.parent / 'half-registry'}"
    command = [sys.executable, "-m", "serval_lab", "up", "--name", name, "--node", "only", data]
    return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("seen", ["lab.json", "pids/etcd", "pids/node-only", "logs/only-kubelet.log"])
def test_down_after_a_killed_up_leaves_nothing(settings: Settings, seen: str) -> None:
    half = Lab("half", settings=settings)
    up = start_up(settings, "half")
    wait_for(seen, (half.folder.path / seen).exists, 30, every=0.001)
    up.send_signal(signal.SIGKILL)
    up.wait(10)
    assert leftovers(settings.state, half.folder.path)
    half.down()
    assert not leftovers(settings.state, half.folder.path)
    assert not orphans(settings.state)


def test_up_over_a_dead_lab_starts_a_new_one(make: Callable[..., Lab], settings: Settings) -> None:
    dead = make("dead", NodeSpec("only"))
    dead.up()
    old = dead.ca.read_text()
    assert not kill_all(marked(dead.folder.path))
    assert dead.status().phase == "broken"
    lines: list[str] = []
    with make("dead", NodeSpec("only")).up(lines.append) as again:
        assert lines[0] == "removing the remains of an earlier lab"
        assert again.status().phase == "up"
        assert again.ca.read_text() != old
    assert not leftovers(settings.state, dead.folder.path)


def test_up_mends_what_has_ended(lab: Lab) -> None:
    scheduler = lab.context.process("kube-scheduler")
    assert scheduler is not None
    kill_all([scheduler])
    lines: list[str] = []
    Lab(lab.name, settings=lab.settings).up(lines.append)
    assert lines == ["lab life is up; started again: kube-scheduler"]


def test_failed_up_says_why_and_leaves_nothing(lab: Lab, settings: Settings, tmp_path: Path) -> None:
    found, _ = locate(ALL, settings)
    for name, path in found.items():
        (tmp_path / name).symlink_to(path)
    (tmp_path / "containerd").unlink()
    (tmp_path / "containerd").write_text("#!/bin/sh\necho the disk is made of cheese\nexit 1\n")
    (tmp_path / "containerd").chmod(0o755)
    own = dataclasses.replace(settings, assets=tmp_path, cache=tmp_path / "cache")
    failing = Lab("fails", (NodeSpec("only"),), settings=own)
    with pytest.raises(LabError, match=r"containerd(.|\n)*the disk is made of cheese"):
        failing.up()
    assert (own.cache / "failed" / "fails" / "only-containerd.log").is_file()
    assert not leftovers(settings.state, failing.folder.path)
    assert lab.status().phase == "up"


def test_control_plane_with_fake_nodes_goes_back_to_its_mark(settings: Settings) -> None:
    with ControlPlane("mark", settings=settings, controllers=False, kwok=True) as plane:
        assert plane.host == "127.0.0.1"
        fakes = plane.add_fake_nodes(20, devices={GPU: 8})
        assert allocatable(node(plane, fakes[-1]), GPU) == 8
        plane.kubectl("create", "namespace", "one")
        plane.kubectl("create", "configmap", "two", "-n", "one")
        assert plane.reset() >= 22
        assert "one" not in plane.kubectl("get", "namespaces").stdout
        assert "No resources" in plane.kubectl("get", "nodes").stderr
        plane.kubectl("create", "namespace", "one")
    assert not leftovers(settings.state, plane.folder.path)
