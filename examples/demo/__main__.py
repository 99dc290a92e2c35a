"""``python -m examples.demo``, from the root of a checkout."""

from __future__ import annotations

import sys
from pathlib import Path

LAB = Path(__file__).resolve().parents[2] / "tests" / "lab"
"""The lab belongs to the checkout and is never installed."""


def run() -> int:
    """Run the demo with the lab within reach."""
    sys.path.insert(0, str(LAB))
    from examples.demo.cli import main  # noqa: PLC0415 it imports the lab

    return main()


if __name__ == "__main__":
    sys.exit(run())
