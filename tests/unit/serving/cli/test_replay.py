"""Two models on the same requests: what is sent, compared and said."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serval_serving.cli import main
from serval_serving.cli.comparison import OutputComparison, largest_difference
from serval_serving.cli.recorded import outputs_of, read
from serval_serving.wire import messages, rpc
from serval_serving.wire.tensors import from_array
from serval_serving.wire.tfrecord import record
from support.ports import free_port
from unit.serving.server.fake_engine import write_version
from unit.serving.server.grpc_calls import floats
from unit.serving.server.processes import FAKE, Server, running

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Servers of the model `m` that doubles, of one that does the same, and of one that answers 2.5 x."""
    with ExitStack() as stack:
        servers = {}
        for name, factor in (("two", 2.0), ("same", 2.0), ("more", 2.5)):
            folder = tmp_path_factory.mktemp(name)
            write_version(folder / "m", 4, factor=factor)
            flags = ("--model_name=m", f"--model_base_path={folder / 'm'}")
            servers[name] = stack.enter_context(running(Server(FAKE, folder / "log", *flags)))
        yield {name: f"127.0.0.1:{server.wait_ready().grpc_port}" for name, server in servers.items()}


def predict_log(x: np.ndarray, y: np.ndarray | None = None, name: str = "m") -> messages.PredictionLog:
    log = messages.PredictionLog()
    call = log.predict_log
    call.request.model_spec.name = name
    call.request.model_spec.version.value = 99
    call.request.inputs["x"].CopyFrom(from_array(x))
    if y is not None:
        call.response.outputs["y"].CopyFrom(from_array(y))
    return log


def write(path: Path, *logs: messages.PredictionLog) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(record(log.SerializeToString()) for log in logs))
    return str(path)


def replayed(capsys: Capture, *arguments: str) -> tuple[int, dict[str, Any]]:
    status = main(["replay", *arguments, "--json"])
    return status, json.loads(capsys.readouterr().out)


def test_models_that_answer_the_same(targets: dict[str, str], tmp_path: Path, capsys: Capture) -> None:
    write(tmp_path / "m" / "3" / "a.tfrecord", predict_log(floats(1)), predict_log(floats(2, 3)))
    write(tmp_path / "tf_serving_warmup_requests", predict_log(floats(math.nan)))
    write(tmp_path / "other", messages.PredictionLog())
    status, found = replayed(capsys, targets["two"], targets["same"], "--records", str(tmp_path))
    assert status == 0
    assert [found[key] for key in ("requests", "compared", "equal", "unlike")] == [3, 3, 3, 0]
    y = {"compared": 3, "equal": 3, "maxDifference": 0.0, "notComparable": {}, "worst": ""}
    assert found["outputs"] == {"y": y}
    assert [one["target"] for one in found["targets"]] == [targets["two"], targets["same"]]
    assert all(0 < one["p50Ms"] <= one["p99Ms"] and one["failed"] == {} for one in found["targets"])


def test_models_that_differ(targets: dict[str, str], tmp_path: Path, capsys: Capture) -> None:
    file = write(tmp_path / "a", predict_log(floats(0)), predict_log(floats(1, 4)), predict_log(floats(2)))
    both = (targets["two"], targets["more"], "--records", file)
    status, found = replayed(capsys, *both)
    assert status == 5
    assert (found["compared"], found["equal"]) == (3, 1)
    y = {"compared": 3, "equal": 1, "maxDifference": 2.0, "notComparable": {}, "worst": "a#2"}
    assert found["outputs"] == {"y": y}
    assert replayed(capsys, *both, "--tolerance", "2")[0] == 0
    assert replayed(capsys, *both, "--tolerance", "1.9")[0] == 5
    assert main(["replay", *both]) == 5
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("3 requests, 3 answered by both, 1 equal, 0 answered by only one")
    assert [line.split() for line in lines[2:4]] == [
        ["OUTPUT", "EQUAL", "MAX", "DIFFERENCE", "NOT", "COMPARABLE", "WORST", "RECORD"],
        ["y", "1/3", "2", "0", "a#2"],
    ]


def test_one_model_is_compared_with_what_was_recorded(
    targets: dict[str, str], tmp_path: Path, capsys: Capture
) -> None:
    file = write(tmp_path / "a", predict_log(floats(1), floats(2)), predict_log(floats(1), floats(3)))
    status, found = replayed(capsys, targets["two"], "--records", file)
    assert (status, found["equal"], found["outputs"]["y"]["worst"]) == (5, 1, "a#2")
    assert [one["target"] for one in found["targets"]] == ["recorded replies", targets["two"]]
    assert found["targets"][0]["p50Ms"] is None
    assert replayed(capsys, targets["two"], "--records", file, "--limit", "1")[0] == 0


def test_a_target_may_name_model_and_version(
    targets: dict[str, str], tmp_path: Path, capsys: Capture
) -> None:
    file = write(tmp_path / "a", predict_log(floats(1), name="other"))
    two, same = targets["two"], targets["same"]
    assert replayed(capsys, f"{two}/m", f"{same}/m/4", "--records", file)[0] == 0
    status, found = replayed(capsys, f"{two}/m", f"{same}/m/5", "--records", file)
    assert (status, found["compared"], found["unlike"]) == (5, 0, 1)
    assert [one["failed"] for one in found["targets"]] == [{}, {"NOT_FOUND": 1}]
    status, found = replayed(capsys, two, same, "--records", file)
    assert (status, found["compared"], found["unlike"]) == (5, 0, 0), "nothing was compared"


def test_requests_that_both_refuse_do_not_differ(
    targets: dict[str, str], tmp_path: Path, capsys: Capture
) -> None:
    file = write(tmp_path / "a", predict_log(floats(1)), predict_log(np.array([1, 2], np.int64)))
    status, found = replayed(capsys, targets["two"], targets["same"], "--records", file)
    assert (status, found["requests"], found["compared"], found["unlike"]) == (0, 2, 1, 0)


def test_a_cut_file_ends_with_a_warning(targets: dict[str, str], tmp_path: Path, capsys: Capture) -> None:
    """The records before the cut and the other files count."""
    cut = Path(write(tmp_path / "a.tfrecord", predict_log(floats(1)), predict_log(floats(2))))
    cut.write_bytes(cut.read_bytes()[:-5])
    write(tmp_path / "b.tfrecord", predict_log(floats(3)))
    assert main(["replay", targets["two"], targets["same"], "--records", str(tmp_path), "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["compared"] == 2
    assert "a.tfrecord is cut after 1 records" in said.err


def test_time_is_limited(targets: dict[str, str], tmp_path: Path, capsys: Capture) -> None:
    file = write(tmp_path / "a", predict_log(floats(1)))
    assert main(["replay", targets["two"], "--records", file, "--max-seconds", "0"]) == 4
    assert "no record of" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("h:1", "h:2", "h:3", "--records", "FILE"), 2, "one or two targets"),
        (("h:1/m/x", "--records", "FILE"), 2, "x is no version"),
        (("http://h:1", "--records", "FILE"), 2, "is wanted"),
        (("h:1", "--records", "FILE", "--limit", "0"), 2, "--limit must be at least 1"),
        (("h:1", "--records", "ABSENT"), 4, "cannot be read"),
        (("h:1", "--records", "EMPTY"), 4, "has no file"),
        (("h:1", "--records", "BAD"), 2, "has no PredictionLog records"),
        (("h:1", "--records", "DAMAGED"), 2, "has no PredictionLog records"),
        (("UNREACHABLE", "--records", "FILE", "--timeout", "1"), 3, ""),
    ],
)
def test_what_cannot_be_done(
    tmp_path: Path, capsys: Capture, arguments: tuple[str, ...], status: int, words: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").write_bytes(b"no records")
    (tmp_path / "damaged").write_bytes(record(b"\xff"))
    known = {
        "FILE": write(tmp_path / "file", predict_log(floats(1))),
        "ABSENT": str(tmp_path / "absent"),
        "EMPTY": str(tmp_path / "empty"),
        "BAD": str(tmp_path / "bad"),
        "DAMAGED": str(tmp_path / "damaged"),
        "UNREACHABLE": f"127.0.0.1:{free_port()}",
    }
    assert main(["replay", *(known.get(argument, argument) for argument in arguments)]) == status
    assert words in capsys.readouterr().err


def test_records_of_classify_and_regress(tmp_path: Path) -> None:
    classify, regress, several = (messages.PredictionLog() for _ in range(3))
    for log in (classify.classify_log, regress.regress_log):
        log.request.model_spec.version_label = "stable"
        log.request.input.example_list.examples.add()
    row = classify.classify_log.response.result.classifications.add()
    row.classes.add(label="cat", score=0.5)
    regress.regress_log.response.result.regressions.add(value=2.5)
    several.multi_inference_log.request.tasks.add()
    write(tmp_path / "a", several, classify, regress)
    first, second = read([tmp_path / "a"], 10)
    assert [one.method for one in (first, second)] == [rpc.CLASSIFY, rpc.REGRESS]
    assert [one.name for one in (first, second)] == ["a#2", "a#3"]
    assert not first.request.model_spec.version_label
    assert first.outputs is not None
    assert {name: array.tolist() for name, array in first.outputs.items()} == {
        "labels": ["cat"],
        "scores": [0.5],
    }
    assert second.outputs is not None
    assert second.outputs["values"].tolist() == [2.5]
    assert outputs_of(rpc.REGRESS, messages.RegressionResponse())["values"].shape == (0,)


@pytest.mark.parametrize(
    ("first", "second", "difference"),
    [
        (floats(1, 2), floats(1, 2.5), 0.5),
        (floats(), floats(), 0.0),
        (floats(math.nan, math.inf), floats(math.nan, math.inf), 0.0),
        (floats(math.nan), floats(1), math.inf),
        (floats(math.inf), floats(-math.inf), math.inf),
        (np.array([2**62, 1]), np.array([2**62 + 1, 1]), 1.0),
        (np.array([True, False]), np.array([True, True]), 1.0),
        (np.array([1], np.int32), floats(1.25), 0.25),
        (np.array([3 + 4j]), np.array([0j]), 5.0),
    ],
)
def test_differences(first: np.ndarray, second: np.ndarray, difference: float) -> None:
    assert largest_difference(first, second) == difference


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (floats(1), None, "only one of both has it"),
        (floats(1), floats(1, 2), "shapes differ"),
        (floats(1), np.array([b"a"], dtype=object), "types differ"),
        (np.array([b"a"], dtype=object), np.array([b"b"], dtype=object), "values differ"),
    ],
)
def test_what_numbers_do_not_say(first: np.ndarray, second: np.ndarray | None, reason: str) -> None:
    output = OutputComparison()
    output.add("r", first, second)
    assert (output.equal, output.other, output.worst) == (0, {reason: 1}, "r")
    assert not output.within(math.inf)


def test_equal_strings_are_equal() -> None:
    output = OutputComparison()
    output.add("r", np.array([b"a"], dtype=object), np.array([b"a"], dtype=object))
    assert (output.equal, output.other) == (1, {})
    assert output.within(0)
