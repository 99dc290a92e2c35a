"""Bars in an SVG file, without a library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

WIDTH = 720
LABEL = 150
LONGEST = WIDTH - LABEL - 90
HEIGHT = 18
GAP = 6
TITLE = 30
COLOURS = {"engine alone": "#9aa0a6", "echo": "#c7cbd1", "serval": "#1a73e8"}
OTHER = "#f0a04b"


@dataclass(frozen=True)
class Bar:
    """One bar: its group, its name and its length in milliseconds."""

    group: str
    name: str
    value: float


def write_plot(path: Path, bars: Sequence[Bar]) -> None:
    """Write the groups one below the other, each with a scale of its own."""
    parts: list[str] = []
    y = GAP
    for group in dict.fromkeys(bar.group for bar in bars):
        mine = [bar for bar in bars if bar.group == group]
        longest = max(bar.value for bar in mine)
        y += TITLE
        parts.append(f'<text x="0" y="{y - 10}" font-weight="bold">{group}: CPU-ms per request</text>')
        for bar in mine:
            length = max(1.0, bar.value / longest * LONGEST)
            middle = y + HEIGHT * 0.72
            colour = COLOURS.get(bar.name, OTHER)
            parts += [
                f'<text x="{LABEL - 8}" y="{middle:.0f}" text-anchor="end">{bar.name}</text>',
                f'<rect x="{LABEL}" y="{y}" width="{length:.0f}" height="{HEIGHT}" fill="{colour}"/>',
                f'<text x="{LABEL + length + 6:.0f}" y="{middle:.0f}">{bar.value:.2f}</text>',
            ]
            y += HEIGHT + GAP
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y + GAP}"'
    style = ' font-family="sans-serif" font-size="13">'
    background = '<rect width="100%" height="100%" fill="white"/>'
    path.write_text("\n".join([head + style, background, *parts, "</svg>", ""]), encoding="utf-8")
