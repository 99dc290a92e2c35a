"""`make test` samples what is expensive; with SERVAL_WHOLE nothing is left out."""

from __future__ import annotations

import pytest

from support import whole

CASES = range(1, 21)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(whole.VARIABLE, raising=False)
    monkeypatch.setenv(whole.SEED_VARIABLE, "some day")


def test_a_sample_is_the_same_for_a_seed_and_another_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = whole.sample(CASES, 5)
    assert len(set(chosen)) == 5
    assert chosen == sorted(chosen) == whole.sample(CASES, 5)
    covered = set(chosen)
    for day in range(30):
        monkeypatch.setenv(whole.SEED_VARIABLE, str(day))
        covered |= set(whole.sample(CASES, 5))
    assert covered == set(CASES), "each case has its day"


def test_few_cases_all_run() -> None:
    assert whole.sample([1, 2], 5) == [1, 2]
    assert whole.amount(5, 2) == 2


def test_whole_leaves_nothing_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(whole.VARIABLE, "1")
    assert whole.sample(CASES, 5) == list(CASES)
    assert whole.amount(5, 20) == 20


def test_only_what_ran_in_part_is_noted() -> None:
    noted: list[tuple[str, object]] = []
    for ran in (20, 5):
        whole.note(lambda name, value: noted.append((name, value)), ran, 20, "writes")
    assert noted == [(whole.PROPERTY, "5 of 20 writes")]
