"""What all layers share: markers by folder, a guard around clusters, and counts that hide nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from serval_lab.binaries import ensure
from serval_lab.pins import ALL
from serval_lab.settings import Settings
from suite.results import LAYERS, VARIABLE, collected, count_lines, layer_of, sampled_lines
from support import whole

FORBID_SKIPS = "SERVAL_FORBID_SKIPS"


def pytest_configure() -> None:
    """No test may reach a cluster that it did not make: whatever the caller's environment names is hidden."""
    os.environ["KUBECONFIG"] = "/nonexistent/no-cluster-but-our-own"
    for name in ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        os.environ.pop(name, None)


@pytest.fixture(scope="session")
def helm() -> Path:
    """The real Helm, as the lab has it; built where it is missing."""
    (pin,) = (binary for binary in ALL if binary.name == "helm")
    return ensure([pin], Settings.from_environment(), print).path("helm")


@pytest.fixture
def sampled(record_property: Callable[[str, object], None]) -> Callable[[int, int, str], None]:
    """Records how many of its cases a test ran; the summary names tests that did not run all of them."""
    return lambda ran, total, what: whole.note(record_property, ran, total, what)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with its layer, and run the cheap layers first."""
    for item in items:
        item.add_marker(getattr(pytest.mark, layer_of(item.nodeid)))
    items.sort(key=lambda item: LAYERS.index(layer_of(item.nodeid)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests of each layer really ran, and which of them ran a sample."""
    results = collected(terminalreporter.stats)
    terminalreporter.section("layers")
    for line in (*count_lines(results), *sampled_lines(results)):
        terminalreporter.write_line(line)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where every part must run (`make test`), a skipped test is a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return  # a worker of pytest-xdist: its controller has the reports
    if os.environ.get(FORBID_SKIPS) and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if os.environ.get(VARIABLE):
        collected(reporter.stats).dump(Path(os.environ[VARIABLE]))
