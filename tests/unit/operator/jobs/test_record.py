"""Records of Jobs: what is written is read again, fits the schema, and no status makes reading fail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serval_contract.stage_report import StageFile
from serval_operator.api.blocks.jobs import JOB_PHASES, MAX_JOBS, STATUS_JOBS, JobStatus
from serval_operator.api.schema import Block, block_schema
from serval_operator.jobs.record import JobRecord, parse_records
from support import gen
from unit.operator.api.test_views import JSON

pytestmark = pytest.mark.unit

DIGEST = f"sha256:{'ab' * 32}"
FULL = JobRecord(
    "convert",
    "0123456789",
    2,
    "Failed",
    gen.moment(1),
    gen.moment(2),
    "JobFailed",
    "attempt 2 of 2",
    {"layers": 3, "shape": [1, 2.5], "nested": {"a": None}},
    (StageFile("a", DIGEST, 7),),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Status(Block):
    """The status of a kind with Jobs."""

    jobs: Annotated[tuple[JobStatus, ...], STATUS_JOBS] = ()


@pytest.mark.parametrize("record", [FULL, JobRecord("a", "b")])
def test_is_read_as_it_was_written(record: JobRecord) -> None:
    assert parse_records({"jobs": [record.as_json()]}) == (record,)


def test_has_the_fields_of_the_schema() -> None:
    items = block_schema(Status)["properties"]["jobs"]["items"]
    assert set(FULL.as_json()) == set(items["properties"])
    assert set(FULL.as_json()["files"][0]) == set(items["properties"]["files"]["items"]["properties"])
    assert items["properties"]["result"] == {
        "description": "What the Job found, as its stages reported it.",
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": True,
    }
    assert set(items["required"]) <= set(JobRecord("a", "b").as_json())


@pytest.mark.parametrize(
    ("record", "settled", "final"),
    [
        (JobRecord("a", "b", 2), 1, False),
        (JobRecord("a", "b", 2, "Running"), 1, False),
        (JobRecord("a", "b", 2, completed=gen.moment()), 2, False),
        (JobRecord("a", "b", 2, "Succeeded"), 2, True),
        (JobRecord("a", "b", 2, "Failed"), 2, True),
    ],
)
def test_settled(record: JobRecord, settled: int, final: bool) -> None:
    assert (record.settled, record.final) == (settled, final)


FIELDS = st.sampled_from(sorted(FULL.as_json()))


@given(JSON | st.lists(st.dictionaries(FIELDS, JSON, max_size=6), max_size=MAX_JOBS + 2))
def test_no_status_makes_it_fail(jobs: Any) -> None:
    records = parse_records({"jobs": jobs})
    assert len(records) <= MAX_JOBS
    for record in records:
        assert record.phase in JOB_PHASES
        assert parse_records({"jobs": [record.as_json()]}) == (record,)


@given(FIELDS.filter(lambda name: name not in {"name", "inputs", "phase", "attempt"}), JSON)
def test_a_damaged_field_costs_only_itself(name: str, value: Any) -> None:
    (record,) = parse_records({"jobs": [{**FULL.as_json(), name: value}]})
    assert (record.name, record.inputs, record.attempt, record.phase) == (
        "convert",
        "0123456789",
        2,
        "Failed",
    )
