"""Control groups of the nodes, under every hierarchy of cgroup v1 or the one of v2. Needs root."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
TOP = "serval-lab"
REMOVE_LIMIT = 15.0


def hierarchies(root: Path = ROOT) -> list[Path]:
    """Return the folders that a node's groups must exist in.

    With cgroup v1 these are all controllers' hierarchies, ``systemd`` too; several names may be links
    to one of them. With v2 it is one.
    """
    if (root / "cgroup.controllers").exists():
        return [root]
    folders = {path.resolve() for path in root.iterdir() if path.name != "unified" and path.is_dir()}
    return sorted(path for path in folders if (path / "cgroup.procs").exists())


def kubelet_root(bridge: str, node: str) -> str:
    """Return the cgroupRoot of a node's kubelet."""
    return f"/{TOP}/{bridge}/{node}"


def make(bridge: str, node: str, root: Path = ROOT) -> None:
    """Make the groups that a kubelet wants to find.

    Parameters
    ----------
    bridge
        Name of the lab's bridge: one folder for each lab.
    node
        Name of the node.
    root
        Where the hierarchies are mounted.
    """
    for hierarchy in hierarchies(root):
        folder = hierarchy
        for part in (TOP, bridge, node):
            parent, folder = folder, folder / part
            if (parent / "cgroup.subtree_control").exists():
                _delegate(parent)
            folder.mkdir(exist_ok=True)
            for file in ("cpuset.cpus", "cpuset.mems"):
                # Of v1's cpuset a new group has none, and no process may enter it.
                if hierarchy.name == "cpuset":
                    (folder / file).write_text((parent / file).read_text())


def _delegate(parent: Path) -> None:
    """Let the groups below have all controllers of cgroup v2; those it cannot give are left out."""
    for controller in (parent / "cgroup.controllers").read_text().split():
        with contextlib.suppress(OSError):
            (parent / "cgroup.subtree_control").write_text(f"+{controller}")


def folders(root: Path = ROOT) -> dict[str, list[Path]]:
    """Return the labs' groups by the bridge they belong to, parents first."""
    found: dict[str, list[Path]] = {}
    for hierarchy in hierarchies(root):
        for bridge in sorted((hierarchy / TOP).glob("*/")):
            found.setdefault(bridge.name, []).extend([bridge, *sorted(_below(bridge))])
    return found


def _below(folder: Path) -> list[Path]:
    """Groups inside a group. Another lab's may go away while we look, which `os.walk` does not mind."""
    return [Path(found) for found, _, _ in os.walk(folder)][1:]


def pids(groups: list[Path]) -> set[int]:
    """Return the ids of the processes in these groups."""
    found: set[int] = set()
    for group in groups:
        with contextlib.suppress(OSError):
            found.update(int(pid) for pid in (group / "cgroup.procs").read_text().split())
    return found


def remove(
    bridge: str, node: str | None = None, root: Path = ROOT, limit: float = REMOVE_LIMIT
) -> list[Path]:
    """Remove a lab's groups, or those of one node, deepest first.

    A group stays busy for a moment after the last process in it has died.

    Returns
    -------
    list[Path]
        Those that would not go within `limit` seconds.
    """
    deadline = time.monotonic() + limit
    while True:
        left = folders(root).get(bridge, [])
        if node is not None:
            left = [folder for folder in left if f"/{TOP}/{bridge}/{node}/" in f"{folder}/"]
        for folder in reversed(left):
            with contextlib.suppress(OSError):
                folder.rmdir()
        left = [folder for folder in left if folder.exists()]
        if not left or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    for hierarchy in hierarchies(root):
        with contextlib.suppress(OSError):  # another lab's groups may be in it
            (hierarchy / TOP).rmdir()
    return left
