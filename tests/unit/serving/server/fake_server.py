"""The model server with an engine that starts at once. Run as a program."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from serval_serving.server.__main__ import main
from unit.serving.server.fake_engine import FakeEngine

if __name__ == "__main__":
    main(sys.argv[1:], lambda settings, cpus: FakeEngine(settings.engine_threads or cpus))
