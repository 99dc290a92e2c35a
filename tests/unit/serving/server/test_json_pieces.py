"""Large bodies of JSON: read in pieces they mean what they mean as a whole, and no piece is large."""

from __future__ import annotations

import gc
import json
import random
from typing import Any

import orjson
import pytest

from serval_serving.server import json_pieces, json_values
from serval_serving.wire.heavy_work import HEAVY_BYTES, heavy_work
from serval_serving.wire.status import StatusError

_SCALARS = (0, 1.5, -2e10, True, None, "a", 'q"\\,[]{}', "\\\\", "\\", '"', "long " * 9)
_FAULTS = (b"", b",", b"]", b"}", b"[", b"{", b'"', b"\\", b"NaN", b":", b'"a":', b" ")


def _value(rng: random.Random, depth: int) -> Any:
    """Make a random value."""
    kind = rng.random()
    if depth <= 0 or kind < 0.3:
        return rng.choice(_SCALARS)
    if kind < 0.7:
        return [_value(rng, depth - 1) for _ in range(rng.randint(0, 6))]
    return {f"k{rng.randint(0, 9)}": _value(rng, depth - 1) for _ in range(rng.randint(0, 4))}


def _body(rng: random.Random) -> bytes:
    """Make a random body; half of them are at fault."""
    body = json.dumps({"instances": [_value(rng, 4) for _ in range(3)], "z": _value(rng, 2)}).encode()
    if rng.random() < 0.5:
        at = rng.randrange(1, len(body))
        body = body[:at] + rng.choice(_FAULTS) + body[at + rng.randint(0, 2) :]
    return body


def _told(body: bytes) -> Any:
    """Read a body: its document, or the words of its error."""
    try:
        return json_values.parse(body)
    except StatusError as error:
        return str(error)


def test_pieces_mean_what_the_whole_means(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut at any place, documents are the same, and so are the words for faults."""
    rng = random.Random(7)
    faults = 0
    monkeypatch.setattr(json_pieces, "MANY_VALUES", 0)
    for _ in range(400):
        body = _body(rng)
        monkeypatch.setattr(json_values, "HEAVY_BYTES", len(body) + 1)
        whole = _told(body)
        monkeypatch.setattr(json_values, "HEAVY_BYTES", 0)
        monkeypatch.setattr(json_pieces, "PIECE_BYTES", rng.choice((3, 5, 9, 17, 40)))
        assert _told(body) == whole, body
        faults += isinstance(whole, str)
    assert faults > 50


@pytest.mark.parametrize(
    "row",
    [b"0", b"-1.25e3", b"[0]", b'{"a":0}', b'"a"', b'"\\"],["', b"[[[1],[2]],[[3],[4]]]", b'{"a":{"b":[0]}}'],
)
def test_no_piece_is_large(row: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parser never gets much more than a piece at a time, so that it never holds up others for long."""
    sizes: list[int] = []
    strict = orjson.loads

    def loads(text: bytes) -> Any:
        sizes.append(len(text))
        return strict(text)

    body = b'{"signature_name":"s","instances":[' + b",".join([row] * (4 * HEAVY_BYTES // len(row))) + b"]}"
    monkeypatch.setattr(json_values.orjson, "loads", loads)
    monkeypatch.setattr(json_pieces, "MANY_VALUES", 0)
    assert json_values.parse(body) == strict(body)
    assert len(sizes) > 5
    assert max(sizes) < json_pieces.PIECE_BYTES + 1000


def test_long_strings_are_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """To look for places to cut takes longer than to read a body of few values."""

    def never(*_arguments: object) -> None:
        raise AssertionError

    monkeypatch.setattr(json_pieces, "read", never)
    body = b'{"instances":[{"b64":"' + b"A" * 1_000_000 + b'"}]}'
    assert json_values.parse(body) == orjson.loads(body)
    assert json_pieces.is_long(b'{"instances":[' + b"0," * json_pieces.MANY_VALUES + b"0]}")


def test_a_check_stops_the_reading() -> None:
    """The deadline is looked at between pieces."""

    class LateError(Exception):
        pass

    def late() -> None:
        raise LateError

    with pytest.raises(LateError):
        json_values.parse(b'{"instances":[' + b"0," * HEAVY_BYTES + b"0]}", late)


def test_the_last_value_of_a_key_counts() -> None:
    """Where a key stands twice, the last value counts also if it is in another piece, or cut."""
    zeros = b"0," * HEAVY_BYTES + b"0"
    body = b'{"instances":[1],"x":2,"y":[' + zeros + b'],"instances":[' + zeros + b"]}"
    assert json_values.parse(body) == orjson.loads(body)


def test_an_ambiguous_key_is_refused() -> None:
    """A key that stands twice within a piece, the second time with a cut value, is refused by name."""
    body = b'{"instances":[1],"x":[2],"instances":[' + b"0," * HEAVY_BYTES + b"0]}"
    with pytest.raises(StatusError, match="a key stands twice"):
        json_values.parse(body)


@pytest.mark.parametrize("value", [0, [], {}, [0] * 20_000, [[0] * 20] * 3, {"a": [{"b": [1]}] * 9000}])
def test_a_document_is_emptied(value: Any) -> None:
    """All lists and objects of a document that are large end up empty."""
    document = {"instances": value}
    json_pieces.take_apart(document)
    assert not document
    assert not value


def test_no_cycles_are_collected_beside_a_large_message() -> None:
    """The collector rests while a large message is worked on, and then goes on."""
    assert gc.isenabled()
    with heavy_work(HEAVY_BYTES):
        assert not gc.isenabled()
    assert gc.isenabled()
    with heavy_work(HEAVY_BYTES - 1):
        assert gc.isenabled()
