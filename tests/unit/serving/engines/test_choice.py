from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from serval_serving.engines.base import Engine, ModelLoadError
from serval_serving.engines.choice import Choice, EngineChoice
from serval_serving.engines.onnx import holds_onnx
from serval_serving.engines.tensorflow import holds_saved_model
from serval_serving.server.__main__ import engines
from serval_serving.server.settings import Settings
from unit.serving.engines import onnx_models
from unit.serving.server.fake_engine import FakeEngine, write_version


def test_the_first_engine_that_fits_is_made_once_and_loads(tmp_path: Path) -> None:
    made: list[str] = []
    engine = FakeEngine()

    def make(name: str) -> Engine:
        made.append(name)
        return engine

    choice = EngineChoice(
        (
            Choice("neither", lambda _: False, lambda: make("neither")),
            Choice("this", lambda _: True, lambda: make("this")),
            Choice("that", lambda _: True, lambda: make("that")),
        )
    )
    assert made == [], "engines cost memory; none is made before it is needed"
    for version in (1, 2):
        choice.load(write_version(tmp_path, version))
    assert made == ["this"]
    assert [path.name for path in engine.loads] == ["1", "2"]


def test_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError) as caught:
        EngineChoice(()).load(tmp_path)
    assert (caught.value.code, caught.value.permanent) == (grpc.StatusCode.NOT_FOUND, True)
    assert str(tmp_path) in caught.value.message


def test_an_engine_that_is_not_installed(tmp_path: Path) -> None:
    def make() -> Engine:
        raise ImportError("No module named 'absent'")

    with pytest.raises(ModelLoadError) as caught:
        EngineChoice((Choice("SavedModels", lambda _: True, make),)).load(tmp_path)
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
    assert holds_saved_model(tmp_path) is saved_model
    assert holds_onnx(tmp_path) is onnx


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert not holds_saved_model(tmp_path / "absent")
    assert not holds_onnx(tmp_path / "absent")


def test_the_servers_own_choice_loads_onnx(tmp_path: Path) -> None:
    folder = onnx_models.write(tmp_path, 1, onnx_models.half_plus_two())
    assert engines(Settings(), 1).load(folder).runtime == "ONNX-CPU"
