"""Whole lives of Jobs: the operator is killed between two requests, and Jobs and pods disappear."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from serval_operator.api.job_snapshots import parse_job
from support import gen
from unit.operator.jobs.jobs_world import DONE, World, failure

pytestmark = pytest.mark.unit

ATTEMPTS = 3
CODES = st.sampled_from([0, 1])


class Lives(RuleBasedStateMachine):
    """Random steps of the operator, the cluster and its users."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(attempts=ATTEMPTS)
        self.final: dict[str, dict[str, Any]] = {}
        """Final records that were stored, by their inputs, since these inputs are the plan's."""
        self.started_after_the_end = False
        self.pending: list[Callable[[], None]] = []
        """Requests of a reconcile in progress; the last one writes the status."""

    # --- the operator and its users -------------------------------------------------------------------

    @rule(most=st.integers(0, 4))
    def reconcile_and_be_killed(self, most: int) -> None:
        self.pending.clear()
        self.world.reconcile(most)
        self.note()

    @rule()
    def begin_to_reconcile(self) -> None:
        self.pending = self.world.requests(self.world.decide())

    @precondition(lambda self: self.pending)
    @rule()
    def send_the_next_request(self) -> None:
        self.pending.pop(0)()
        self.note()

    @rule()
    def reconcile(self) -> None:
        self.pending.clear()
        self.world.reconcile()
        self.note()

    @rule(inputs=st.sampled_from(["a", "b"]))
    def edit(self, inputs: str) -> None:
        if inputs != self.world.plan.inputs:
            self.final.clear()
            # The status of an object that was edited meanwhile is refused.
            del self.pending[-1:]
        self.world.plan = replace(self.world.plan, inputs=inputs)

    @rule(suspend=st.booleans())
    def suspend(self, suspend: bool) -> None:
        self.world.plan = replace(self.world.plan, suspend=suspend)

    @rule(seconds=st.sampled_from([1.0, 15.0, 400.0]))
    def wait(self, seconds: float) -> None:
        self.world.seconds += seconds

    @precondition(lambda self: self.world.jobs)
    @rule(data=st.data())
    def delete_a_job(self, data: st.DataObject) -> None:
        del self.world.jobs[data.draw(st.sampled_from(sorted(self.world.jobs)))]

    @precondition(lambda self: self.world.pods)
    @rule(data=st.data())
    def delete_a_pod(self, data: st.DataObject) -> None:
        del self.world.pods[data.draw(st.sampled_from(sorted(self.world.pods)))]

    # --- the cluster ----------------------------------------------------------------------------------

    @rule(code=CODES)
    def go_on_undisturbed(self, code: int) -> None:
        self.world.plan = replace(self.world.plan, suspend=False)
        self.world.seconds += 100.0
        self.reconcile()
        self.control_jobs()
        for name in self.world.running():
            self.world.finish(self.world.pods[name], code, "" if code else DONE)
        self.control_jobs()
        self.reconcile()

    @rule()
    def control_jobs(self) -> None:
        for job in list(self.world.jobs.values()):
            self.control(job)

    @precondition(lambda self: self.world.running())
    @rule(code=CODES, permanent=st.booleans())
    def end_a_stage(self, code: int, permanent: bool) -> None:
        name = self.world.running()[0]
        message = failure("Broken", "no", permanent=permanent) if code else DONE
        self.world.finish(self.world.pods[name], code, message)

    @precondition(lambda self: self.world.running())
    @rule()
    def evict(self) -> None:
        gen.evicted("disk pressure")(self.world.pods[self.world.running()[0]])

    def control(self, job: gen.Object) -> None:
        """Do what the Job controller does about one Job."""
        view, pod = parse_job(job), self.world.pod_of(job)
        if view.finished:
            return
        phase = pod["status"]["phase"] if pod else ""
        if view.suspended:
            if pod and phase == "Running":
                del self.world.pods[pod["metadata"]["name"]]
        elif pod is None or pod["status"].get("reason") == "Evicted":
            # With a pod that was deleted, the real controller fails the Job; here it may run on.
            self.world.start(job)
            self.started_after_the_end |= view.inputs in self.final
        elif phase in {"Succeeded", "Failed"}:
            kind = "Complete" if phase == "Succeeded" else "Failed"
            self.world.end(job, kind, "BackoffLimitExceeded" if phase == "Failed" else "")

    # --- what holds -----------------------------------------------------------------------------------

    def note(self) -> None:
        """Remember final records of the present inputs."""
        inputs = self.world.plan.inputs_digest
        for entry in self.world.status.get("jobs", ()):
            if entry["phase"] in {"Succeeded", "Failed"} and entry["inputs"] == inputs:
                self.final.setdefault(inputs, entry)

    @invariant()
    def at_most_one_pod_runs(self) -> None:
        assert len(self.world.running()) <= 1

    @invariant()
    def at_most_one_job_is_unfinished(self) -> None:
        assert sum(not parse_job(job).finished for job in self.world.jobs.values()) <= 1

    @invariant()
    def what_is_finished_stays_finished(self) -> None:
        assert not self.started_after_the_end
        inputs = self.world.plan.inputs_digest
        if inputs in self.final:
            decision = self.world.decide()
            assert decision.creations == ()
            assert [one.as_json() for one in decision.records] == [self.final[inputs]]

    def teardown(self) -> None:
        """Once nothing is disturbed any more, the end is reached."""
        self.world.plan = replace(self.world.plan, suspend=False)
        for _ in range(60):
            self.world.reconcile()
            self.note()
            self.control_jobs()
            for name in self.world.running():
                self.world.finish(self.world.pods[name])
            self.world.seconds += 100.0
            decision = self.world.decide()
            if decision.complete or decision.failed:
                break
        self.world.reconcile()
        decision = self.world.reconcile()
        assert decision.complete or decision.failed
        assert [*decision.creations, *decision.patches, *decision.deletions] == []
        assert len(self.world.jobs) <= 1
        assert self.world.record.inputs == self.world.plan.inputs_digest
        self.what_is_finished_stays_finished()
        super().teardown()


Lives.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestLives = Lives.TestCase
