from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from serval_serving.server.memory import keep_freed

BUFFERS = 50
PROGRAM = """
import resource
from serval_serving.server.memory import keep_freed
if {keeps}:
    assert keep_freed()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def use():
    # Two at a time: the end of the heap moves back and forth between them.
    first = bytearray(2_000_000)
    second = bytearray(2_000_000)
use()
before = faults()
for _ in range({buffers}):
    use()
print(faults() - before)
"""


def faults(*, keeps: bool) -> int:
    """Pages that a process had to be given while it used its buffers again and again."""
    program = PROGRAM.format(keeps=keeps, buffers=BUFFERS)
    # glibc raises its own threshold once a buffer was freed; a fixed one is what threads of a server see.
    environment = {} if keeps else {"MALLOC_MMAP_THRESHOLD_": "131072"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=environment,
    )
    return int(done.stdout)


def test_buffers_are_used_again() -> None:
    assert faults(keeps=True) < BUFFERS
    assert faults(keeps=False) > 100 * BUFFERS


def test_another_c_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: object())
    assert not keep_freed()
