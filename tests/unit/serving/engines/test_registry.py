from __future__ import annotations

from itertools import permutations
from pathlib import Path

import grpc
import pytest

from serval_serving.engines.base import Engine, ModelLoadError
from serval_serving.engines.registry import EngineEntry, EngineRegistry
from serval_serving.models.formats import ONNX_FORMAT, SAVED_MODEL_FORMAT
from serval_serving.server.__main__ import engines
from serval_serving.server.settings import Settings
from unit.serving.engines import onnx_models
from unit.serving.server.fake_engine import FakeEngine, write_version


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_most_specific_engine_that_fits_is_opened_once_and_loads(
    tmp_path: Path, order: tuple[int, ...]
) -> None:
    opened: list[str] = []
    engine = FakeEngine()

    def open_engine(name: str) -> Engine:
        opened.append(name)
        return engine

    entries = (
        EngineEntry("does not fit", 3, lambda _: False, lambda: open_engine("does not fit")),
        EngineEntry("specific", 2, lambda _: True, lambda: open_engine("specific")),
        EngineEntry("general", 1, lambda _: True, lambda: open_engine("general")),
    )
    registry = EngineRegistry(entries[index] for index in order)
    assert opened == [], "engines cost memory; none is opened before it is needed"
    for version in (1, 2):
        registry.load(write_version(tmp_path, version))
    assert opened == ["specific"]
    assert [path.name for path in engine.loads] == ["1", "2"]


@pytest.mark.parametrize(("other", "field"), [(("a", 2), "models"), (("b", 1), "priority")])
def test_entries_that_cannot_be_told_apart_are_refused(other: tuple[str, int], field: str) -> None:
    with pytest.raises(ValueError, match=field):
        EngineRegistry(
            EngineEntry(models, priority, lambda _: True, FakeEngine)
            for models, priority in (("a", 1), other)
        )


@pytest.mark.parametrize(
    ("files", "models"), [(["saved_model.pb", "a.onnx"], "SavedModels"), (["a.onnx"], "ONNX models")]
)
def test_a_saved_model_with_onnx_files_is_a_saved_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[str], models: str
) -> None:
    def absent(*_: object) -> Engine:
        raise ImportError("absent")

    monkeypatch.setattr("serval_serving.server.__main__.tensorflow_engine", absent)
    monkeypatch.setattr("serval_serving.server.__main__.onnx_engine", absent)
    for name in files:
        (tmp_path / name).touch()
    with pytest.raises(ModelLoadError, match=f"cannot load {models}"):
        engines(Settings(), 1).load(tmp_path)


def test_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError) as caught:
        EngineRegistry([]).load(tmp_path)
    assert (caught.value.code, caught.value.permanent) == (grpc.StatusCode.NOT_FOUND, True)
    assert str(tmp_path) in caught.value.message


def test_an_engine_that_is_not_installed(tmp_path: Path) -> None:
    def make() -> Engine:
        raise ImportError("No module named 'absent'")

    with pytest.raises(ModelLoadError) as caught:
        EngineRegistry([EngineEntry("SavedModels", 1, lambda _: True, make)]).load(tmp_path)
    assert (caught.value.code, caught.value.permanent) == (grpc.StatusCode.UNIMPLEMENTED, True)
    assert caught.value.message == "this server cannot load SavedModels: No module named 'absent'"


@pytest.mark.parametrize(
    ("files", "saved_model", "onnx"),
    [
        ([], False, False),
        (["saved_model.pb"], True, False),
        (["saved_model.pbtxt", "extra.onnx"], True, True),
        (["net.onnx"], False, True),
        (["a.onnx", "b.onnx"], False, True),
        (["readme.md"], False, False),
    ],
)
def test_files_say_what_a_folder_holds(
    tmp_path: Path, files: list[str], saved_model: bool, onnx: bool
) -> None:
    for name in files:
        (tmp_path / name).touch()
    assert SAVED_MODEL_FORMAT.fits(tmp_path) is saved_model
    assert ONNX_FORMAT.fits(tmp_path) is onnx


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert not SAVED_MODEL_FORMAT.fits(tmp_path / "absent")
    assert not ONNX_FORMAT.fits(tmp_path / "absent")


def test_the_registry_of_the_server_loads_onnx(tmp_path: Path) -> None:
    folder = onnx_models.write(tmp_path, 1, onnx_models.half_plus_two())
    assert engines(Settings(), 1).load(folder).runtime == "ONNX-CPU"
