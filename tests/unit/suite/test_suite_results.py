"""The summary of a test run counts every test, wherever it ran, and names those that ran a sample."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from suite.results import LAB_TESTS, Results, collected, count_lines, layer_of, sampled_lines


def report(nodeid: str, when: Any, seconds: float, **properties: str) -> pytest.TestReport:
    return pytest.TestReport(
        nodeid,
        ("", None, ""),
        {},
        "passed",
        None,
        when,
        duration=seconds,
        user_properties=list(properties.items()),
    )


@pytest.mark.parametrize(
    ("nodeid", "layer"),
    [
        ("tests/unit/lab/test_cli.py::test_a", "unit"),
        ("tests/integration/test_crd.py::test_a[x::y]", "integration"),
        ("tests/e2e/test_faults.py::TestNodes::test_a", "e2e"),
        (f"{LAB_TESTS}::test_a", "lab"),
        ("elsewhere/test_a.py::test_a", "?"),
    ],
)
def test_layer_of_a_test(nodeid: str, layer: str) -> None:
    assert layer_of(nodeid) == layer


def test_reports_are_counted_once_and_their_times_added() -> None:
    one, other = "tests/unit/test_a.py::test_one", "tests/e2e/test_b.py::test_other"
    found = collected(
        {
            "": [report(one, "setup", 1.0), report(one, "teardown", 0.5)],
            "passed": [report(one, "call", 2.0, sampled="5 of 20 writes")],
            "error": [report(other, "setup", 4.0)],
            "warnings": ["no report"],
        }
    )
    assert found.counts == {"unit": Counter(passed=1), "e2e": Counter(error=1)}
    assert found.seconds == {one: 3.5, other: 4.0}
    assert found.sampled == {one: "5 of 20 writes"}


def test_results_of_several_processes_are_added(tmp_path: Path) -> None:
    whole = Results()
    for number in range(2):
        path = tmp_path / str(number)
        Results(
            {"unit": Counter(passed=3, skipped=number)},
            Counter({f"test-{number}": 1.0}),
            {f"test-{number}": "some"},
        ).dump(path)
        whole.add(Results.load(path))
    whole.add(Results.load(tmp_path / "of a process that crashed"))
    assert count_lines(whole)[0] == "unit: 6 passed, 0 failed, 0 error, 1 skipped"
    assert whole.seconds == {"test-0": 1.0, "test-1": 1.0}
    assert [line.strip() for line in sampled_lines(whole)] == [
        "2 tests sampled (make test-all runs them whole):",
        "test-0: some",
        "test-1: some",
    ]
