"""The lab's command line."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from serval_lab import cleanup, lifecycle
from serval_lab.binaries import ensure, locate
from serval_lab.errors import LabError, tail
from serval_lab.lab import DEFAULT_NAME, Lab
from serval_lab.locks import lock
from serval_lab.nodes import is_root
from serval_lab.pins import ALL
from serval_lab.settings import Settings
from serval_lab.spec import parse_node
from serval_lab.state import HPA_PERIOD, StateFolder

LOCK_LIMIT = 300.0


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="serval_lab", description="A real Kubernetes on this machine.")
    name = argparse.ArgumentParser(add_help=False)
    name.add_argument("--name", default=DEFAULT_NAME, help="name of the lab (default: %(default)s)")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(title: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(title, parents=[name], help=text, description=text)
        added.set_defaults(run=run)
        return added

    _add_up(command("up", _up, "bring a lab up; building what is missing takes minutes once"))
    down = command("down", _down, "take a lab down, whatever state it is in")
    down.add_argument("--purge", action="store_true", help="delete its registry's data too")
    down.add_argument("--all", action="store_true", help="every lab of this machine, and what nobody claims")
    command("status", _status, "say what is up; exit status 0 only if the lab answers")
    command("kubeconfig", _kubeconfig, "print the path of the lab's kubeconfig")
    command("env", _env, "print the lab's environment as shell exports")
    logs = command("logs", _logs, "list the logs, or print the end of one")
    logs.add_argument("component", nargs="?", help="such as kube-apiserver or gpu-0-kubelet")
    logs.add_argument("--lines", type=int, default=50, help="how many (default: %(default)s)")
    image = command("load-image", _load_image, "push an OCI archive or layout to the lab's registry")
    image.add_argument("image", type=Path)
    image.add_argument("repository", metavar="NAME:TAG")
    _add_node(command("node", _node, "kill or start a node, cut it from the network or mend that"))
    _add_device(command("device", _device, "change a fake device"))
    text = "list everything of labs on this machine; exit status 1 if any"
    left = commands.add_parser("leftovers", help=text, description=text)
    left.add_argument("--name", help="of this lab alone (default: of every lab, and what nobody claims)")
    left.set_defaults(run=_leftovers)
    command("binaries", _binaries, "build what is missing and print where the binaries are")
    return parser


def _add_up(up: argparse.ArgumentParser) -> None:
    up.add_argument(
        "--node",
        action="append",
        metavar="NAME[,label=value][,device=RESOURCE:N][,taint=KEY=VALUE:EFFECT]",
        help="a node (default: gpu-0, fpga-0, cpu-0); give it again for more",
    )
    up.add_argument("--control-plane", action="store_true", help="no nodes; bound to loopback, needs no root")
    up.add_argument("--kwok", action="store_true", help="run kwok, for fake nodes")
    up.add_argument("--fast", action="store_true", help="lift the controllers' request limits")
    up.add_argument("--metrics", action="store_true", help="run metrics-server, for CPU and memory")
    up.add_argument("--prometheus", action="store_true", help="run Prometheus and its adapter")
    text = "seconds between looks of autoscalers (default: %(default)g)"
    up.add_argument("--hpa-period", type=float, default=HPA_PERIOD, help=text)
    up.add_argument("--registry-data", type=Path, help="folder of the registry's data")


def _add_node(node: argparse.ArgumentParser) -> None:
    node.add_argument("action", choices=("kill", "start", "cut", "mend"))
    node.add_argument("node")


def _add_device(device: argparse.ArgumentParser) -> None:
    device.add_argument("node")
    device.add_argument("resource", help="such as nvidia.com/gpu")
    change = device.add_mutually_exclusive_group(required=True)
    change.add_argument("--units", type=int, help="have this many units")
    change.add_argument("--cards", type=int, help="lay the units on this many cards; 0: each is a card")
    change.add_argument("--unhealthy", metavar="UNIT,...", help="report these as unhealthy; '' heals all")
    change.add_argument("--refuse", action="store_true", help="refuse every allocation")
    change.add_argument("--accept", action="store_true", help="allocate again")
    change.add_argument("--stop", action="store_true", help="kill the plugin and leave it dead")
    change.add_argument("--start", action="store_true", help="start the plugin again")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    options = build_parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


class _Clock:
    """Prints lines with the seconds since it was made."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self._began:6.1f} s] {text}", flush=True)


def _up(options: argparse.Namespace) -> int:
    clock = _Clock()
    specs = [parse_node(text) for text in options.node] if options.node else None
    if options.control_plane:
        specs = []
    elif not specs and not is_root():
        lacking = lifecycle.missing_for_nodes()
        clock.say(f"control plane alone, without nodes: {lacking}")
        specs = []
    lab = Lab(
        options.name,
        specs,
        fast=options.fast,
        kwok=options.kwok,
        registry_data=options.registry_data,
        metrics=options.metrics,
        prometheus=options.prometheus,
        hpa_period=options.hpa_period,
    )
    lab.up(clock.say)
    clock.say(f"kubeconfig: {lab.kubeconfig}")
    return 0


def _down(options: argparse.Namespace) -> int:
    if not options.all:
        Lab(options.name).down(purge=options.purge)
        return 0
    settings = Settings.from_environment()
    for path in sorted(settings.state.glob("*/")):
        Lab(path.name, settings=settings).down(purge=options.purge)
    if is_root():
        with lock(settings.state / ".claims.lock", "another lab's claim of addresses", LOCK_LIMIT):
            for bridge in cleanup.orphans(settings.state):
                cleanup.remove_orphan(bridge)
    return 0


def _status(options: argparse.Namespace) -> int:
    lab = Lab(options.name)
    status = lab.status()
    print(f"lab {options.name}: {status.phase}")
    for component, runs in status.components.items():
        print(f"  {component:26} {'running' if runs else 'ended'}")
    for node, condition in status.nodes.items():
        print(f"  node {node:21} {condition}")
    if status.phase == "up":
        print(f"  kubeconfig                 {lab.kubeconfig}")
    return 0 if status.phase == "up" else 1


def _kubeconfig(options: argparse.Namespace) -> int:
    print(Lab(options.name).kubeconfig)
    return 0


def _env(options: argparse.Namespace) -> int:
    lab = Lab(options.name)
    print(f"export KUBECONFIG={lab.kubeconfig}")
    print(f'export PATH="{":".join(str(folder) for folder in lab.context.binaries.dirs)}:$PATH"')
    return 0


def _logs(options: argparse.Namespace) -> int:
    folder = StateFolder(Settings.from_environment().state, options.name)
    if options.component is None:
        for path in sorted(folder.logs.glob("*.log")):
            print(f"{path.stem:32} {path.stat().st_size:10} bytes  {path}")
        return 0
    path = folder.logs / f"{options.component}.log"
    if not path.is_file():
        raise LabError(f"there is no log {path}; python -m serval_lab logs lists them")
    print(tail(path, options.lines))
    return 0


def _load_image(options: argparse.Namespace) -> int:
    print(Lab(options.name).load_image(options.image, options.repository))
    return 0


def _node(options: argparse.Namespace) -> int:
    node = Lab(options.name).node(options.node)
    actions = {"kill": node.kill, "start": node.start, "cut": node.cut, "mend": node.mend}
    actions[options.action]()
    return 0


def _device(options: argparse.Namespace) -> int:
    device = Lab(options.name).device(options.node, options.resource)
    if options.units is not None:
        device.set_units(options.units)
    elif options.cards is not None:
        device.set_cards(options.cards)
    elif options.unhealthy is not None:
        device.set_unhealthy([unit for unit in options.unhealthy.split(",") if unit])
    elif options.stop:
        device.stop_plugin()
    elif options.start:
        device.start_plugin()
    else:
        device.refuse(options.refuse)
    state = device.state
    more = "; the plugin is stopped" if state.stopped else ""
    more += f"; they share {state.cards} cards" if state.cards else ""
    more += f"; refuses: {state.refuse}" if state.refuse else ""
    print(f"{options.node} {state.resource}: {len(state.healthy)} of {state.units} units healthy{more}")
    return 0


def _leftovers(options: argparse.Namespace) -> int:
    settings = Settings.from_environment()
    owner = StateFolder(settings.state, options.name).path if options.name else None
    found = cleanup.leftovers(settings.state, owner)
    for one in found:
        print(one)
    print(f"{len(found)} things of labs on this machine", file=sys.stderr)
    return 1 if found else 0


def _binaries(_options: argparse.Namespace) -> int:
    settings = Settings.from_environment()
    ensure(ALL, settings, _Clock().say)
    found, _ = locate(ALL, settings)
    for name, path in found.items():
        print(f"{name:26} {path}")
    return 0
