from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serval_serving.fetch.errors import FetchError, rejected
from serval_serving.fetch.report import Fetched, failure_line, success_line, write_termination_message
from serval_serving.models.savedmodel import Signature, TensorInfo, parse_saved_model
from unit.serving.fetch.builders import saved_model


def test_success() -> None:
    signature = parse_saved_model(saved_model()).signatures["serving_default"]
    line = success_line(Fetched(3, "sha256:ab", 752000, 0.81234, signature))
    assert "\n" not in line
    assert json.loads(line) == {
        "serval": "fetch",
        "ok": True,
        "version": 3,
        "digest": "sha256:ab",
        "bytes": 752000,
        "seconds": 0.812,
        "inputs": [{"name": "images", "dtype": "DT_STRING", "shape": [-1]}],
        "outputs": [
            {"name": "classes", "dtype": "DT_INT64", "shape": [-1]},
            {"name": "probabilities", "dtype": "DT_FLOAT", "shape": [-1, 10]},
        ],
    }


def test_signature_is_left_out_where_it_does_not_fit() -> None:
    many = {f"input_{i}": TensorInfo("x", "DT_FLOAT", (1, 2, 3)) for i in range(100)}
    line = success_line(Fetched(3, "sha256:ab", 1, 0.1, Signature("m", many, {})))
    assert set(json.loads(line)) == {"serval", "ok", "version", "digest", "bytes", "seconds"}
    assert success_line(Fetched(3, "sha256:ab", 1, 0.1, None)) == line


def test_failure() -> None:
    error = FetchError("ModelNotFound", "nothing\nthere \x1b[31m", permanent=True)
    assert json.loads(failure_line(error)) == {
        "serval": "fetch",
        "ok": False,
        "reason": "ModelNotFound",
        "message": "nothing there  [31m",
        "permanent": True,
    }


@given(st.text(max_size=3000))
def test_any_message_fits(text: str) -> None:
    line = failure_line(rejected(text * 3))
    assert len(line.encode()) < 1100
    assert json.loads(line)["reason"] == "ModelArtifactRejected"


def test_long_message_keeps_its_beginning() -> None:
    message = json.loads(failure_line(rejected("begin" + "é" * 5000)))["message"]
    assert message.startswith("beginé")
    assert message.endswith("...")
    assert len(json.dumps(message)) <= 1000


def test_message_replaces_an_older_one(tmp_path: Path) -> None:
    log = tmp_path / "termination-log"
    log.write_text("a longer message of an earlier run")
    write_termination_message(log, '{"ok":true}')
    assert log.read_text() == '{"ok":true}'


def test_missing_file_is_not_made(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_termination_message(tmp_path / "termination-log", "{}")
    assert not list(tmp_path.iterdir())
    assert "no termination message" in caplog.text
