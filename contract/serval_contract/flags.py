"""Command-line flags: one definition builds the argument on one side and names the option on the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

Value = TypeVar("Value", str, int, float, bool)


@dataclass(frozen=True, slots=True)
class _Named:
    """What flags have in common.

    Parameters
    ----------
    name:
        Name without the leading dashes.
    """

    name: str

    @property
    def option(self) -> str:
        """The flag as `argparse` and messages name it: ``--name``."""
        return f"--{self.name}"


@dataclass(frozen=True, slots=True)
class Flag(_Named, Generic[Value]):
    """A flag with a value, written ``--name=value``."""

    @property
    def prefix(self) -> str:
        """What every argument that sets the flag starts with: ``--name=``."""
        return f"{self.option}="

    def __call__(self, value: Value) -> str:
        """Return the argument that sets the flag; a bool becomes ``true`` or ``false``."""
        text = str(value).lower() if isinstance(value, bool) else str(value)
        return f"{self.prefix}{text}"


@dataclass(frozen=True, slots=True)
class Switch(_Named):
    """A flag without a value, which is given or not: the whole argument is its `option`."""
