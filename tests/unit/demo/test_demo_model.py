from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from examples.demo import model
from examples.demo.errors import DemoError
from examples.demo.model import pack, trained_model

TRAINER = """
import argparse, pathlib
parser = argparse.ArgumentParser()
parser.add_argument("--out", type=pathlib.Path)
parser.add_argument("--test-images", type=pathlib.Path)
options = parser.parse_args()
version = options.out / "1" / "variables"
version.mkdir(parents=True)
(version.parent / "saved_model.pb").write_text("graph")
(version / "variables.index").write_text("weights")
(options.out / "metrics.json").write_text("{}")
options.test_images.mkdir()
(options.test_images / "a.png").write_bytes(b"png")
(options.test_images / "labels.csv").write_text("file,label\\na.png,7\\n")
print("trained")
print("wrote it")
"""


@pytest.fixture
def trainer(tmp_path: Path) -> Path:
    path = tmp_path / "train.py"
    path.write_text(TRAINER)
    return path


def names(archive: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return tar.getnames()


def test_a_model_is_trained_once_for_one_program(tmp_path: Path, trainer: Path) -> None:
    said: list[str] = []
    first = trained_model(tmp_path / "cache", said.append, trainer)
    assert said == ["trained"]
    assert [(image.name, image.data, image.label) for image in first.images] == [("a.png", b"png", 7)]
    assert names(first.archive) == ["1/saved_model.pb", "1/variables/variables.index"]
    assert (first.folder / "a.png").is_file()
    assert trained_model(tmp_path / "cache", said.append, trainer) == first
    assert said == ["trained"]
    trainer.write_text(TRAINER + "# changed\n")
    trained_model(tmp_path / "cache", said.append, trainer)
    assert said == ["trained", "trained"]


def test_a_program_that_fails_leaves_nothing_that_looks_trained(tmp_path: Path, trainer: Path) -> None:
    trainer.write_text(TRAINER + "raise SystemExit('no luck')\n")
    for _ in range(2):
        with pytest.raises(DemoError, match="no luck"):
            trained_model(tmp_path / "cache", print, trainer)


def test_a_model_that_fits_no_config_map_is_refused(
    tmp_path: Path, trainer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "MAX_ARCHIVE_BYTES", 10)
    with pytest.raises(DemoError, match="a ConfigMap takes 10"):
        trained_model(tmp_path / "cache", print, trainer)


def test_packing_does_not_depend_on_times_owners_or_modes(tmp_path: Path) -> None:
    for folder, mode in (("one", 0o600), ("two", 0o755)):
        for name in ("10/b", "10/a", "2/c", "other/d"):
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
            path.chmod(mode)
    packed = pack(tmp_path / "one")
    assert packed == pack(tmp_path / "two")
    assert names(packed) == ["10/a", "10/b", "2/c"]
