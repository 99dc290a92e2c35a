from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator

import pytest

from serval_operator import logs


@pytest.fixture
def restored() -> Iterator[None]:
    """The logging of the test run, put back after the test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    quiet = {name: logging.getLogger(name).level for name in logs.QUIET_LOGGERS}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in quiet.items():
        logging.getLogger(name).setLevel(before)


@pytest.fixture
def lines(restored: None) -> io.StringIO:  # noqa: ARG001
    stream = io.StringIO()
    logs.configure("info", "json", stream)
    return stream


def parsed(stream: io.StringIO) -> list[dict[str, str]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def fail(words: str) -> None:
    raise ValueError(words)


def test_a_record_is_one_object_on_one_line(lines: io.StringIO) -> None:
    logging.getLogger("serval_operator.x").warning("said %s\nand more", "this")
    record = parsed(lines)[0]
    assert record["level"] == "warning"
    assert record["logger"] == "serval_operator.x"
    assert record["message"] == "said this and more"
    assert record["time"].endswith("+00:00")
    assert set(record) == {"time", "level", "logger", "message"}


async def test_the_key_is_on_every_record_of_the_work(lines: io.StringIO) -> None:
    log = logging.getLogger("serval_operator.x")

    async def work(name: str) -> None:
        with logs.bound(f"ModelDeployment vision/{name}"):
            await asyncio.sleep(0)
            await asyncio.gather(child(), child())
        log.info("after")

    async def child() -> None:
        log.info("inside")

    await asyncio.gather(work("a"), work("b"))
    found = [record.get("object") for record in parsed(lines)]
    assert sorted(filter(None, found)) == ["ModelDeployment vision/a"] * 2 + ["ModelDeployment vision/b"] * 2
    assert found.count(None) == 2


def test_an_error_keeps_its_trace_and_loses_its_secrets(lines: io.StringIO) -> None:
    try:
        fail("Authorization: Bearer abcd1234.secret at https://me:pw@host/")
    except ValueError:
        logging.getLogger("x").exception("failed with token=%s", "hush")
    text = lines.getvalue()
    assert "abcd1234" not in text
    assert "hush" not in text
    assert "pw@" not in text
    record = parsed(lines)[0]
    assert "Traceback (most recent call last):\n  File" in record["error"]
    assert "ValueError" in record["error"]


def test_text_is_for_people(restored: None) -> None:  # noqa: ARG001
    stream = io.StringIO()
    logs.configure("debug", "text", stream)
    with logs.bound("ModelDeployment vision/resnet"):
        logging.getLogger("x").debug("hello")
    try:
        fail("broken")
    except ValueError:
        logging.getLogger("x").exception("failed")
    first, *rest = stream.getvalue().splitlines()
    assert first.endswith("debug   x [ModelDeployment vision/resnet] hello")
    assert rest[0].endswith("error   x failed")
    assert rest[-1] == "ValueError: broken"


def test_libraries_are_quiet_until_asked(lines: io.StringIO) -> None:
    logging.getLogger("kopf.objects").info("handler succeeded")
    logging.getLogger("kopf.objects").warning("handler failed")
    assert [record["message"] for record in parsed(lines)] == ["handler failed"]
    logs.configure("debug", "json", lines)
    logging.getLogger("kopf.objects").debug("handler is invoked")
    assert parsed(lines)[-1]["message"] == "handler is invoked"


def test_least_level(restored: None) -> None:  # noqa: ARG001
    stream = io.StringIO()
    logs.configure("error", "json", stream)
    logging.getLogger("serval_operator").warning("no")
    logging.getLogger("kopf").warning("no")
    logging.getLogger("serval_operator").error("yes")
    assert [record["message"] for record in parsed(stream)] == ["yes"]
