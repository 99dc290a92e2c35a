"""How the lab and a node's fake device plugins talk: one control file and one status file per resource."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path


@dataclass(frozen=True)
class DeviceState:
    """What a fake device plugin is to do.

    Attributes
    ----------
    resource
        Extended resource, such as nvidia.com/gpu.
    units
        How many units exist: unit-0, unit-1, ...
    unhealthy
        Units among them that are reported as unhealthy.
    refuse
        Message that Allocate fails with; empty: it succeeds.
    generation
        Grows with each change; the plugin repeats it in its status.
    stopped
        The plugin's process is gone, and with it what pods can get.
    cards
        How many cards lie behind the units, which share them by turns: unit-0 is on the first card, unit-1 on
        the second, and so on. 0: each unit is a card.
    faults
        What is wrong with cards, for those who drive them: the kubelet is not told, as of `unhealthy`.
    """

    resource: str
    units: int
    unhealthy: tuple[str, ...] = ()
    refuse: str = ""
    generation: int = 1
    stopped: bool = False
    cards: int = 0
    faults: Mapping[str, str] = field(default_factory=dict)

    @property
    def ids(self) -> list[str]:
        """All units."""
        return [f"unit-{number}" for number in range(self.units)]

    @property
    def healthy(self) -> list[str]:
        """Units that pods can get."""
        return [] if self.stopped else [unit for unit in self.ids if unit not in self.unhealthy]

    def cards_of(self, units: Iterable[str]) -> list[str]:
        """Return the cards behind some units, each once; a card is called as its first unit."""
        if not self.cards:
            return list(units)
        numbers = (int(unit.removeprefix("unit-")) % self.cards for unit in units)
        return [f"unit-{number}" for number in dict.fromkeys(numbers)]


def file_name(resource: str) -> str:
    """Return the name, without suffix, of what belongs to a resource: control file and socket."""
    return resource.replace("/", "_")


def control_file(folder: Path, resource: str) -> Path:
    """Return the path of a resource's control file."""
    return folder / f"{file_name(resource)}.json"


def read(path: Path) -> DeviceState | None:
    """Return what a control file says; None if there is none."""
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return DeviceState(**{**data, "unhealthy": tuple(data["unhealthy"])})


def read_all(folder: Path) -> list[DeviceState]:
    """Return what all control files of a folder say."""
    states = (read(path) for path in sorted(folder.glob("*.json")))
    return [state for state in states if state is not None]


def write(folder: Path, state: DeviceState) -> None:
    """Write a control file, whole or not at all."""
    _replace(control_file(folder, state.resource), json.dumps(asdict(state)))


def change(
    folder: Path,
    resource: str,
    *,
    units: int | None = None,
    unhealthy: Sequence[str] | None = None,
    refuse: str | None = None,
    stopped: bool | None = None,
    cards: int | None = None,
    faults: Mapping[str, str] | None = None,
) -> DeviceState:
    """Change what is given, keep the rest, and return the new state; a new resource starts with 0 units."""
    state = read(control_file(folder, resource)) or DeviceState(resource, 0, generation=0)
    state = replace(
        state,
        generation=state.generation + 1,
        units=state.units if units is None else units,
        unhealthy=state.unhealthy if unhealthy is None else tuple(unhealthy),
        refuse=state.refuse if refuse is None else refuse,
        stopped=state.stopped if stopped is None else stopped,
        cards=state.cards if cards is None else cards,
        faults=state.faults if faults is None else dict(faults),
    )
    write(folder, state)
    return state


def acknowledge(folder: Path, state: DeviceState) -> None:
    """Note, as plugin, that the kubelet has been told of this state. `node_init` does so for one it ended."""
    _replace(folder / f"{file_name(state.resource)}.status", str(state.generation))


def acknowledged(folder: Path, resource: str) -> int:
    """Return the generation that the kubelet was last told of; 0 before the first."""
    try:
        return int((folder / f"{file_name(resource)}.status").read_text())
    except (OSError, ValueError):
        return 0


def _replace(path: Path, text: str) -> None:
    scratch = path.with_name(f".{path.name}.new")
    scratch.write_text(text)
    scratch.replace(path)
