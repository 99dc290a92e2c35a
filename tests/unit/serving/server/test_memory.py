from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from serval_serving.server.memory import KEPT_BYTES, MemoryGuard, Trimmer, keep_freed, memory_limit
from support.clock import FakeClock

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


ARENAS = """
import threading
from serval_serving.server.memory import keep_freed, give_back, resident_bytes
if {limits}:
    assert keep_freed()
else:
    import ctypes
    for name in (-1, -3):
        ctypes.CDLL(None).mallopt(name, 32 << 20)
together = threading.Barrier(12)
def use():
    together.wait(30)
    buffers = [bytearray(20_000_000) for _ in range(2)]
    together.wait(30)
    del buffers
    together.wait(30)
threads = [threading.Thread(target=use) for _ in range(12)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(30)
kept = resident_bytes()
give_back()
print(kept, resident_bytes())
"""


def kept(*, limits: bool) -> tuple[int, int]:
    """Bytes that a process keeps after many threads used memory, and those after it gave them back."""
    done = subprocess.run(
        [sys.executable, "-c", ARENAS.format(limits=limits)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    first, second = map(int, done.stdout.split())
    return first, second


def test_freed_memory_is_kept_within_a_limit_for_all_threads_together() -> None:
    own = 100_000_000
    after, given = kept(limits=True)
    assert after < 2 * KEPT_BYTES + own
    assert given < own


def test_memory_is_short_above_a_part_of_the_limit() -> None:
    clock, used = FakeClock(), [500]
    given: list[int] = []

    def give() -> bool:
        given.append(used[0])
        return True

    guard = MemoryGuard(1000, lambda: used[0], give, clock)
    assert not guard.short()
    used[0] = 900
    assert not guard.short(), "it was looked at a moment ago"
    clock.now += 0.1
    assert guard.short()
    assert given == [900], "what is free is given back first"
    used[0] = 100
    clock.now += 0.1
    assert not guard.short()
    assert not MemoryGuard(0, lambda: 10**12).short()


def test_the_limit_of_the_container(tmp_path: Path) -> None:
    file = tmp_path / "memory.max"
    assert memory_limit(file) == 0
    file.write_text("max\n")
    assert memory_limit(file) == 0
    file.write_text("1073741824\n")
    assert memory_limit(file) == 1 << 30


def test_an_idle_server_gives_memory_back() -> None:
    requests, used, given = [1], [10 * KEPT_BYTES], []

    def give() -> bool:
        given.append(used[0])
        used[0] = KEPT_BYTES
        return True

    trimmer = Trimmer(lambda: requests[0], give, lambda: used[0])
    trimmer.look()
    requests[0] = 0
    trimmer.look()
    assert given == [], "a moment without a request is not idle"
    trimmer.look()
    trimmer.look()
    assert given == [10 * KEPT_BYTES], "once is enough"
    used[0] += KEPT_BYTES
    trimmer.look()
    assert len(given) == 2
