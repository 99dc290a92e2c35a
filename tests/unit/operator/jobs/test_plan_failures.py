"""Deciding about Jobs that failed: what is recorded, when the next attempt follows, and when none does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support import gen
from unit.operator.jobs.jobs_world import PLAN, created, failure, nothing, stages

pytestmark = pytest.mark.unit

CRASH = "Traceback\nValueError: no such layer"


class TestFailure:
    def test_is_recorded_and_followed_by_another_attempt(self) -> None:
        world = created()
        world.run(code=1, message=CRASH)
        decision = world.reconcile()
        assert nothing(decision)
        assert decision.again == pytest.approx(10.0)
        assert not decision.failed
        record = world.record
        assert (record.phase, record.attempt, record.completed) == ("Pending", 1, gen.moment(0))
        assert (record.reason, record.message) == (
            "JobFailed",
            "attempt 1 of 3: stage convert ended with exit code 1: ValueError: no such layer",
        )
        world.seconds = 9.0
        assert nothing(world.reconcile())
        assert world.decide().again == pytest.approx(1.0)
        world.seconds = 10.0
        world.reconcile()
        assert world.record.attempt == 2
        assert world.names == ["convert-1", "convert-2"]

    def test_an_earlier_attempt_goes_once_the_next_is_stored(self) -> None:
        world = created()
        world.run(code=1)
        world.reconcile()
        world.seconds = 10.0
        world.reconcile()
        assert [one.target.uid for one in world.reconcile().deletions] == ["uid-1"]
        assert world.names == ["convert-2"]

    def test_an_earlier_attempt_stays_while_its_end_is_not_stored(self) -> None:
        world = created()
        world.run(code=1)
        world.reconcile()
        world.seconds = 10.0
        world.reconcile()
        world.status.clear()
        assert world.reconcile().deletions == ()
        assert [one.target.uid for one in world.reconcile().deletions] == ["uid-1"]

    @pytest.mark.parametrize("most", [0, 1])
    def test_killed_around_the_record_it_counts_once(self, most: int) -> None:
        world = created()
        world.run(code=1)
        world.reconcile(most=most)
        world.reconcile()
        world.seconds = 10.0
        world.reconcile()
        assert world.record.attempt == 2

    def test_killed_after_the_next_attempt_is_created_it_goes_on_with_it(self) -> None:
        world = created()
        world.run(code=1)
        world.reconcile()
        world.seconds = 10.0
        world.reconcile(most=1)
        assert world.record.attempt == 1
        world.run(attempt=2)
        world.reconcile()
        assert (world.record.phase, world.record.attempt) == ("Succeeded", 2)

    def test_removed_by_hand_after_the_record_the_next_attempt_follows(self) -> None:
        world = created()
        world.run(code=1)
        world.reconcile()
        world.jobs.clear()
        world.pods.clear()
        assert nothing(world.reconcile())
        world.seconds = 10.0
        world.reconcile()
        assert world.names == ["convert-2"]

    def test_the_pause_doubles_up_to_five_minutes(self) -> None:
        world = created(attempts=8)
        pauses = []
        for attempt in range(1, 8):
            world.run(attempt, code=1)
            pause = world.reconcile().again
            assert pause is not None
            pauses.append(pause)
            world.seconds += pause
            world.reconcile()
        assert pauses == pytest.approx([10, 20, 40, 80, 160, 300, 300])

    def test_attempts_come_to_an_end(self) -> None:
        world = created(attempts=2)
        world.run(code=1)
        world.reconcile()
        world.seconds = 10.0
        world.reconcile()
        world.run(attempt=2, code=1)
        decision = world.reconcile()
        assert decision.failed
        assert (world.record.phase, world.record.attempt) == ("Failed", 2)
        world.seconds = 10_000.0
        world.jobs.clear()
        assert nothing(world.reconcile())
        decision = world.decide()
        assert (decision.complete, decision.failed, decision.again) == (False, True, None)
        assert decision.verdict is not None
        assert decision.verdict.reason == "JobFailed"

    def test_fewer_attempts_than_were_made_are_the_end(self) -> None:
        world = created()
        world.run(code=1)
        world.reconcile()
        world.plan = replace(PLAN, attempts=1)
        world.reconcile()
        assert (world.record.phase, world.record.reason) == ("Failed", "JobFailed")

    def test_a_permanent_one_is_not_tried_again(self) -> None:
        world = created()
        world.run(code=1, message=failure("NotConvertible", "layer 3", permanent=True))
        decision = world.reconcile()
        assert (world.record.phase, world.record.reason) == ("Failed", "NotConvertible")
        assert decision.verdict is not None
        assert (decision.verdict.reason, decision.verdict.message) == (
            "JobFailed",
            "Job convert: NotConvertible: attempt 1 of 3: stage convert: layer 3",
        )
        world.seconds = 10_000.0
        assert nothing(world.reconcile())

    def test_other_inputs_run_after_it(self) -> None:
        world = created(attempts=1)
        world.run(code=1)
        world.reconcile()
        world.plan = replace(world.plan, inputs="other")
        world.reconcile()
        assert world.names == ["convert-1"]
        assert (world.record.phase, world.record.attempt) == ("Pending", 1)

    def test_of_memory_is_named(self) -> None:
        world = created()
        world.run(code=137)
        (pod,) = world.pods.values()
        stages(pod, convert=gen.ended(137, reason="OOMKilled"))
        world.reconcile()
        assert world.record.reason == "OutOfMemory"

    def test_of_the_deadline_tells_what_held_it_up(self) -> None:
        world = created()
        pod = world.start(world.job())
        stages(pod, download=gen.waiting("ErrImagePull", "no such image"))
        world.reconcile()
        gen.deleting(pod)
        world.end(world.job(), "FailureTarget", "DeadlineExceeded")
        before = world.record
        assert nothing(world.reconcile())
        assert world.record == before
        world.pods.clear()
        world.end(world.job(), "Failed", "DeadlineExceeded", "Job was active longer than specified deadline")
        world.reconcile()
        assert world.record.reason == "JobDeadlineExceeded"
        name = world.job()["metadata"]["name"]
        assert world.record.message == f"attempt 1 of 3: {name} ran longer than its deadline: no such image"

    def test_without_a_pod_is_told_in_the_words_of_the_job(self) -> None:
        world = created()
        world.end(
            world.job(), "Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit"
        )
        assert world.decide().records[0].completed is None  # the pod may be seen later
        world.seconds = 10.0
        world.reconcile()
        assert world.record.message == "attempt 1 of 3: Job has reached the specified backoff limit"


class TestResult:
    def test_that_is_lost_is_a_failed_attempt(self) -> None:
        world = created()
        world.run()
        world.pods.clear()
        decision = world.decide()
        assert decision.records[0].phase == "Running"
        assert decision.again == pytest.approx(10.0)
        world.seconds = 10.0
        world.reconcile()
        assert (world.record.phase, world.record.reason) == ("Pending", "JobResultLost")
        assert "its pod was deleted" in world.record.message
        world.seconds = 20.0
        world.reconcile()
        assert world.names == ["convert-1", "convert-2"]

    def test_whose_pod_is_seen_later_is_waited_for(self) -> None:
        world = created()
        pod = world.start(world.job())
        world.end(world.job(), "Complete")
        assert nothing(world.reconcile())
        assert world.record.completed is None
        world.finish(pod)
        world.reconcile()
        assert world.record.phase == "Succeeded"

    @pytest.mark.parametrize("message", ["", "done", '{"serval": "fetch", "ok": true}'])
    def test_that_was_not_reported_is_a_failed_attempt(self, message: str) -> None:
        world = created()
        world.run(message=message)
        world.reconcile()
        assert world.record.reason == "JobResultLost"
        assert "reported no result" in world.record.message
