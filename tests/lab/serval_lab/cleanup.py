"""Finds whatever labs have left on this machine, and removes it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from serval_lab import cgroups, network, procs
from serval_lab.addresses import BRIDGE_NAME, MAX_LABS, AddressPlan
from serval_lab.errors import LabError
from serval_lab.shell import run
from serval_lab.state import StateFolder, claimed

SWEEP_LIMIT = 30.0
_LISTENING = "0A"  # TCP_LISTEN in /proc/net/tcp


@dataclass(frozen=True)
class Leftover:
    """One thing of a lab that is there.

    Attributes
    ----------
    kind
        process, namespace, link, route, rule, cgroup, mount, socket or folder.
    what
        What it is, for people.
    owner
        State folder of its lab, or None where nothing tells.
    """

    kind: str
    what: str
    owner: Path | None

    def __str__(self) -> str:
        return f"{self.kind:9} {self.what}" + (f"  ({self.owner})" if self.owner else "")


def leftovers(root: Path, owner: Path | None = None) -> list[Leftover]:
    """Return everything of labs that is on this machine.

    Parameters
    ----------
    root
        State folder of all labs.
    owner
        Only what belongs to the lab with this state folder; all labs by default.
    """
    bridges = bridge_owners(root)
    found = [*_processes(), *_cgroups(bridges), *_folders(root), *_mounts(root), *_unix_sockets(root)]
    if shutil.which("ip"):
        found += [*_links(bridges), *_routes(bridges), *_rules(bridges), *_tcp_sockets(bridges)]
    return [one for one in found if owner is None or one.owner == owner]


def bridge_owners(root: Path) -> dict[str, Path]:
    """Return the state folder behind each bridge name: by the bridge's alias, else by the claims."""
    owners = {AddressPlan(index).bridge: path for index, path in claimed(root).items()}
    if shutil.which("ip"):
        found = network.links()
        owners |= {
            name: Path(alias) for name, alias in found.items() if alias and BRIDGE_NAME.fullmatch(name)
        }
    return owners


def _processes() -> Iterable[Leftover]:
    machine = Path("/proc/self/ns/net").readlink()
    spaces: dict[tuple[str, Path], int] = {}
    for process, owner in procs.marked().items():
        yield Leftover("process", f"{process.pid} {process.command}", owner)
        try:
            space = Path(f"/proc/{process.pid}/ns/net").readlink()
        except OSError:
            continue
        if space != machine:
            spaces.setdefault((str(space), owner), process.pid)
    for (name, lab), pid in spaces.items():
        yield Leftover("namespace", f"{name} of process {pid}", lab)


def _cgroups(bridges: dict[str, Path]) -> Iterable[Leftover]:
    for bridge, folders in cgroups.folders().items():
        for top in [folder for folder in folders if folder.name == bridge]:
            below = sum(folder.is_relative_to(top) for folder in folders) - 1
            yield Leftover("cgroup", f"{top} and {below} below", bridges.get(bridge))
        for pid in cgroups.pids(folders):
            process = procs.Process.of(pid)
            if process:
                yield Leftover("process", f"{pid} {process.command}", bridges.get(bridge))


def _folders(root: Path) -> Iterable[Leftover]:
    for path in sorted(root.glob("*/")):
        yield Leftover("folder", str(path), path)


def _mounts(root: Path) -> Iterable[Leftover]:
    for target in mounts_below(root):
        yield Leftover(
            "mount", str(target), root / target.relative_to(root).parts[0] if target != root else None
        )


def mounts_below(root: Path) -> list[Path]:
    """Return the mount points of this process's namespace at or below `root`, deepest first."""
    targets = [
        Path(line.split()[4].encode().decode("unicode_escape"))
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
    ]
    below = [target for target in targets if target.is_relative_to(root)]
    return sorted(below, key=lambda target: len(target.parts), reverse=True)


def _unix_sockets(root: Path) -> Iterable[Leftover]:
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        words = line.split(maxsplit=7)
        path = Path(words[7]) if len(words) == 8 else None
        if path and path.is_relative_to(root) and path != root:
            yield Leftover("socket", str(path), root / path.relative_to(root).parts[0])


def _tcp_sockets(bridges: dict[str, Path]) -> Iterable[Leftover]:
    hosts = {AddressPlan(index).host: AddressPlan(index).bridge for index in range(MAX_LABS)}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        address, _, port = words[1].partition(":")
        host = IPv4Address(int.from_bytes(bytes.fromhex(address), "little"))
        if words[3] == _LISTENING and host in hosts:
            yield Leftover("socket", f"listening on {host}:{int(port, 16)}", bridges.get(hosts[host]))


def _links(bridges: dict[str, Path]) -> Iterable[Leftover]:
    for name in network.links():
        yield Leftover("link", name, bridges.get(_bridge_of(name)))


def _bridge_of(link: str) -> str:
    """Return the bridge that a link belongs to: sv3-11 to serval3."""
    return link if BRIDGE_NAME.fullmatch(link) else f"serval{link.removeprefix('sv').partition('-')[0]}"


def _routes(bridges: dict[str, Path]) -> Iterable[Leftover]:
    for route in network.routes():
        yield Leftover("route", route, bridges.get(route.rpartition(" ")[2]))


def _rules(bridges: dict[str, Path]) -> Iterable[Leftover]:
    for rule in network.rules():
        owners = [owner for bridge, owner in bridges.items() if f" {bridge} " in rule]
        yield Leftover("rule", rule, owners[0] if owners else None)


def sweep(folder: StateFolder, *, root_user: bool) -> None:
    """Remove everything of one lab; nothing where there is nothing.

    Parameters
    ----------
    folder
        State folder of the lab.
    root_user
        Whether we may touch links and cgroups; without it there are none of ours.

    Raises
    ------
    LabError
        If something cannot be removed; it says what.
    """
    bridges = _bridges_of(folder) if root_user else []
    _end_processes(folder, bridges)
    for bridge in bridges:
        network.remove(int(bridge.removeprefix("serval")))
        stuck = cgroups.remove(bridge)
        if stuck:
            raise LabError(f"these cgroups cannot be removed: {', '.join(map(str, stuck))}")
    for mount in mounts_below(folder.path):
        run(["umount", "-l", mount], check=False)
    remove_tree(folder.path)


def _bridges_of(folder: StateFolder) -> list[str]:
    """Return the bridge names that belong to a lab: those with its alias and the one it claimed.

    A claimed bridge that carries another lab's alias is that lab's: it won the race for the index.
    """
    aliases = network.links()
    found = {
        name for name, alias in aliases.items() if alias == str(folder.path) and BRIDGE_NAME.fullmatch(name)
    }
    state = folder.load()
    if state is not None and state.index is not None:
        bridge = AddressPlan(state.index).bridge
        if aliases.get(bridge, "") in ("", str(folder.path)):
            found.add(bridge)
    return sorted(found)


def _end_processes(folder: StateFolder, bridges: Sequence[str]) -> None:
    """Kill what pid files, marks and cgroups name, until a search finds nothing."""
    deadline = time.monotonic() + SWEEP_LIMIT
    while True:
        noted = [procs.Process.read(path) for path in sorted(folder.pids.glob("*"))]
        groups = [path for bridge in bridges for path in cgroups.folders().get(bridge, [])]
        grouped = [procs.Process.of(pid) for pid in cgroups.pids(groups)]
        found = {one for one in [*noted, *grouped, *procs.marked(folder.path)] if one is not None}
        found = {one for one in found if one.pid not in procs.ancestors()}
        if not found:
            return
        left = procs.kill_all(found)
        if left and time.monotonic() > deadline:
            names = ", ".join(f"{process.pid} {process.command}" for process in left)
            raise LabError(f"these processes do not end: {names}")


def remove_tree(path: Path) -> None:
    """Delete a folder and what is in it.

    Raises
    ------
    LabError
        If something in it cannot be deleted.
    """
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise LabError(f"cannot delete {path}: {error}") from error


def orphans(root: Path) -> list[str]:
    """Return the bridge names that have links, rules or cgroups but no lab: nothing claims them any more."""
    owned = {bridge for bridge, owner in bridge_owners(root).items() if owner.is_dir()}
    ruled = {word for rule in network.rules() for word in rule.split()}
    seen = {_bridge_of(name) for name in network.links()} | set(cgroups.folders()) | ruled
    return sorted(name for name in seen - owned if BRIDGE_NAME.fullmatch(name))


def remove_orphan(bridge: str) -> None:
    """Remove the links, rules, cgroups and processes that are left under a bridge name without a lab."""
    groups = cgroups.folders().get(bridge, [])
    procs.kill_all(one for one in map(procs.Process.of, cgroups.pids(groups)) if one)
    network.remove(int(bridge.removeprefix("serval")))
    cgroups.remove(bridge)
