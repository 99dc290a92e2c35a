"""Brings a lab up, checks one that is up, and mends it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from serval_lab import control_plane, etcd, fake_nodes, metrics, network, nodes, services
from serval_lab.addresses import APISERVER_PORT, AddressPlan, free_indexes
from serval_lab.context import Context, free_ports
from serval_lab.errors import LabError
from serval_lab.locks import lock
from serval_lab.pins import CONTROL_PLANE, HELM, KWOK, METRICS_SERVER, NODES, PROMETHEUS, Binary
from serval_lab.spec import NodeSpec
from serval_lab.state import LabState, Options, StateFolder, boot_id, claimed

CLAIM_LIMIT = 60.0
_TOOLS = {"ip": "iproute2", "iptables": "iptables", "unshare": "util-linux", "mount": "mount"}
_PORTS = (
    *("etcd", "etcd-peer", "apiserver", control_plane.CONTROLLER_MANAGER, control_plane.SCHEDULER),
    *(control_plane.METRICS_SERVER, metrics.PROMETHEUS, control_plane.ADAPTER),
)


def required(nodes_wanted: bool, options: Options) -> tuple[Binary, ...]:
    """Return the binaries that a lab needs."""
    extra: tuple[Binary, ...] = (*NODES, HELM) if nodes_wanted else ()
    if options.kwok:
        extra += (KWOK,)
    if options.metrics:
        extra += (METRICS_SERVER,)
    if options.prometheus:
        extra += PROMETHEUS
    return (*CONTROL_PLANE, *extra)


def missing_for_nodes() -> str | None:
    """Return in one line what real nodes lack on this machine; None if nothing."""
    if not nodes.is_root():
        return "nodes are namespaces of the kernel and need root: run as root, or with sudo -E"
    missing = sorted({package for tool, package in _TOOLS.items() if not shutil.which(tool)})
    return f"missing programs; run: apt-get install -y {' '.join(missing)}" if missing else None


def claim(folder: StateFolder, specs: Sequence[NodeSpec], options: Options) -> LabState:
    """Claim ports and, for a lab with nodes, an index of the address plan with its bridge.

    Raises
    ------
    LabError
        If no index is free.
    """
    folder.make()
    with lock(folder.root / ".claims.lock", "another lab's claim of addresses", CLAIM_LIMIT):
        state = LabState(index=None, nodes=list(specs), options=options)
        state.ports = free_ports(_PORTS)
        if specs:
            state.ports["apiserver"] = APISERVER_PORT
            for index in free_indexes(claimed(folder.root), network.networks_in_use()):
                state.index = index
                folder.save(state)  # before the bridge: a kill in between leaves a claim, not an orphan
                if network.make_bridge(AddressPlan(index), folder.path):
                    return state
            raise LabError(
                "every address range of labs is taken by another lab or overlaps with a network of this "
                "machine; see: python -m serval_lab leftovers; ip route"
            )
        folder.save(state)
    return state


def bring_up(context: Context) -> None:
    """Start everything from nothing and wait until it answers.

    Raises
    ------
    LabError
        With the end of the log that explains it.
    """
    authority = control_plane.make_pki(context)
    for name, start in startable(context).items():
        start()
        if name == control_plane.APISERVER:
            context.say(f"kube-apiserver answers at {context.apiserver}")
    if context.state.nodes:
        nodes.prepare(context, authority)
        start_nodes(context, range(len(context.state.nodes)))
    control_plane.wait_controllers(context)
    if context.state.nodes:
        services.wait_dns(context)
    for start in sources(context).values():
        start()
    store = etcd.Etcd(control_plane.etcd_url(context))
    etcd.mark(store, baseline(context))
    store.close()
    context.state.phase = "up"
    context.folder.save(context.state)


def baseline(context: Context) -> Path:
    """Return the file that notes what `reset` goes back to."""
    return context.folder.path / "baseline.json"


def start_nodes(context: Context, positions: Sequence[int]) -> None:
    """Start the nodes at these positions and wait until they are Ready."""
    api = control_plane.client(context)
    specs = [context.state.nodes[position] for position in positions]
    for position in positions:
        nodes.register(context, api, context.state.nodes[position])
        nodes.start(context, position)
    api.close()
    nodes.route_services(context)
    nodes.wait_ready(context, specs)
    context.say(f"nodes Ready: {', '.join(spec.name for spec in specs)}")


def answers(context: Context) -> bool:
    """Whether the lab was brought up in this boot of the machine and its API server still answers."""
    state = context.state
    if state.phase != "up" or state.boot != boot_id():
        return False
    if not (context.alive("etcd")() and context.alive("kube-apiserver")()):
        return False
    api = control_plane.client(context)
    try:
        return api.ready()
    finally:
        api.close()


def mend(context: Context) -> list[str]:
    """Start again what has ended since; return its names."""
    mended = _start_ended(context, startable(context))
    if mended:
        control_plane.wait_controllers(context)
    down = [
        i for i, spec in enumerate(context.state.nodes) if not context.alive(nodes.component(spec.name))()
    ]
    if down:
        start_nodes(context, down)
    cut = [i for i in range(len(context.state.nodes)) if network.is_cut(context.plan, i)]
    for position in cut:
        nodes.mend(context, position)
    mended += [context.state.nodes[position].name for position in (*down, *cut)]
    return mended + _start_ended(context, sources(context))


def _start_ended(context: Context, starts: Mapping[str, Callable[[], object]]) -> list[str]:
    ended = [name for name in starts if not context.alive(name)()]
    for name in ended:
        starts[name]()
    return ended


def startable(context: Context) -> dict[str, Callable[[], object]]:
    """Return how to start each component that needs no nodes, in the order in which they need each other."""
    options, found = context.state.options, dict[str, Callable[[], object]]()
    found[control_plane.ETCD] = lambda: control_plane.start_etcd(context)
    found[control_plane.APISERVER] = lambda: control_plane.start_apiserver(context)
    if options.controllers:
        name = control_plane.CONTROLLER_MANAGER
        found[name] = lambda: context.start(name, control_plane.controllers_command(context))
    if options.scheduler:
        command = control_plane.scheduler_command(context)
        found[control_plane.SCHEDULER] = lambda: context.start(control_plane.SCHEDULER, command)
    if context.state.nodes:
        found[services.REGISTRY] = lambda: services.start_registry(context, Path(options.registry_data))
        found[services.DNS] = lambda: services.start_dns(context)
    if options.kwok:
        found[fake_nodes.KWOK] = lambda: context.start(fake_nodes.KWOK, fake_nodes.command(context))
    return found


def sources(context: Context) -> dict[str, Callable[[], object]]:
    """Return how to start each component that tells autoscalers what nodes and pods do."""
    options, found = context.state.options, dict[str, Callable[[], object]]()
    if options.metrics:
        found[control_plane.METRICS_SERVER] = lambda: metrics.start_metrics_server(context)
    if options.prometheus:
        found[metrics.PROMETHEUS] = lambda: metrics.start_prometheus(context)
        found[control_plane.ADAPTER] = lambda: metrics.start_adapter(context)
    return found
