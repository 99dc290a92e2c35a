"""A test run runs every part, tells which failed, and leaves out only lab tests that passed before."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from suite import lab_change
from suite.machine import memory_in_use, size_of
from suite.parts import STAGES, Part, stages
from suite.results import LAYERS
from suite.run import Run

ROOT = Path(__file__).resolve().parents[3]


def test_every_test_file_belongs_to_a_part() -> None:
    """A file that no part collects would never run, and nothing would say so."""
    parts = [part for stage in STAGES for part in stage]
    targets = [argument for part in parts for argument in part.arguments if argument.startswith("tests/")]
    files = {path.relative_to(ROOT) for path in (ROOT / "tests").rglob("test_*.py")}
    assert {file for file in files if not any(file.is_relative_to(target) for target in targets)} == set()
    assert {part.layer for part in parts} == set(LAYERS)


def test_only_the_layers_asked_for_run() -> None:
    assert {part.layer for stage in stages({"unit", "e2e"}) for part in stage} == {"unit", "e2e"}
    assert stages(()) == []


def test_a_failed_part_fails_the_run_and_stops_no_other(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_bad.py").write_text("def test_bad():\n    assert False\n")
    run = Run(tmp_path)
    # The others only start pytest, which is all that it takes to pass.
    good, other = (Part(layer, layer, ("--version",)) for layer in ("integration", "e2e"))
    run.all([(Part("bad", "unit", ("test_bad.py",)),), (good, other)])
    assert run.status == 1
    assert [run.passed(layer) for layer in LAYERS] == [False, True, False, True]
    assert run.summary()[-1].startswith("minutes: unit 0.")
    assert "[integration] pytest " in capfd.readouterr().out


def test_the_hash_of_the_lab_follows_what_its_tests_test(tmp_path: Path) -> None:
    for name in lab_change.WATCHED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tmp_path / name)
        else:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    keys = [lab_change.content_hash(tmp_path)]
    (tmp_path / "tests" / "lab" / "__pycache__").mkdir(exist_ok=True)
    (tmp_path / "tests" / "lab" / "__pycache__" / "x.pyc").write_bytes(b"x")
    assert lab_change.content_hash(tmp_path) == keys[0]
    for changed in ("tests/lab/serval_lab/etcd.py", "tests/e2e/test_lab_lifecycle.py"):
        with (tmp_path / changed).open("a") as file:
            file.write("# changed\n")
        keys.append(lab_change.content_hash(tmp_path))
    (tmp_path / "tests" / "lab" / "serval_lab" / "added.py").touch()
    keys.append(lab_change.content_hash(tmp_path))
    assert len(set(keys)) == 4


def test_what_passed_is_kept_until_something_else_passes(tmp_path: Path) -> None:
    assert not lab_change.passed(tmp_path, "one")
    lab_change.keep(tmp_path, "one")
    assert lab_change.passed(tmp_path, "one")
    lab_change.keep(tmp_path, "two")
    assert lab_change.passed(tmp_path, "two")
    assert not lab_change.passed(tmp_path, "one")


def test_memory_and_disk(tmp_path: Path) -> None:
    assert memory_in_use("MemTotal:   100 kB\nMemFree:  10 kB\nMemAvailable:   60 kB\n") == 40 * 1024
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"x" * 100_000)
    assert 100_000 <= size_of(tmp_path) < 200_000
