"""From what the fetcher knows to the termination message; its form is tested in tests/unit/contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from serval_contract.report import FetchFailure, FetchReport, Tensor
from serval_serving.fetch.errors import rejected, unavailable
from serval_serving.fetch.report import failure_of, report_of
from serval_serving.models.savedmodel import Signature, parse_saved_model
from serval_serving.stages.termination import write_termination_message
from unit.serving.fetch.builders import saved_model

DONE = FetchReport(3, "sha256:ab", 752_000, 0.81234)


def report(signature: Signature | None) -> FetchReport:
    return report_of(version=3, digest="sha256:ab", size=752_000, seconds=0.81234, signature=signature)


def test_success() -> None:
    assert report(parse_saved_model(saved_model()).signatures["serving_default"]) == FetchReport(
        3,
        "sha256:ab",
        752_000,
        0.81234,
        inputs=(Tensor("images", "DT_STRING", (-1,)),),
        outputs=(Tensor("classes", "DT_INT64", (-1,)), Tensor("probabilities", "DT_FLOAT", (-1, 10))),
    )


def test_success_without_a_default_signature() -> None:
    assert report(None) == DONE


def test_failure() -> None:
    assert failure_of(rejected("links")) == FetchFailure("ModelArtifactRejected", "links", permanent=True)
    assert failure_of(unavailable("gone")) == FetchFailure("ModelSourceUnavailable", "gone", permanent=False)


def test_message_replaces_an_older_one(tmp_path: Path) -> None:
    log = tmp_path / "termination-log"
    log.write_text("a longer message of an earlier run" * 9)
    write_termination_message(log, DONE.dump())
    assert log.read_text() == DONE.dump()


def test_missing_file_is_not_made(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_termination_message(tmp_path / "termination-log", DONE.dump())
    assert not list(tmp_path.iterdir())
    assert "no termination message" in caplog.text
