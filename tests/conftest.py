"""What all layers share: markers by folder, a guard around clusters, and counts that hide nothing."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from serval_lab.binaries import ensure
from serval_lab.pins import ALL
from serval_lab.settings import Settings

LAYERS = ("unit", "integration", "e2e")
ROOT = Path(__file__).resolve().parent.parent
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


def layer_of(item: pytest.Item) -> str:
    """Layer of a test: the folder under tests/ that it lies in."""
    return item.path.relative_to(ROOT / "tests").parts[0]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with its layer, and run the cheap layers first."""
    for item in items:
        item.add_marker(getattr(pytest.mark, layer_of(item)))
    items.sort(key=lambda item: LAYERS.index(layer_of(item)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests of each layer really ran."""
    counts = {outcome: Counter[str]() for outcome in ("passed", "failed", "skipped")}
    for outcome, counter in counts.items():
        for report in terminalreporter.stats.get(outcome, []):
            counter[Path(report.nodeid).parts[1] if report.nodeid.startswith("tests/") else "?"] += 1
    terminalreporter.section("layers")
    for layer in LAYERS:
        numbers = ", ".join(f"{counter[layer]} {outcome}" for outcome, counter in counts.items())
        terminalreporter.write_line(f"{layer}: {numbers}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where every part must run (`make test`), a skipped test is a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get(FORBID_SKIPS) and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
