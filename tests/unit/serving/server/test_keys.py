"""Keys from files: what happens while they cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from serval_serving.server.flags import FlagError
from serval_serving.server.keys import Keys
from serval_serving.wire.status import StatusError
from support.clock import FakeClock


def mounted(folder: Path) -> Path:
    """Make a mounted Secret of one key as kubelet does: a link to what the link `..data` has."""
    (folder / "..one").mkdir(parents=True)
    (folder / "..one" / "caller").write_text("secret\n")
    (folder / "..data").symlink_to("..one")
    (folder / "caller").symlink_to("..data/caller")
    return folder


def test_a_link_that_leads_nowhere_for_a_moment_takes_no_key_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    keys = Keys(mounted(tmp_path / "keys"), clock)
    (tmp_path / "keys" / "..data").unlink()
    clock.now += 2
    assert keys.check("Bearer secret") == "caller"
    assert "the old ones stay" in caplog.text
    (tmp_path / "keys" / "..two").mkdir()
    (tmp_path / "keys" / "..two" / "caller").write_text("other")
    (tmp_path / "keys" / "..data").symlink_to("..two")
    clock.now += 2
    assert keys.check("Bearer other") == "caller"
    with pytest.raises(StatusError):
        keys.check("Bearer secret")


def test_a_path_that_does_not_exist_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FlagError, match=r"--auth_keys cannot be read: .*No such file"):
        Keys(tmp_path / "keys")
