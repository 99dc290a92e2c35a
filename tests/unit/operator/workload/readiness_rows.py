"""Situations of a ModelDeployment, and all that its conditions say in each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from serval_operator.api.conditions import Blocked
from serval_operator.pods.observation import Observed
from serval_operator.workload.readiness import Expected, Readiness, assess
from support import gen
from unit.operator.workload.observing import observed

OLD = "ffffffffff"
NO_GPU = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
QUOTA = "exceeded quota: none, requested: pods=1, used: pods=0, limited: pods=0"
POD_SECURITY = 'violates PodSecurity "restricted:latest": runAsNonRoot != true'
DEVICES = (
    "UnexpectedAdmissionError: Pod was rejected: Allocate failed due to no healthy devices present; cannot "
    "allocate unhealthy devices nvidia.com/gpu, which is unexpected"
)
STOPPED = "the node stopped the pod in order and does not start it again"
CRASH = "the model server ended with exit code 1: boom"
Told = tuple[str, str, str]


def pods(
    *options: gen.Option, first: int = 1, count: int = 1, revision: str = gen.REVISION
) -> list[gen.Object]:
    """So many pods in the same state."""
    names = [f"digits-{revision[0]}-{number}" for number in range(first, first + count)]
    return [gen.pod(name, *options, revision=revision) for name in names]


READY = gen.ready()
CRASHES = gen.server_crashed(1, "boom")
NOWHERE = gen.unschedulable(NO_GPU)
ALL = ("Scheduled", "ModelFetched", "ModelLoaded", "EndpointReady")


def done(count: int, wanted: int | None = None) -> Told:
    return ("True", "Done", f"{count} of {count if wanted is None else wanted} pods")


def behind(count: int) -> Told:
    return ("True", "Done", f"{count} pod{'' if count == 1 else 's'} behind the Service")


def waits(passed: int, wanted: int, what: str) -> Told:
    return ("Unknown", "Progressing", f"{passed} of {wanted} pods; {what}")


EARLIER = "earlier steps are not complete"


@dataclass(frozen=True)
class Row:
    """A situation, and all of its conditions by type; what `Ready` says, `Reconciling` says too."""

    name: str
    pods: Sequence[gen.Object]
    told: dict[str, Told]
    wanted: int = 1
    counts: tuple[int, int, int] | None = None
    suspended: bool = False
    blocked: Blocked | None = None
    revision: str = gen.REVISION
    deployment: gen.Object | None = None
    services: Sequence[gen.Object] | None = None
    warnings: dict[str, Sequence[gen.Object]] = field(default_factory=dict)
    now: float = 60.0

    def observed(self) -> Observed:
        return observed(
            *self.pods,
            deployment=self.deployment,
            services=self.services,
            warnings=self.warnings,
            now=self.now,
        )

    def assess(self) -> Readiness:
        return assess(
            self.observed(),
            Expected(
                wanted=self.wanted, revision=self.revision, suspended=self.suspended, blocked=self.blocked
            ),
        )


def progressing(message: str) -> Told:
    return ("False", "Progressing", message)


def reconciling(ready: Told, available: Told | None = None) -> dict[str, Told]:
    """Ready, Available and Reconciling of a deployment on its way; nothing answers unless said."""
    return {"Ready": ready, "Available": available or ready, "Reconciling": ("True", *ready[1:])}


def answers(count: int, of: int) -> Told:
    return ("True", "ModelAnswers", f"{count} of {of} pods answer")


NONE_BEHIND = progressing("0 of 1 pods behind the Service")
CREATED = "0 of 1 pods; the pods are being created"

ON_THE_WAY = [
    Row(
        "nothing yet",
        [],
        {
            **reconciling(progressing(CREATED)),
            "Scheduled": waits(0, 1, "the pods are being created"),
            "ModelFetched": waits(0, 1, EARLIER),
            "ModelLoaded": waits(0, 1, EARLIER),
            "EndpointReady": NONE_BEHIND,
        },
        counts=(0, 0, 0),
    ),
    Row(
        "no Service yet",
        pods(READY),
        {
            **reconciling(progressing("the Service is not there yet"), answers(1, 1)),
            "Scheduled": done(1),
            "ModelFetched": done(1),
            "ModelLoaded": done(1),
            "EndpointReady": ("Unknown", "Progressing", "the Service is not there yet"),
        },
        services=[gen.service(name="digits-headless")],
        counts=(1, 1, 1),
    ),
    Row(
        "waiting for the scheduler",
        pods(),
        {
            **reconciling(progressing("0 of 1 pods; waiting for the scheduler")),
            "Scheduled": waits(0, 1, "waiting for the scheduler"),
            "ModelFetched": waits(0, 1, EARLIER),
            "ModelLoaded": waits(0, 1, EARLIER),
            "EndpointReady": NONE_BEHIND,
        },
        counts=(1, 0, 1),
    ),
    Row(
        "fetching",
        pods(gen.fetch_running()),
        {
            **reconciling(progressing("0 of 1 pods; fetching the model")),
            "Scheduled": done(1),
            "ModelFetched": waits(0, 1, "fetching the model"),
            "ModelLoaded": waits(0, 1, EARLIER),
            "EndpointReady": NONE_BEHIND,
        },
        counts=(1, 0, 1),
    ),
    Row(
        "one of two loads",
        [*pods(READY), *pods(gen.loading(), first=2)],
        {
            **reconciling(progressing("1 of 2 pods; loading the model"), answers(1, 2)),
            "Scheduled": done(2),
            "ModelFetched": done(2),
            "ModelLoaded": waits(1, 2, "loading the model"),
            "EndpointReady": behind(1),
        },
        wanted=2,
        counts=(2, 1, 2),
    ),
    Row(
        "old revision serves, new one loads",
        [*pods(READY, revision=OLD), *pods(gen.loading())],
        {
            **reconciling(progressing("0 of 1 pods; loading the model"), answers(1, 2)),
            "Scheduled": done(1),
            "ModelFetched": done(1),
            "ModelLoaded": waits(0, 1, "loading the model"),
            "EndpointReady": behind(1),
        },
        counts=(2, 1, 1),
    ),
    Row(
        "new revision serves, an old pod is still there",
        [*pods(READY, revision=OLD), *pods(READY)],
        {
            **reconciling(progressing("replacing 1 pod of older revisions"), answers(2, 2)),
            "Scheduled": done(1),
            "ModelFetched": done(1),
            "ModelLoaded": done(1),
            "EndpointReady": behind(2),
        },
        counts=(2, 2, 1),
    ),
    Row(
        "too many pods after a scale down",
        pods(READY, count=3),
        {
            **reconciling(progressing("stopping 2 pods too many"), answers(3, 3)),
            "Scheduled": done(3, 1),
            "ModelFetched": done(3, 1),
            "ModelLoaded": done(3, 1),
            "EndpointReady": behind(3),
        },
        counts=(3, 3, 3),
    ),
    Row(
        "one that is being deleted does not count",
        [*pods(READY, gen.deleting), *pods(gen.starting(), first=2)],
        {
            **reconciling(progressing("0 of 1 pods; the node sets up the pod and its images")),
            "Scheduled": done(1),
            "ModelFetched": waits(0, 1, "the node sets up the pod and its images"),
            "ModelLoaded": waits(0, 1, EARLIER),
            "EndpointReady": NONE_BEHIND,
        },
        counts=(1, 0, 1),
    ),
]
UNSCHEDULABLE = ("False", "Unschedulable", f"1 of 1 pods: {NO_GPU}")
FAILING = [
    Row(
        "one of three crashes",
        [*pods(READY, count=2), *pods(CRASHES, first=3)],
        {
            **reconciling(("False", "CrashLoop", f"1 of 3 pods: {CRASH}"), answers(2, 3)),
            "Scheduled": done(3),
            "ModelFetched": done(3),
            "ModelLoaded": ("False", "CrashLoop", f"1 of 3 pods: {CRASH}"),
            "EndpointReady": behind(2),
        },
        wanted=3,
        counts=(3, 2, 3),
    ),
    Row(
        "the earliest step decides",
        [*pods(READY), *pods(CRASHES, first=2), *pods(NOWHERE, first=3)],
        {
            **reconciling(("False", "Unschedulable", f"1 of 3 pods: {NO_GPU}"), answers(1, 3)),
            "Scheduled": ("False", "Unschedulable", f"1 of 3 pods: {NO_GPU}"),
            "ModelFetched": waits(2, 3, EARLIER),
            "ModelLoaded": ("False", "CrashLoop", f"1 of 3 pods: {CRASH}"),
            "EndpointReady": behind(1),
        },
        wanted=3,
        counts=(3, 1, 3),
    ),
    Row(
        "pods that crash for two reasons are counted apart",
        [*pods(CRASHES, count=2), *pods(gen.server_crashed(137, "", "OOMKilled"), first=3)],
        {
            **reconciling(("False", "CrashLoop", f"2 of 3 pods: {CRASH}")),
            "Scheduled": done(3),
            "ModelFetched": done(3),
            "ModelLoaded": ("False", "CrashLoop", f"2 of 3 pods: {CRASH}"),
            "EndpointReady": progressing("0 of 3 pods behind the Service"),
        },
        wanted=3,
        counts=(3, 0, 3),
    ),
    Row(
        "old revision serves, new one fails",
        [*pods(READY, revision=OLD), *pods(NOWHERE)],
        {
            **reconciling(UNSCHEDULABLE, answers(1, 2)),
            "Scheduled": UNSCHEDULABLE,
            "ModelFetched": waits(0, 1, EARLIER),
            "ModelLoaded": waits(0, 1, EARLIER),
            "EndpointReady": behind(1),
        },
        counts=(2, 1, 1),
    ),
    Row(
        "old revision crashes and does not matter",
        [*pods(CRASHES, revision=OLD), *pods(gen.loading())],
        {
            **reconciling(progressing("0 of 1 pods; loading the model")),
            "Scheduled": done(1),
            "ModelFetched": done(1),
            "ModelLoaded": waits(0, 1, "loading the model"),
            "EndpointReady": NONE_BEHIND,
        },
        counts=(2, 0, 1),
    ),
    Row(
        "sandbox, from events",
        pods(gen.starting()),
        {
            **reconciling(("False", "SandboxFailed", "1 of 1 pods: no IP")),
            "Scheduled": done(1),
            "ModelFetched": ("False", "SandboxFailed", "1 of 1 pods: no IP"),
            "ModelLoaded": waits(0, 1, EARLIER),
            "EndpointReady": NONE_BEHIND,
        },
        warnings={"uid-digits-0-1": [gen.warning("FailedCreatePodSandBox", "no IP")]},
        counts=(1, 0, 1),
    ),
]


def stalled(reason: str, message: str) -> dict[str, Told]:
    told = ("False", reason, message)
    return {"Ready": told, "Available": told, "Stalled": ("True", reason, message)}


MISMATCH = gen.fetch_failed(1, gen.fetch_failure("ModelDigestMismatch", "other files"))
FAILING.append(
    Row(
        "what no retry can cure stalls",
        pods(MISMATCH),
        {
            **stalled("ModelDigestMismatch", "1 of 1 pods: other files"),
            "Scheduled": done(1),
            "ModelFetched": ("False", "ModelDigestMismatch", "1 of 1 pods: other files"),
            "ModelLoaded": waits(0, 1, EARLIER),
            "EndpointReady": NONE_BEHIND,
        },
        counts=(1, 0, 1),
    )
)


def uncreated(message: str) -> gen.Object:
    return gen.deployment(gen.create_failure(message))


def no_pod(reason: str, message: str) -> dict[str, Told]:
    told = ("False", reason, f"2 of 2 pods: {message}")
    return {
        **reconciling(told),
        "Scheduled": told,
        "ModelFetched": waits(0, 2, EARLIER),
        "ModelLoaded": waits(0, 2, EARLIER),
        "EndpointReady": progressing("0 of 2 pods behind the Service"),
    }


FORBIDDEN = 'pods "digits-6d4b75cb6d-x2x4z" is forbidden: '
LIMIT = "maximum memory usage per Container is 1Gi, but limit is 2Gi"
NO_LIMIT = (
    "failed quota: q: must specify limits.cpu for: fetch: an administrator sets `fetch.resources.limits.cpu` "
    "(container fetch) in the values of the operator's chart, then give `spec.rollout.trigger` a new value"
)
PRIORITY = "no PriorityClass with name high was found"
UNCREATED = [
    Row(name, [], no_pod(reason, told), wanted=2, deployment=uncreated(text), counts=(0, 0, 0))
    for name, text, reason, told in (
        ("quota", FORBIDDEN + QUOTA, "QuotaExceeded", QUOTA),
        (
            "quota without a request",
            FORBIDDEN + "failed quota: q: must specify cpu",
            "QuotaExceeded",
            "failed quota: q: must specify cpu",
        ),
        (
            "quota that the chart's values have to meet",
            FORBIDDEN + "failed quota: q: must specify limits.cpu for: fetch",
            "QuotaExceeded",
            NO_LIMIT,
        ),
        ("limit range", FORBIDDEN + LIMIT, "QuotaExceeded", LIMIT),
        ("Pod Security", FORBIDDEN + POD_SECURITY, "PodSecurityViolation", POD_SECURITY),
        ("priority", FORBIDDEN + PRIORITY, "PodCreateFailed", PRIORITY),
        ("webhook", 'admission webhook "x" denied it', "PodCreateFailed", 'admission webhook "x" denied it'),
    )
]
UNCREATED.append(
    Row(
        "quota lets one of two in",
        pods(READY),
        {
            **reconciling(("False", "QuotaExceeded", f"1 of 2 pods: {QUOTA}"), answers(1, 1)),
            "Scheduled": ("False", "QuotaExceeded", f"1 of 2 pods: {QUOTA}"),
            "ModelFetched": waits(1, 2, EARLIER),
            "ModelLoaded": waits(1, 2, EARLIER),
            "EndpointReady": behind(1),
        },
        wanted=2,
        deployment=uncreated(FORBIDDEN + QUOTA),
        counts=(1, 1, 1),
    )
)
UNCREATED.append(
    Row(
        "a refusal of pods that are all there does not matter",
        pods(READY),
        {
            "Ready": ("True", "Serving", "1 of 1 replicas serve the newest spec"),
            "Available": answers(1, 1),
            "Scheduled": done(1),
            "ModelFetched": done(1),
            "ModelLoaded": done(1),
            "EndpointReady": behind(1),
        },
        deployment=uncreated(FORBIDDEN + QUOTA),
        counts=(1, 1, 1),
    )
)
UNCREATED.append(
    Row(
        "nor of pods that are all there and wait",
        pods(),
        {
            **reconciling(progressing("0 of 1 pods; waiting for the scheduler")),
            "Scheduled": waits(0, 1, "waiting for the scheduler"),
            "ModelFetched": waits(0, 1, EARLIER),
            "ModelLoaded": waits(0, 1, EARLIER),
            "EndpointReady": NONE_BEHIND,
        },
        deployment=uncreated(FORBIDDEN + QUOTA),
        counts=(1, 0, 1),
    )
)

REFUSED = gen.refused()
NO_DEVICE = ("False", "DeviceAllocationFailed", f"1 of 1 pods: {DEVICES}")


def refused_then(*options: gen.Option) -> list[gen.Object]:
    return [*pods(REFUSED, count=3), *pods(*options, first=4)]


def unaccepted(fetched: str) -> dict[str, Told]:
    return {
        **reconciling(NO_DEVICE),
        "Scheduled": NO_DEVICE,
        "ModelFetched": waits(0, 1, fetched),
        "ModelLoaded": waits(0, 1, EARLIER),
        "EndpointReady": NONE_BEHIND,
    }


REFUSALS = [
    Row("refused, no successor yet", pods(REFUSED), unaccepted(EARLIER), counts=(0, 0, 0)),
    Row("refused, successor unscheduled", refused_then(), unaccepted(EARLIER), counts=(1, 0, 1)),
    Row(
        "refused, successor placed and not taken",
        refused_then(gen.placed()),
        unaccepted("the node sets up the pod and its images"),
        counts=(1, 0, 1),
    ),
    Row(
        "refused, successor taken by its node",
        refused_then(gen.starting()),
        {
            **reconciling(progressing("0 of 1 pods; the node sets up the pod and its images")),
            "Scheduled": done(1),
            "ModelFetched": waits(0, 1, "the node sets up the pod and its images"),
            "ModelLoaded": waits(0, 1, EARLIER),
            "EndpointReady": NONE_BEHIND,
        },
        counts=(1, 0, 1),
    ),
    Row(
        "refused, successor healthy",
        refused_then(READY),
        {
            "Ready": ("True", "Serving", "1 of 1 replicas serve the newest spec"),
            "Available": answers(1, 1),
            "Scheduled": done(1),
            "ModelFetched": done(1),
            "ModelLoaded": done(1),
            "EndpointReady": behind(1),
        },
        counts=(1, 1, 1),
    ),
    Row(
        "refused, successor unschedulable",
        refused_then(NOWHERE),
        {
            **reconciling(UNSCHEDULABLE),
            "Scheduled": UNSCHEDULABLE,
            "ModelFetched": waits(0, 1, EARLIER),
            "ModelLoaded": waits(0, 1, EARLIER),
            "EndpointReady": NONE_BEHIND,
        },
        counts=(1, 0, 1),
    ),
    Row(
        "refused again and again while another pod crashes",
        [*pods(CRASHES), *pods(REFUSED, first=2, count=9), *pods(gen.placed(), first=11)],
        {
            **reconciling(("False", "DeviceAllocationFailed", f"1 of 2 pods: {DEVICES}")),
            "Scheduled": ("False", "DeviceAllocationFailed", f"1 of 2 pods: {DEVICES}"),
            "ModelFetched": waits(1, 2, "the node sets up the pod and its images"),
            "ModelLoaded": ("False", "CrashLoop", f"1 of 2 pods: {CRASH}"),
            "EndpointReady": progressing("0 of 2 pods behind the Service"),
        },
        wanted=2,
        counts=(2, 0, 2),
    ),
    Row(
        "refused long ago",
        pods(REFUSED),
        {
            **reconciling(progressing(CREATED)),
            "Scheduled": waits(0, 1, "the pods are being created"),
            "ModelFetched": waits(0, 1, EARLIER),
            "ModelLoaded": waits(0, 1, EARLIER),
            "EndpointReady": NONE_BEHIND,
        },
        counts=(0, 0, 0),
        now=91,
    ),
    Row(
        "of an older revision",
        pods(REFUSED, revision=OLD),
        {
            **reconciling(progressing(CREATED)),
            "Scheduled": waits(0, 1, "the pods are being created"),
            "ModelFetched": waits(0, 1, EARLIER),
            "ModelLoaded": waits(0, 1, EARLIER),
            "EndpointReady": NONE_BEHIND,
        },
        counts=(0, 0, 0),
    ),
    Row(
        "evicted just now, after it ran for an hour",
        pods(READY, gen.evicted("The node was low on memory.", after=3600)),
        {
            **reconciling(("False", "PodRefused", "1 of 1 pods: Evicted: The node was low on memory.")),
            "Scheduled": ("False", "PodRefused", "1 of 1 pods: Evicted: The node was low on memory."),
            "ModelFetched": waits(0, 1, EARLIER),
            "ModelLoaded": waits(0, 1, EARLIER),
            "EndpointReady": NONE_BEHIND,
        },
        counts=(0, 0, 0),
        now=3610,
    ),
    Row(
        "stopped by its node, and replaced",
        [*pods(READY, gen.stopped(after=3600)), *pods(READY, first=2)],
        {
            "Ready": ("True", "Serving", "1 of 1 replicas serve the newest spec"),
            "Available": answers(1, 1),
            "Scheduled": done(1),
            "ModelFetched": done(1),
            "ModelLoaded": done(1),
            "EndpointReady": behind(1),
        },
        counts=(1, 1, 1),
        now=3610,
    ),
    Row(
        "stopped by its node just now",
        pods(READY, gen.stopped(after=3600)),
        {
            **reconciling(("False", "PodRefused", f"1 of 1 pods: {STOPPED}")),
            "Scheduled": ("False", "PodRefused", f"1 of 1 pods: {STOPPED}"),
            "ModelFetched": waits(0, 1, EARLIER),
            "ModelLoaded": waits(0, 1, EARLIER),
            "EndpointReady": NONE_BEHIND,
        },
        counts=(0, 0, 0),
        now=3610,
    ),
    Row(
        "one of an older revision was stopped by its node",
        [*pods(READY, gen.stopped(), revision=OLD), *pods(READY)],
        {
            "Ready": ("True", "Serving", "1 of 1 replicas serve the newest spec"),
            "Available": answers(1, 1),
            "Scheduled": done(1),
            "ModelFetched": done(1),
            "ModelLoaded": done(1),
            "EndpointReady": behind(1),
        },
        counts=(1, 1, 1),
    ),
]
AT_REST = [
    Row(
        "all serve",
        pods(READY, count=3),
        {
            "Ready": ("True", "Serving", "3 of 3 replicas serve the newest spec"),
            "Available": answers(3, 3),
            "Scheduled": done(3),
            "ModelFetched": done(3),
            "ModelLoaded": done(3),
            "EndpointReady": behind(3),
        },
        wanted=3,
        counts=(3, 3, 3),
    ),
    Row(
        "suspended",
        [],
        {
            "Ready": ("True", "Suspended", "suspended: no pod runs"),
            "Available": ("False", "Suspended", "suspended: no pod runs"),
        },
        wanted=0,
        suspended=True,
        counts=(0, 0, 0),
    ),
    Row(
        "scaled to zero",
        pods(READY, gen.deleting),
        {
            "Ready": ("True", "ScaledToZero", "scaled to zero: no pod runs"),
            "Available": ("False", "ScaledToZero", "scaled to zero: no pod runs"),
        },
        wanted=0,
        counts=(0, 0, 0),
    ),
    *(
        Row(
            f"{name}, and a pod still runs",
            pods(READY),
            reconciling(progressing("stopping 1 pod"), answers(1, 1)),
            wanted=0,
            suspended=suspended,
            counts=(1, 1, 1),
        )
        for name, suspended in (("suspended", True), ("scaled to zero", False))
    ),
]
CONFLICT = Blocked("ResourceConflict", "Service/digits exists and does not belong to this ModelDeployment")
INVALID = Blocked("InvalidSpec", "`spec.replicas` must be a whole number of at least 0")
BLOCKED = [
    Row(
        "a child is blocked, no pods",
        [],
        reconciling(("False", CONFLICT.reason, CONFLICT.message)),
        blocked=CONFLICT,
        counts=(0, 0, 0),
    ),
    Row(
        "a child is blocked, pods serve",
        pods(READY, count=2),
        reconciling(("False", CONFLICT.reason, CONFLICT.message), answers(2, 2)),
        wanted=2,
        blocked=CONFLICT,
        counts=(2, 2, 2),
    ),
    Row(
        "invalid spec, no pods",
        [],
        stalled(INVALID.reason, INVALID.message),
        wanted=0,
        revision="",
        blocked=INVALID,
        counts=(0, 0, 0),
    ),
    Row(
        "invalid spec, old pods serve",
        pods(READY, count=2),
        {**stalled(INVALID.reason, INVALID.message), "Available": answers(2, 2)},
        wanted=0,
        revision="",
        blocked=INVALID,
        counts=(2, 2, 0),
    ),
]
ROWS = [*ON_THE_WAY, *FAILING, *UNCREATED, *REFUSALS, *AT_REST, *BLOCKED]
