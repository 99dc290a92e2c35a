"""A stage's report, its exit status and its progress page."""

from __future__ import annotations

import http.client
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from serval_contract.progress import PROGRESS_PATH, Progress, parse_progress
from serval_contract.stage_report import StageFile, parse_stage_report
from serval_serving.stages import page
from serval_serving.stages.page import MAX_CONNECTIONS, ProgressPage
from serval_serving.stages.program import Report, StageFailure, StageResult, run_stage
from support.ports import free_port

FILE = StageFile("model.onnx", "sha256:" + "0" * 64, 7)


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "termination-log"
    path.touch()
    return path


def test_success_with_a_page(log: Path) -> None:
    port = free_port()
    pages = []

    def work(report: Report) -> StageResult:
        report(Progress(3, 10, "percent", "folds", "convert"))
        pages.append(get(port, PROGRESS_PATH))
        pages.append(get(port, "/"))
        return StageResult({"layers": 3}, (FILE,))

    assert run_stage("convert", work, progress_port=port, termination_log=log) == 0
    assert [status for status, _ in pages] == [200, 404]
    assert parse_progress(pages[0][1]) == Progress(3, 10, "percent", "folds", "convert")
    report = parse_stage_report(log.read_text())
    assert report is not None
    assert (report.stage, report.result, report.files) == ("convert", {"layers": 3}, (FILE,))


@pytest.mark.parametrize(
    ("error", "reason", "message", "permanent"),
    [
        (StageFailure("AccuracyTooLow", "0.1", permanent=True), "AccuracyTooLow", "0.1", True),
        (StageFailure("ConversionOutOfMemory", "9", permanent=False), "ConversionOutOfMemory", "9", False),
        (KeyError("x"), "", "KeyError: 'x'", False),
    ],
)
def test_failure(log: Path, error: Exception, reason: str, message: str, permanent: bool) -> None:
    def work(_: Report) -> StageResult:
        raise error

    assert run_stage("convert", work, termination_log=log) == 1
    report = parse_stage_report(log.read_text())
    assert report is not None
    assert (report.reason, report.message, report.permanent) == (reason, message, permanent)


def test_a_report_that_is_too_long_is_a_failure(log: Path) -> None:
    assert run_stage("convert", lambda _: StageResult({"log": "x" * 5000}), termination_log=log) == 1
    report = parse_stage_report(log.read_text())
    assert report is not None
    assert "5" in report.message


def test_sigterm_ends_the_work(log: Path) -> None:
    def work(_: Report) -> StageResult:
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError("still running")

    with pytest.raises(SystemExit) as ended:
        run_stage("convert", work, termination_log=log)
    assert ended.value.code == 143


def test_slow_and_silent_clients_do_not_block_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "REQUEST_SECONDS", 0.2)
    with ProgressPage(0) as server:
        idle = [connect(server.port) for _ in range(MAX_CONNECTIONS)]
        for one in idle:
            # Closed by the server without an answer, since no request came.
            assert one.recv(1) == b""
            one.close()
        assert get(server.port, PROGRESS_PATH)[0] == 200


def test_more_connections_than_places_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "REQUEST_SECONDS", 60.0)
    with ProgressPage(0) as server:
        held = [connect(server.port) for _ in range(MAX_CONNECTIONS)]
        with connect(server.port) as late:
            assert late.recv(1) == b""
        for one in held:
            one.sendall(b"GET /progress HTTP/1.1\r\n\r\n")
            assert one.recv(12) == b"HTTP/1.1 200"
            one.close()


@pytest.mark.parametrize("dual", [True, False])
def test_the_page_answers_at_addresses_of_both_kinds(monkeypatch: pytest.MonkeyPatch, dual: bool) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: dual)
    with ProgressPage(0) as server:
        for host in ("127.0.0.1", "::1") if dual else ("127.0.0.1",):
            with connect(server.port, host) as one:
                one.sendall(b"GET /progress HTTP/1.1\r\n\r\n")
                assert one.recv(12) == b"HTTP/1.1 200"


def connect(port: int, host: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection((host, port), timeout=10)


def get(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()
