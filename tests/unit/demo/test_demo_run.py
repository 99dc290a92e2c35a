from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from examples.demo import cli
from examples.demo.console import Screen
from examples.demo.model import HeldOutImage, TrainedModel
from examples.demo.run import DEPLOY_STEP, ImageReferences, Outcome, show_predictions, show_summary
from examples.demo.scarcity import Promise
from examples.demo.scoring import Answers
from examples.demo.timeline import Phase
from PIL import Image
from rich.console import Console


class Ticks:
    """A clock that moves on by a second with every look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def outcome(*digits: int) -> Outcome:
    images = tuple(HeldOutImage(f"{label}.png", png(), label) for label in range(10))
    model = TrainedModel(b"archive", images, Path("/images"))
    return Outcome(model, (Answers("gRPC", tuple(range(10)), 1, 0.1), Answers("HTTP", digits, 10, 0.1)))


def png() -> bytes:
    data = io.BytesIO()
    Image.new("L", (8, 8)).save(data, "PNG")
    return data.getvalue()


def screen() -> tuple[Screen, io.StringIO]:
    text = io.StringIO()
    return Screen(Console(file=text, width=200), Ticks()), text


def test_both_protocols_must_be_right_often_enough() -> None:
    assert outcome(*range(10)).complaints == []
    assert outcome(*range(9), 0).complaints == ["HTTP is right for 90.00% only"]


def test_a_broken_promise_is_a_complaint() -> None:
    promises = (Promise("it holds", kept=True, seen="so"), Promise("it flies", kept=False, seen="a stone"))
    complaints = replace(outcome(*range(10)), promises=promises).complaints
    assert complaints == ["a promise is broken: it flies (a stone)"]


def test_the_chart_gets_the_images_and_serves_with_our_own_server() -> None:
    images = ImageReferences("registry:5000/serval", "1", "2")
    assert images.operator == "registry:5000/serval/serval-operator:1"
    assert images.chart_values("nvidia-gpu") == {
        "image": {"registry": "registry:5000/serval", "tag": "1"},
        "serverImage": {"registry": "registry:5000/serval", "tag": "2"},
        "defaultRuntime": "serval",
        "runtimes": {"serval": {"images": {"nvidia-gpu": "registry:5000/serval/serval-server:2"}}},
    }


def test_steps_tell_their_time_and_the_summary_splits_the_deployment() -> None:
    shown, text = screen()
    with shown.step("Lab") as say:
        say("nodes Ready")
    with shown.step(DEPLOY_STEP):
        pass
    result = outcome(*range(9), 0)
    show_summary(shown, [Phase("scheduling", 1.0)], result.model, result.answers)
    show_predictions(shown, result.model, result.answers)
    printed = text.getvalue()
    assert [name for name, _ in shown.durations] == ["Lab", DEPLOY_STEP]
    for words in ("nodes Ready", "done in", "  scheduling", "100.00%", "90.00%", "9.png"):
        assert words in printed
    assert printed.index(DEPLOY_STEP) < printed.index("  scheduling") < printed.index("all ")


def test_an_own_cluster_needs_to_know_its_registry(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nonexistent")
    monkeypatch.delenv("SERVAL_REGISTRY", raising=False)
    assert cli.main([]) == 1
    assert "SERVAL_REGISTRY" in capsys.readouterr().out
