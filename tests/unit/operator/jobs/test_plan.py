"""Deciding about Jobs: what runs when, what is recorded, and that what is finished never runs again."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from serval_contract.progress import Progress
from serval_contract.stage_report import StageFile, StageReport
from serval_operator.api.resources import JOBS
from serval_operator.jobs.plan import plan_jobs
from support import gen
from unit.operator.jobs.jobs_world import PLAN, RESULT, World, created, nothing, stages

pytestmark = pytest.mark.unit

DIGEST = f"sha256:{'ab' * 32}"


def succeeded() -> World:
    """A world whose first Job is recorded as Succeeded."""
    world = created()
    world.run()
    world.reconcile()
    return world


class TestFirstJob:
    def test_is_created_under_the_name_of_inputs_and_attempt(self) -> None:
        world = World()
        decision = world.reconcile()
        (creation,) = decision.creations
        assert creation.resource is JOBS
        assert creation.manifest["metadata"]["name"] == f"digits-convert-{PLAN.inputs_digest}-1"
        assert not decision.complete
        assert decision.verdict is not None
        assert decision.verdict.reason == "Progressing"
        assert world.record.phase == "Pending"

    def test_is_created_once(self) -> None:
        world = created()
        assert nothing(world.reconcile())
        assert world.names == ["convert-1"]

    def test_is_not_created_again_after_a_restart_before_the_record(self) -> None:
        world = World()
        world.reconcile(most=1)
        assert world.status == {}
        assert nothing(world.reconcile())
        assert world.record.attempt == 1

    def test_without_plans_there_is_nothing_to_wait_for(self) -> None:
        decision = plan_jobs(World().observed(), [])
        assert (decision.complete, decision.verdict, decision.records, decision.again) == (
            True,
            None,
            (),
            None,
        )


class TestRunning:
    def test_tells_the_stage(self) -> None:
        world = created()
        world.start(world.job())
        world.reconcile()
        assert (world.record.phase, world.record.message) == ("Running", "stage download runs")
        assert world.record.started == gen.moment(0)

    def test_tells_the_progress_of_this_stage(self) -> None:
        world = created()
        pod = world.start(world.job())
        uid = pod["metadata"]["uid"]
        known = {uid: Progress(3, 10, "files", stage="download")}
        assert plan_jobs(world.observed(), [PLAN], known).records[0].message == (
            "stage download: 3 of 10 files"
        )
        stages(pod, download=gen.ended(0), convert=gen.running())
        assert plan_jobs(world.observed(), [PLAN], known).records[0].message == "stage convert runs"

    def test_is_polled_where_it_has_a_port(self) -> None:
        world = created()
        assert world.decide().to_poll == ()
        world.start(world.job())
        ((pod, port),) = [(one.pod.ip, one.port) for one in world.decide().to_poll]
        assert (pod, port) == ("10.0.0.1", 8080)
        assert plan_jobs(world.observed(), [replace(PLAN, progress_port=None)]).to_poll == ()

    def test_tells_that_no_node_takes_the_pod(self) -> None:
        world = created()
        pod = world.start(world.job())
        pod["spec"], pod["status"] = {}, {"phase": "Pending"}
        gen.unschedulable("0/3 nodes are available")(pod)
        decision = world.reconcile()
        assert (world.record.phase, world.record.reason) == ("Pending", "Unschedulable")
        assert decision.verdict is not None
        assert (decision.verdict.reason, decision.failed) == ("Unschedulable", False)

    @pytest.mark.parametrize("when", ["created", "recorded", "running"])
    def test_deleted_by_hand_it_is_created_again_under_the_same_name(self, when: str) -> None:
        world = World()
        world.reconcile(most=1 if when == "created" else None)
        names = list(world.jobs)
        if when == "running":
            world.start(world.job())
            world.reconcile()
        world.jobs.clear()
        world.pods.clear()
        world.reconcile()
        assert list(world.jobs) == names
        assert world.record.attempt == 1

    def test_deleted_by_hand_the_next_waits_for_the_end_of_its_pod(self) -> None:
        world = created()
        pod = world.start(world.job())
        world.jobs.clear()
        decision = world.reconcile()
        assert nothing(decision)
        assert world.record.message == f"waiting for the end of pod {pod['metadata']['name']}"
        world.finish(pod, 137)
        world.reconcile()
        assert world.names == ["convert-1"]

    def test_the_pod_of_a_deleted_job_of_the_same_name_is_not_taken_for_its_own(self) -> None:
        world = created()
        world.finish(world.start(world.job()))
        world.jobs.clear()
        world.seconds = 20
        world.reconcile()
        assert world.decide().records[0].message.endswith("has no pod yet")

    def test_being_deleted_it_is_waited_for(self) -> None:
        world = created()
        gen.deleting(world.job())
        decision = world.reconcile()
        assert nothing(decision)
        assert world.record.message.endswith("is being deleted")

    def test_a_disrupted_pod_is_replaced_and_is_no_failure(self) -> None:
        world = created()
        gen.evicted("The node was low on resource")(world.start(world.job()))
        assert nothing(world.reconcile())
        assert (world.record.phase, world.record.completed) == ("Pending", None)
        world.seconds = 5
        world.finish(world.start(world.job()))
        world.end(world.job(), "Complete")
        world.reconcile()
        assert (world.record.phase, world.record.attempt) == ("Succeeded", 1)


class TestSuccess:
    def test_is_recorded_with_its_result(self) -> None:
        world = created()
        job = world.job()
        pod = world.start(job)
        world.finish(pod)
        first = StageReport("download", {"bytes": 7, "layers": 1}, (StageFile("a", DIGEST, 1),)).dump()
        last = StageReport("convert", RESULT, (StageFile("b", DIGEST, 2),)).dump()
        stages(pod, download=gen.ended(0, first), convert=gen.ended(0, last))
        world.seconds = 30
        world.end(job, "Complete")
        world.reconcile()
        record = world.record
        assert (record.phase, record.reason, record.message) == ("Succeeded", "", "")
        assert record.result == {"bytes": 7, "layers": 3}
        assert [one.name for one in record.files] == ["a", "b"]
        assert (record.started, record.completed) == (gen.moment(0), gen.moment(30))

    def test_counts_only_once_it_is_stored(self) -> None:
        world = created()
        world.run()
        decision = world.decide()
        assert not decision.complete
        assert decision.verdict is not None
        assert decision.verdict.reason == "Progressing"
        assert decision.again == pytest.approx(0.1)
        world.reconcile()
        assert world.decide().complete
        assert (world.decide().verdict, world.decide().again) == (None, None)

    def test_keeps_its_job_for_the_logs(self) -> None:
        world = succeeded()
        assert nothing(world.reconcile())
        assert world.names == ["convert-1"]

    @pytest.mark.parametrize("most", [0, 1])
    def test_killed_around_the_record_it_does_not_run_again(self, most: int) -> None:
        world = created()
        world.run()
        world.reconcile(most=most)
        assert nothing(world.reconcile())
        world.reconcile()
        assert world.record.phase == "Succeeded"
        assert world.made == 2  # a Job and its pod

    def test_removed_by_hand_it_does_not_run_again(self) -> None:
        world = succeeded()
        before = world.record
        world.jobs.clear()
        world.pods.clear()
        world.seconds = 10_000
        decision = world.reconcile()
        assert nothing(decision)
        assert decision.complete
        assert world.record == before

    def test_removed_by_hand_before_the_record_it_runs_again(self) -> None:
        world = created()
        world.run()
        world.jobs.clear()
        world.pods.clear()
        world.reconcile()
        assert world.names == ["convert-1"]
        assert world.record.phase == "Pending"

    def test_another_template_does_not_run(self) -> None:
        world = succeeded()
        world.plan = replace(PLAN, template={"spec": {"containers": []}}, deadline_seconds=1)
        assert nothing(world.reconcile())
        assert world.decide().complete

    def test_a_job_that_another_client_made_for_these_inputs_is_deleted(self) -> None:
        world = succeeded()
        for attempt in (1, 2):
            manifest = deepcopy(world.job())
            manifest["metadata"] |= {"name": f"again-{attempt}", "uid": f"again-{attempt}"}
            manifest["metadata"]["labels"]["serval.dev/attempt"] = str(attempt)
            manifest["status"] = {}
            world.jobs[f"again-{attempt}"] = manifest
        assert {one.target.name for one in world.decide().deletions} == {"again-1", "again-2"}

    def test_without_a_result_where_none_is_expected(self) -> None:
        world = created(expects_result=False)
        world.run(message="")
        world.pods.clear()
        world.reconcile()
        assert world.record.phase == "Succeeded"


class TestInputs:
    def test_others_run_again(self) -> None:
        world = succeeded()
        world.plan = replace(PLAN, inputs={"model": "b"})
        decision = world.reconcile()
        assert len(decision.creations) == len(decision.deletions) == 1
        assert not decision.complete
        assert world.record.inputs == world.plan.inputs_digest
        world.run()
        world.reconcile()
        assert world.decide().complete

    def test_while_a_job_runs_it_is_deleted_and_the_next_waits_for_its_end(self) -> None:
        world = created()
        pod = world.start(world.job())
        world.plan = replace(PLAN, inputs={"model": "b"})
        decision = world.reconcile()
        assert decision.creations == ()
        assert [one.target.uid for one in decision.deletions] == ["uid-1"]
        assert nothing(world.reconcile())
        world.finish(pod, 137)
        world.reconcile()
        assert world.record.inputs == world.plan.inputs_digest
        assert len(world.jobs) == 1

    def test_back_to_earlier_ones_while_their_job_goes(self) -> None:
        world = created()
        gen.deleting(world.job())
        world.status["jobs"][0]["inputs"] = "other"
        assert nothing(world.reconcile())
        world.jobs.clear()
        world.reconcile()
        assert world.names == ["convert-1"]

    def test_of_a_plan_that_is_not_wanted_any_more(self) -> None:
        world = created()
        decision = plan_jobs(world.observed(), [replace(PLAN, name="other")])
        assert [one.target.uid for one in decision.deletions] == ["uid-1"]
        assert [one.name for one in decision.records] == ["other"]


class TestSuspend:
    def test_is_created_suspended(self) -> None:
        world = created(suspend=True)
        assert world.job()["spec"]["suspend"] is True
        assert (world.record.phase, world.record.reason) == ("Suspended", "Suspended")
        assert nothing(world.reconcile())
        assert world.record.phase == "Suspended"

    def test_later_only_this_field_changes(self) -> None:
        world = created(suspend=True)
        for suspend in (False, True):
            world.plan = replace(PLAN, suspend=suspend, template={"spec": {}}, deadline_seconds=7)
            (patch,) = world.reconcile().patches
            assert (patch.resource, patch.target.uid) == (JOBS, "uid-1")
            assert patch.fields == {"spec": {"suspend": suspend}}
            assert nothing(world.reconcile())

    def test_of_what_is_finished_changes_nothing(self) -> None:
        world = succeeded()
        world.plan = replace(PLAN, suspend=True)
        assert nothing(world.reconcile())
        assert world.decide().complete


class TestSeveral:
    def test_are_independent_and_complete_together(self) -> None:
        world = succeeded()
        other = replace(PLAN, name="push", inputs="b")
        decision = plan_jobs(world.observed(), [world.plan, other])
        assert [one.phase for one in decision.records] == ["Succeeded", "Pending"]
        assert (len(decision.creations), decision.deletions, decision.complete) == (1, (), False)
        assert decision.verdict is not None
        assert decision.verdict.message.startswith("Job push: ")

    def test_a_pod_of_another_job_is_not_in_the_way(self) -> None:
        world = created()
        world.start(world.job())
        decision = plan_jobs(world.observed(), [PLAN, replace(PLAN, name="push")])
        assert len(decision.creations) == 1


class TestForeignStatus:
    @pytest.mark.parametrize(
        "jobs",
        [None, {}, "x", [1], [{}], [{"name": "convert"}], [{"name": 1, "inputs": 2}], [{"inputs": "x"}]],
    )
    def test_says_nothing(self, jobs: Any) -> None:
        world = World()
        world.status["jobs"] = jobs
        assert len(world.reconcile().creations) == 1

    def test_that_is_lost_is_found_again_in_the_job(self) -> None:
        world = succeeded()
        world.status.clear()
        assert nothing(world.reconcile())
        assert (world.record.phase, world.record.result) == ("Succeeded", RESULT)

    def test_with_a_strange_field_still_decides(self) -> None:
        world = succeeded()
        world.status["jobs"][0] |= {"message": 7, "result": "x", "files": [3], "completionTime": "x"}
        world.jobs.clear()
        assert nothing(world.reconcile())
        assert world.decide().complete
