from __future__ import annotations

import pytest

from serval_serving.wire.timing import REPLY_HEADER, read_times, reply_header, write_times


def test_what_is_written_is_read() -> None:
    text = write_times({"total": 0.0031, "queue": 0.0, "engine": 1.25})
    assert text == "total;dur=3.100, queue;dur=0.000, engine;dur=1250.000"
    assert read_times(text) == pytest.approx({"total": 0.0031, "queue": 0.0, "engine": 1.25})


@pytest.mark.parametrize(
    ("text", "times"),
    [
        ("", {}),
        ("miss, db;dur=53, app;desc=x;dur=47.2", {"db": 0.053, "app": 0.0472}),
        ('total ; DUR="2"', {"total": 0.002}),
        ("total;dur=soon,,;", {}),
    ],
)
def test_what_others_write(text: str, times: dict[str, float]) -> None:
    assert read_times(text) == pytest.approx(times)


def test_metadata() -> None:
    assert reply_header(None) == ""
    assert reply_header((("other", b"x"), (REPLY_HEADER, "total;dur=1"))) == "total;dur=1"
