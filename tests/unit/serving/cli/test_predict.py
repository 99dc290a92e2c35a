from __future__ import annotations

import json
import re
from pathlib import Path

import grpc
import numpy as np
import pytest

from serval_serving.cli import main
from serval_serving.cli.errors import CliError
from serval_serving.cli.predict import MAX_BATCH, _batches
from serval_serving.cli.times import as_table
from serval_serving.client import Timing
from serval_serving.models.savedmodel import TensorInfo
from serval_serving.wire.tensors import to_array
from unit.serving.client.servers import Model, RestSite, rest_server

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def images(tmp_path: Path) -> list[str]:
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in paths:
        path.write_bytes(b"\x89PNG" + path.name.encode())
    return [str(path) for path in paths]


def test_table(address: str, images: list[str], tmp_path: Path, capsys: Capture) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(f"digit {i}" for i in range(9)))
    assert main(["predict", address, *images, "--top", "2", "--labels", str(labels)]) == 0
    assert capsys.readouterr().out.splitlines()[:5] == [
        "FILE    RANK   CLASS     SCORE",
        "a.png   1      9         9.0000",
        "a.png   2      digit 8   8.0000",
        "b.png   1      9         9.0000",
        "b.png   2      digit 8   8.0000",
    ]


def test_json(address: str, images: list[str], capsys: Capture) -> None:
    assert main(["predict", address, images[0], "--json", "--top", "1"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["file"] == images[0]
    assert found["top"] == [{"class": 9, "label": "9", "score": 9.0}]
    assert found["outputs"]["classes"] == 9
    assert found["outputs"]["probabilities"] == list(range(10))
    assert "b64" in found["outputs"]["echo"]
    ((took, *others),) = [found["milliseconds"]]
    assert not others
    assert took.pop("total") > 0
    assert took == {"network": None, "queue": None, "engine": None, "server": None}


def test_many_files_go_in_batches(address: str, model: Model, images: list[str], capsys: Capture) -> None:
    assert main(["predict", address, *(images[:1] * (MAX_BATCH + 1)), "--top", "1"]) == 0
    assert capsys.readouterr().out.count("a.png") == MAX_BATCH + 1
    assert [len(to_array(request.inputs["images"])) for request in model.requests] == [MAX_BATCH, 1]


def test_model_and_version_are_asked_for(address: str, model: Model, images: list[str]) -> None:
    assert main(["predict", address, images[0], "--model", "m", "--version", "3"]) == 0
    spec = model.requests[0].model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("m", 3, "serving_default")


def test_http(images: list[str], capsys: Capture) -> None:
    site = RestSite()
    site.answer("/score", (200, [[0.1, 0.7, 0.2]]))
    with rest_server(site) as url:
        assert main(["predict", url, *images, "--top", "1"]) == 0
        assert main(["predict", url.removeprefix("http://"), "--http", images[0], "--top", "1"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line.split() for line in out[1:3]] == [
        ["a.png", "1", "1", "0.7000"],
        ["b.png", "1", "1", "0.7000"],
    ]
    assert site.requests[0][2] == b"\x89PNGa.png"


TIMES = "total;dur=0.75, queue;dur=0.25, engine;dur=0.35"


def _cells(line: str) -> list[str]:
    return re.split(r" {2,}", line)


def test_times(address: str, model: Model, images: list[str], capsys: Capture) -> None:
    assert main(["predict", address, images[0]]) == 0
    *_, gap, header, row = capsys.readouterr().out.splitlines()
    assert gap == ""
    assert _cells(header) == ["MILLISECONDS", "TOTAL", "NETWORK", "QUEUE", "ENGINE", "SERVER"]
    assert _cells(row)[0] == "1 request"
    assert _cells(row)[2:] == ["-", "-", "-", "-"]
    model.times = TIMES
    assert main(["predict", address, *images, "--repeat", "3"]) == 0
    *_, median, worst = capsys.readouterr().out.splitlines()
    assert [_cells(median)[0], _cells(worst)[0]] == ["p50 of 3", "p99 of 3"]
    assert _cells(worst)[3:] == ["0.25", "0.35", "0.15"]
    assert len(model.requests) == 4, "both files go in one request, three times"


def test_times_as_json(images: list[str], capsys: Capture) -> None:
    site = RestSite()
    site.answer("/score", (200, [[0.1, 0.7, 0.2]]))
    site.times = TIMES
    with rest_server(site) as url:
        assert main(["predict", url, *images, "--json", "--repeat", "2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [len(entry["milliseconds"]) for entry in found] == [2, 2]
    took = found[0]["milliseconds"][0]
    assert (took["queue"], took["engine"], took["server"]) == pytest.approx((0.25, 0.35, 0.15))
    assert took["total"] == pytest.approx(took["network"] + 0.75, abs=0.002)


def test_percentiles_are_of_what_was_seen() -> None:
    shown = as_table([Timing(total / 1000) for total in range(100, 0, -1)])
    assert [_cells(line)[1] for line in shown.splitlines()[1:]] == ["50.00", "99.00"]


def test_unclear_scores_are_printed_as_they_are(images: list[str], capsys: Capture) -> None:
    site = RestSite()
    site.answer("/score", (200, [[[1.0], [2.0]]]))
    with rest_server(site) as url:
        assert main(["predict", url, images[0]]) == 0
        assert capsys.readouterr().out.splitlines()[1].split(maxsplit=2) == [
            "a.png",
            "score",
            "[[1.0], [2.0]]",
        ]
        assert main(["predict", url, images[0], "--output", "score", "--top", "1"]) == 0
        assert capsys.readouterr().out.splitlines()[1].split() == ["a.png", "1", "1", "2.0000"]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["127.0.0.1:1", "absent.png"], 4, "absent.png cannot be read"),
        (["127.0.0.1:1", "IMAGE", "--top", "0"], 2, "--top"),
        (["127.0.0.1:1", "IMAGE", "--labels", "absent.txt"], 4, "absent.txt"),
        (["127.0.0.1:1", "IMAGE", "--repeat", "0"], 2, "--repeat"),
        (["http://127.0.0.1:1", "IMAGE", "--version", "0"], 2, "/score takes no"),
        (["http://127.0.0.1:1", "IMAGE", "--grpc"], 2, "not a URL"),
        (["http://127.0.0.1:1", "IMAGE", "--timeout", "0.2"], 3, "refused"),
        (["127.0.0.1:1", "IMAGE", "--timeout", "3"], 3, "UNAVAILABLE"),
        (["ADDRESS", "IMAGE", "--signature", "other"], 2, "it has serving_default"),
        (["ADDRESS", "IMAGE", "--output", "other"], 2, "there are classes, echo, probabilities"),
    ],
)
def test_failures(
    address: str, images: list[str], capsys: Capture, arguments: list[str], status: int, words: str
) -> None:
    places = {"ADDRESS": address, "IMAGE": images[0]}
    assert main(["predict", *(places.get(argument, argument) for argument in arguments)]) == status
    error = capsys.readouterr().err
    assert error.startswith("serval: ")
    assert words in error


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, 1),
        (grpc.StatusCode.NOT_FOUND, 4),
        (grpc.StatusCode.DEADLINE_EXCEEDED, 3),
        (grpc.StatusCode.INTERNAL, 1),
    ],
)
def test_words_of_the_server(
    address: str, model: Model, images: list[str], capsys: Capture, code: grpc.StatusCode, status: int
) -> None:
    model.refusals = [(code, "words of the server")]
    assert main(["predict", address, images[0]]) == status
    assert f"{code.name}: words of the server" in capsys.readouterr().err


def test_usage() -> None:
    with pytest.raises(SystemExit) as caught:
        main(["predict", "a:1"])
    assert caught.value.code == 2


def _npy(tmp_path: Path, array: np.ndarray) -> bytes:
    np.save(tmp_path / "a.npy", array)
    return (tmp_path / "a.npy").read_bytes()


@pytest.mark.parametrize(("shape", "sent"), [((2, 3), (1, 2, 3)), ((5, 2, 3), (5, 2, 3))])
def test_arrays_get_type_and_batch(tmp_path: Path, shape: tuple[int, ...], sent: tuple[int, ...]) -> None:
    info = TensorInfo("x", "DT_FLOAT", (-1, 2, 3))
    ((array, rows),) = _batches(info, [_npy(tmp_path, np.ones(shape, np.float64))])
    assert (array.shape, array.dtype, rows) == (sent, np.float32, 1)


@pytest.mark.parametrize("content", [b"", b"text", b"\x93NUMPY"])
def test_no_array(content: bytes) -> None:
    with pytest.raises(CliError, match=r"\.npy"):
        list(_batches(TensorInfo("x", "DT_FLOAT", (-1, 2)), [content]))


@pytest.mark.parametrize(
    ("shape", "shapes"), [((-1,), [(3,)]), (None, [(3,)]), ((1,), [(1,), (1,), (1,)]), ((), [(), (), ()])]
)
def test_string_batches(shape: tuple[int, ...] | None, shapes: list[tuple[int, ...]]) -> None:
    batches = list(_batches(TensorInfo("x", "DT_STRING", shape), [b"a", b"b\0", b"c"]))
    assert [array.shape for array, _ in batches] == shapes
    assert [value for array, _ in batches for value in array.reshape(-1).tolist()] == [b"a", b"b\0", b"c"]
