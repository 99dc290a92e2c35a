"""What the demo says: steps with seconds while they run, tables at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich import box
from rich.columns import Columns
from rich.console import Console
from rich.table import Table
from rich.text import Text

Say = Callable[[str], None]


class Screen:
    """Prints steps, and remembers how long each took.

    Parameters
    ----------
    console:
        Where to print.
    clock:
        Monotonic seconds.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._started = clock()
        self.durations: list[tuple[str, float]] = []

    @contextmanager
    def step(self, name: str) -> Iterator[Say]:
        """Announce a step, hand out what says its lines, and tell its time at the end."""
        started = self._clock()
        self._console.print(Text.assemble((f"\n{name}", "bold")))
        yield self._say
        seconds = self._clock() - started
        self.durations.append((name, seconds))
        self._say(f"done in {seconds:.1f} s")

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return self._clock() - self._started

    def text(self, text: str, style: str = "") -> None:
        """Print lines as they are."""
        self._console.print(Text(text, style), soft_wrap=True)

    def lines(self, title: str, lines: Sequence[str]) -> None:
        """Print a title and lines below it, never broken, so that they can be copied."""
        self._console.print(Text(f"\n{title}", "bold"))
        for line in lines:
            self._console.print(Text(f"  {line}"), soft_wrap=True)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table; all columns but the first are numbers, at the right."""
        self._console.print()
        self._console.print(_table(title, columns, rows))

    def beside(
        self, left: Sequence[str], title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]
    ) -> None:
        """Print lines of text with a table to their right."""
        self._console.print()
        self._console.print(Columns([Text("\n".join(left)), _table(title, columns, rows)], padding=(0, 4)))

    def _say(self, line: str) -> None:
        self._console.print(Text(f"  [{self.seconds:6.1f} s] {line}"), soft_wrap=True)


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    for position, column in enumerate(columns):
        table.add_column(column, justify="left" if position == 0 else "right")
    for row in rows:
        table.add_row(*row)
    return table
