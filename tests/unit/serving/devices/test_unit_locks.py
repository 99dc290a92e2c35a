"""Locks of units, between real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from serval_serving.devices.unit_locks import UnitLocks, unit_file
from serval_serving.engines.base import ModelLoadError

HOLD = """
import sys
from pathlib import Path
from serval_serving.devices.unit_locks import UnitLocks
UnitLocks(Path(sys.argv[1]), sys.argv[2].split(","), "pod-a").take()
print("held", flush=True)
sys.stdin.read()
"""


def holder(folder: Path, units: str) -> subprocess.Popen[str]:
    """A process that has the units until its stdin ends."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), units],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_holder_is_refused_and_told_who_has_the_unit(tmp_path: Path) -> None:
    mine = UnitLocks(tmp_path, ["fpga-1", "fpga-0"], "pod-b")
    with holder(tmp_path, "fpga-0") as other:
        with pytest.raises(ModelLoadError) as caught:
            mine.take()
        assert str(caught.value) == "Unavailable: DeviceHeld: unit fpga-0 is held by pod-a"
        assert caught.value.permanent
        # None of the units is kept when one is refused.
        UnitLocks(tmp_path, ["fpga-1"], "pod-c").take()
        other.kill()
    UnitLocks(tmp_path, ["fpga-0"], "pod-b").take()
    assert unit_file(tmp_path, "fpga-0", "lock").read_text() == "pod-b"


def test_ids_and_names_of_holders_cannot_do_harm(tmp_path: Path) -> None:
    first = UnitLocks(tmp_path, ["../x/GPU:1"], "a\nb\x1b[31m" + 1000 * "c")
    first.take()
    (path,) = tmp_path.iterdir()
    assert path.name == "unit-..%2Fx%2FGPU%3A1.lock"
    with pytest.raises(ModelLoadError, match=r"held by ab\[31mc{292}$"):
        UnitLocks(tmp_path, ["../x/GPU:1"], "d").take()
    first.release()
    UnitLocks(tmp_path, ["../x/GPU:1"], "d").take()


def test_users_of_other_containers_can_take_the_lock_later(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        UnitLocks(tmp_path, [], "pod-a").take()
    finally:
        os.umask(before)
    assert (tmp_path / "unit-device.lock").stat().st_mode & 0o777 == 0o666


@pytest.mark.parametrize("link", [False, True])
def test_a_folder_that_cannot_hold_locks(tmp_path: Path, link: bool) -> None:
    """A link may lead anywhere, and another pod can write it."""
    folder = tmp_path if link else tmp_path / "absent"
    if link:
        (tmp_path / "unit-u.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelLoadError, match="DeviceUnusable: the lock of unit u cannot be opened") as caught:
        UnitLocks(folder, ["u"], "pod").take()
    assert caught.value.code is grpc.StatusCode.FAILED_PRECONDITION
    assert not (tmp_path / "elsewhere").exists()


def test_a_lock_that_exists_is_opened_and_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may refuse the second in a folder such as /tmp, where the file is another user's."""
    UnitLocks(tmp_path, ["u"], "pod-a").take()
    real = os.open

    def guarded(path: Path, flags: int, *mode: int) -> int:
        if flags & os.O_CREAT and Path(path).exists():
            raise PermissionError(13, "Permission denied")
        return real(path, flags, *mode)

    monkeypatch.setattr(os, "open", guarded)
    with pytest.raises(ModelLoadError, match="held by pod-a"):
        UnitLocks(tmp_path, ["u"], "pod-b").take()
    UnitLocks(tmp_path, ["v"], "pod-b").take()


def test_a_file_that_cannot_hold_a_name_is_a_lock(tmp_path: Path) -> None:
    """Another pod may have made a pipe of it, and a disk may be full."""
    os.mkfifo(tmp_path / "unit-u.lock")
    first = UnitLocks(tmp_path, ["u"], "pod-a")
    first.take()
    with pytest.raises(ModelLoadError, match="unit u is held by a process that gave no name"):
        UnitLocks(tmp_path, ["u"], "pod-b").take()
    first.release()
    UnitLocks(tmp_path, ["u"], "pod-b").take()
