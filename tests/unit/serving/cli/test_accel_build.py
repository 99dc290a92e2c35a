"""What ``serval accel build`` says where it cannot build. A build that succeeds: test_real_networks.py."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from serval_serving.cli import main

ARGUMENTS = ["accel", "build", "--featurizer", "DenseNet121"]


def test_the_stages_reason_and_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "weights.h5"
    assert main([*ARGUMENTS, "--weights", str(missing), "--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err == f"serval: WeightsNotFound: there is no {missing}\n"
    assert not (tmp_path / "out").exists()


def test_a_folder_with_files_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").write_text("keep")
    assert main([*ARGUMENTS, "--weights", "random", "--out", str(tmp_path)]) == 2
    assert f"{tmp_path} exists already" in capsys.readouterr().err
    assert (tmp_path / "mine").read_text() == "keep"


def test_a_program_that_ends_without_a_report_shows_its_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho out of luck >&2\nkill -9 $$\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    assert main([*ARGUMENTS, "--weights", "random", "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "ended with status -9 (killed, perhaps for lack of memory)" in said
    assert "out of luck" in said


def test_what_is_not_installed_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serval_serving.cli.extra.find_spec", lambda name: None if name == "h5py" else 1)
    assert main([*ARGUMENTS, "--weights", "random", "--out", str(tmp_path / "out")]) == 2
    assert "h5py is missing; to build: pip install 'serval[accel]'" in capsys.readouterr().err
