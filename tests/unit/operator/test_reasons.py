"""The table of reasons: its rows are complete, and the code sets a reason only where its row says so."""

from __future__ import annotations

import importlib
import pkgutil
import re

import pytest

import serval_contract
from serval_contract.reasons import FETCH_REASONS
from serval_operator import constants, conversion_reasons, reasons
from serval_operator.constants import CONVERTED, DEVICE_PROGRAMMED, MODEL_FETCHED
from serval_operator.pods.pod_state import Stage
from serval_operator.reason_rows import Health, Reason
from serval_operator.reasons import REASONS
from serval_operator.registry import KINDS
from unit.operator.pods.pod_rows import ROWS as POD_ROWS
from unit.operator.pods.pod_rows import Row as PodRow
from unit.operator.workload.readiness_rows import ROWS, Row

pytestmark = pytest.mark.unit

SUMMARIES = {"Ready", "Available", "Reconciling", "Stalled"}
"""Conditions that take their reason from others."""
STEPS = {Stage.SCHEDULE: "Scheduled", Stage.FETCH: "ModelFetched", Stage.LOAD: "ModelLoaded"}
NOTHING_TO_DO = {"NamespaceTerminating"}

each_row = pytest.mark.parametrize("row", REASONS.values(), ids=REASONS)


def test_every_row_is_one_constant() -> None:
    every = {**vars(reasons), **vars(conversion_reasons)}
    public = {name: value for name, value in every.items() if name.isupper() and not name.startswith("_")}
    own = {name: value for name, value in public.items() if name not in vars(constants)}
    names = [value for value in own.values() if isinstance(value, str)]
    assert len(names) > 40
    assert sorted(names) == sorted(REASONS)


def reported() -> dict[str, set[str]]:
    """All that programs of pods may report, by the set of the contract that lists it."""
    found = {}
    for module in pkgutil.iter_modules(serval_contract.__path__):
        values = vars(importlib.import_module(f"serval_contract.{module.name}"))
        found |= {name: set(values[name]) for name in values if name.endswith("_REASONS")}
    return found


def test_the_sets_of_the_contract_are_found() -> None:
    expected = {"FETCH_REASONS", "BUILD_REASONS", "CONVERSION_REASONS", "ARTIFACT_REASONS", "DEVICE_REASONS"}
    assert set(reported()) == expected


@pytest.mark.parametrize("name", reported())
def test_everything_that_a_program_reports_has_a_row_with_a_cure(name: str) -> None:
    """A reason without a row would be shown as `JobFailed`, without a cure."""
    condition = DEVICE_PROGRAMMED if name == "DEVICE_REASONS" else CONVERTED
    for reason in reported()[name]:
        assert REASONS[reason].cure
        assert condition in REASONS[reason].conditions


@each_row
class TestRow:
    def test_name_is_one_that_the_api_server_takes(self, row: Reason) -> None:
        assert re.fullmatch(r"[A-Z][A-Za-z]{1,62}", row.name)

    def test_conditions_are_those_that_exist(self, row: Reason) -> None:
        assert row.conditions
        assert set(row.conditions) <= {condition for kind in KINDS for condition in kind.conditions}

    def test_words_fit_a_cell(self, row: Reason) -> None:
        assert row.when
        for text in (row.when, row.cure, row.not_provoked):
            assert "|" not in text
            assert "\n" not in text
            assert not text.endswith(".")

    def test_a_failure_has_a_cure(self, row: Reason) -> None:
        assert row.cure or not row.failure or row.name in NOTHING_TO_DO

    def test_health_is_bad_where_it_makes_ready_false(self, row: Reason) -> None:
        well = {Health.HEALTHY, Health.SUSPENDED}
        if row.failure and set(row.conditions) != {"AcceleratorInUse"}:
            assert row.health not in well
        else:
            assert row.health in well or row.name == "Progressing"

    def test_what_is_not_wrong_has_no_marks_of_a_failure(self, row: Reason) -> None:
        marks = (row.capacity, row.impossible, row.restarts, not row.retry, bool(row.not_provoked))
        assert row.failure or not any(marks)


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_conditions_have_reasons_of_their_own(row: Row) -> None:
    for condition in row.assess().conditions:
        assert condition.type in {*REASONS[condition.reason].conditions, *SUMMARIES}, condition


@pytest.mark.parametrize("row", POD_ROWS, ids=[row.name for row in POD_ROWS])
def test_the_verdict_on_a_pod_belongs_to_the_condition_of_its_step(row: PodRow) -> None:
    if row.stage in STEPS:
        assert STEPS[row.stage] in REASONS[row.reason].conditions


def test_the_table_has_a_row_for_each_reason_of_the_fetcher() -> None:
    assert REASONS.keys() >= FETCH_REASONS
    assert all(MODEL_FETCHED in REASONS[name].conditions for name in FETCH_REASONS)
