"""Which stage a Job's pod is in, in each state that its pod can be in."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from serval_operator.api.snapshots import PodView, parse_pod, parse_pod_warning
from serval_operator.jobs.stage import StageVerdict, judge_stages, stage_results
from support import gen
from unit.operator.jobs.jobs_world import DONE, RESULT, STAGES, World, failure, stages

pytestmark = pytest.mark.unit

CRASH = "Traceback\nValueError: no such layer"
OOM = gen.ended(137, reason="OOMKilled")
COMPLETE = gen.ended(0, reason="Completed")
REPORTED = failure("NotConvertible", "layer 3")
SILENT = failure("", "", permanent=True)
WORDS = failure("", "disk is full")
SCHEDULER = "0/3 nodes are available"
VOLUME = 'MountVolume.SetUp failed for volume "ca"'


def pod(*options: gen.Option, phase: str = "Running", **states: gen.Object) -> PodView:
    world = World()
    world.reconcile()
    obj = world.start(world.job())
    obj["status"] = {"phase": phase}
    stages(obj, **states)
    for option in options:
        option(obj)
    return parse_pod(obj)


@dataclass(frozen=True)
class Row:
    """A state and its judgement."""

    name: str
    pod: PodView
    stage: str
    reason: str
    message: str
    running: bool = True
    failed: bool = True
    permanent: bool = False
    warnings: tuple[gen.Object, ...] = field(default=())


def progress(name: str, view: PodView, stage: str, message: str, *, running: bool = True) -> Row:
    return Row(name, view, stage, "Progressing", message, running=running, failed=False)


def nowhere(obj: gen.Object) -> None:
    """The pod has no node yet."""
    obj["spec"] = {}


def failed(state: gen.Object) -> PodView:
    return pod(download=COMPLETE, convert=state, phase="Failed")


ROWS = (
    progress("new", pod(nowhere, phase="Pending"), "", "waiting for the scheduler", running=False),
    progress("placed", pod(phase="Pending"), "", "the node sets up the pod and its images", running=False),
    progress("first stage", pod(download=gen.running()), "download", "stage download runs"),
    progress("between", pod(download=COMPLETE), "convert", "stage convert starts"),
    progress("second stage", pod(download=COMPLETE, convert=gen.running()), "convert", "stage convert runs"),
    progress("all", pod(download=COMPLETE, convert=COMPLETE), "", "all stages are complete"),
    Row(
        "unschedulable",
        pod(nowhere, gen.unschedulable(SCHEDULER), phase="Pending"),
        "download",
        "Unschedulable",
        SCHEDULER,
        running=False,
    ),
    Row(
        "volume",
        pod(phase="Pending"),
        "download",
        "VolumeFailed",
        VOLUME,
        running=False,
        warnings=(gen.warning("FailedMount", VOLUME),),
    ),
    Row(
        "image of the first stage",
        pod(download=gen.waiting("ErrImagePull", "no such image"), phase="Pending"),
        "download",
        "ImagePullFailed",
        "no such image",
        running=False,
    ),
    Row(
        "image of the second stage",
        pod(download=COMPLETE, convert=gen.waiting("ImagePullBackOff", "no such image")),
        "convert",
        "ImagePullFailed",
        "no such image",
    ),
    Row(
        "memory",
        failed(OOM),
        "convert",
        "OutOfMemory",
        "stage convert was killed for using more memory than its limit",
    ),
    Row(
        "crash",
        failed(gen.ended(1, CRASH)),
        "convert",
        "JobFailed",
        "stage convert ended with exit code 1: ValueError: no such layer",
    ),
    Row(
        "no program",
        failed(gen.ended(128, "no such file", "StartError")),
        "convert",
        "CreateContainerError",
        "no such file",
    ),
    Row("own report", failed(gen.ended(1, REPORTED)), "convert", "NotConvertible", "stage convert: layer 3"),
    Row("own words", failed(gen.ended(1, WORDS)), "convert", "JobFailed", "stage convert: disk is full"),
    Row(
        "permanent",
        failed(gen.ended(1, failure("NotConvertible", "layer 3", permanent=True))),
        "convert",
        "NotConvertible",
        "stage convert: layer 3",
        permanent=True,
    ),
    Row(
        "permanent without words",
        failed(gen.ended(1, SILENT)),
        "convert",
        "JobFailed",
        f"stage convert ended with exit code 1: {SILENT}",
        permanent=True,
    ),
    Row(
        "evicted",
        pod(gen.evicted("disk pressure"), download=COMPLETE, convert=gen.ended(137)),
        "convert",
        "PodRefused",
        "Evicted: disk pressure",
    ),
    Row("refused", pod(phase="Failed"), "download", "PodRefused", "the pod failed", running=False),
)


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_judge(row: Row) -> None:
    verdict = judge_stages(row.pod, STAGES, [parse_pod_warning(one) for one in row.warnings])
    assert verdict == StageVerdict(
        row.stage,
        row.reason,
        row.message,
        running=row.running,
        failed=row.failed,
        permanent=row.permanent,
        when=verdict.when,
    )


def test_a_sidecar_is_no_stage() -> None:
    view = pod(download=COMPLETE, log=gen.ended(1, "x"), convert=gen.running())
    assert [one.name for one in view.stages] == ["download", "log", "convert"]
    assert judge_stages(view, STAGES).message == "stage convert runs"


def test_results_are_those_of_the_stages_that_succeeded() -> None:
    ended = gen.ended(0, DONE)
    found = stage_results(pod(download=COMPLETE, convert=ended), STAGES)
    assert found is not None
    assert (found.result, found.files) == (RESULT, ())
    assert stage_results(pod(download=ended, convert=gen.ended(1, DONE)), STAGES) is None
    assert stage_results(pod(download=ended), STAGES) is None
    assert stage_results(pod(download=ended), ()) is None
