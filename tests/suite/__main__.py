"""``python -m suite [LAYER ...]``: run layers of tests, and say what they took.

The layers are unit, integration, lab (the lab's own tests) and e2e; without names all of them run. The lab's
own tests are left out where they passed on this machine and nothing that they test has changed since, unless
they are named, or SERVAL_WHOLE is set.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from serval_lab.settings import Settings
from suite import lab_change
from suite.machine import Watch, cache_line
from suite.parts import stages
from suite.results import LAYERS
from suite.run import Run
from support.whole import whole

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: Sequence[str]) -> int:
    """Run, and return the exit status: 0 where every part passed."""
    parser = argparse.ArgumentParser(prog="python -m suite", description=__doc__)
    parser.add_argument("layers", nargs="*", metavar="LAYER", help=f"of {', '.join(LAYERS)}")
    asked = parser.parse_args(arguments).layers
    if unknown := set(asked) - set(LAYERS):
        parser.error(f"no such layer: {', '.join(sorted(unknown))}")
    settings = Settings.from_environment()
    key = lab_change.content_hash(ROOT)
    layers = set(asked or LAYERS)
    unchanged = not asked and not whole() and lab_change.passed(settings.cache, key)
    if unchanged:
        layers.discard("lab")
    run = Run(ROOT)
    with Watch(settings.cache if settings.cache.is_dir() else ROOT) as watch:
        run.all(stages(layers))
    if "lab" in layers and run.passed("lab"):
        lab_change.keep(settings.cache, key)
    if unchanged:
        print("lab: unchanged since its own tests passed here; make test-lab runs them", flush=True)
    print("\n".join([*run.summary(), *watch.lines(), cache_line(settings.cache)]), flush=True)
    return run.status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
