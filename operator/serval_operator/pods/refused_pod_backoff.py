"""Refused pods: how many may be tried while nodes refuse them.

Where a node refuses a pod, its ReplicaSet makes the next one at once, a dozen each second, and pausing the
Deployment does not stop it. Only asking for fewer pods does: those that a node accepted, and after a pause
one more. What decides is read from the dead pods and the Deployment, so that a restart of the operator
forgets nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from serval_operator.api.conditions import Blocked
from serval_operator.api.snapshots import PodView
from serval_operator.pods.observation import Observed
from serval_operator.pods.pod_state import is_accepted

STORM = 3
"""Refused pods within `WINDOW` that are no accident. With those under way meanwhile they are five at most."""
WINDOW = timedelta(seconds=60)
SHORTEST_PAUSE = timedelta(seconds=30)
LONGEST_PAUSE = timedelta(seconds=600)
COUNTS_FOR = 2 * LONGEST_PAUSE
"""How long a refusal counts. One that nothing followed for longer tells nothing of the next pod: refusals
that repeat are never further apart than the longest pause and the time that the kubelet takes."""
ONE_TRY = timedelta(seconds=15)
"""Refused pods closer than this come from the same try. Twice this is the shortest pause."""
MOST_DEAD = 5
"""Dead pods that stay for a reader where nothing needs damping."""
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Damping:
    """What refused pods demand of the rollout.

    Parameters
    ----------
    run:
        Pods that the Deployment may have; None for no damping.
    instead:
        Revision that the Deployment must carry instead of the newest, whose pods are refused while pods of
        this one serve; empty for none.
    beside:
        Whether the rollout must make a new pod before it stops an old one. As `run` is below the wanted
        number then, there are never more pods than wanted.
    again:
        Seconds until one more pod is to be tried; None while nothing has to be waited for.
    cause:
        What the last refusal said, for the user; None while something else tells more.
    trim:
        Dead pods to delete.
    """

    run: int | None = None
    instead: str = ""
    beside: bool = False
    again: float | None = None
    cause: Blocked | None = None
    trim: tuple[PodView, ...] = ()


@dataclass(frozen=True, slots=True)
class _Scene:
    """Pods by what became of them; those of ``revision`` are new, all others old."""

    dead: Sequence[PodView]
    accepted: Sequence[PodView]
    revision: str
    wanted: int

    @property
    def new(self) -> list[PodView]:
        return [pod for pod in self.accepted if pod.revision == self.revision]

    @property
    def old(self) -> list[PodView]:
        return [pod for pod in self.accepted if pod.revision != self.revision]

    @property
    def last(self) -> datetime:
        """When the newest refused pod was made."""
        return _made(self.dead[-1])

    @property
    def recent(self) -> list[PodView]:
        """Refused pods of the storm that the newest one belongs to, if there is one."""
        return [pod for pod in self.dead if self.last - _made(pod) <= COUNTS_FOR]


def plan_damping(observed: Observed, *, revision: str, wanted: int) -> Damping:
    """Decide what refused pods demand.

    Parameters
    ----------
    revision:
        The revision that the Deployment would carry without damping. A new revision starts afresh: what was
        refused before may be what it cures.
    wanted:
        Pods that should run.
    """
    accepted = [pod for pod in observed.living() if is_accepted(pod)]
    scene = _Scene(_refused(observed), accepted, revision, wanted)
    if len(scene.new) >= wanted or all(pod.revision != revision for pod in scene.dead):
        return Damping(trim=tuple(scene.dead))
    if _healed(scene):
        return _go_on(observed, scene)
    if not _in_force(observed, scene):
        return Damping(trim=tuple(scene.dead[:-MOST_DEAD]))
    pause = _pause(scene)
    left = min(scene.last + pause - observed.now, pause).total_seconds()
    return _hold(observed, scene, left) if left > 0 else _try(observed, scene)


def is_refused(pod: PodView) -> bool:
    """Whether a node refused the pod when it came, in contrast to one that gave up a pod it had accepted."""
    return pod.phase == "Failed" and pod.fetch is None and pod.server is None


def _refused(observed: Observed) -> list[PodView]:
    """Refused pods, the oldest first."""
    dead = [pod for pod in observed.living() if is_refused(pod)]
    return sorted(dead, key=lambda pod: (_made(pod), pod.name))


def _made(pod: PodView) -> datetime:
    """Time of a refusal: the kubelet leaves no other than that of the pod's making, which every pod has."""
    return pod.created or _LONG_AGO


def _healed(scene: _Scene) -> bool:
    """Whether a node accepted a pod after the newest refusal. Times have whole seconds: ties tell nothing."""
    return any(_made(pod) > scene.last for pod in scene.accepted)


def _in_force(observed: Observed, scene: _Scene) -> bool:
    """Whether refusals repeat: several at a time, or in two tries, or damping goes on already.

    That it goes on is seen by the Deployment: it asks for fewer pods than wanted, or for another revision.
    Where the pod that is tried is the last one wanted, only the dead of the tries before tell of it. A
    refusal of long ago does not count: the Deployment may ask for fewer pods because more are wanted since.
    """
    if observed.now - scene.last > COUNTS_FOR:
        return False
    deployment = observed.deployment
    if deployment and (deployment.replicas < scene.wanted or deployment.revision != scene.revision):
        return True
    first = _made(scene.recent[0])
    if any(first < _made(pod) for pod in scene.accepted):
        return True
    recent = [pod for pod in scene.dead if _made(pod) >= scene.last - WINDOW]
    repeats = len(recent) >= STORM or _try_before(scene) is not None
    return repeats and observed.now - scene.last <= LONGEST_PAUSE


def _pause(scene: _Scene) -> timedelta:
    """Pause before the next try: twice the time between the newest two tries, within bounds."""
    before = _try_before(scene)
    gap = scene.last - _made(before) if before else timedelta()
    return min(max(2 * gap, SHORTEST_PAUSE), LONGEST_PAUSE)


def _try_before(scene: _Scene) -> PodView | None:
    """The last refused pod of the try before the newest one."""
    return next((pod for pod in reversed(scene.recent) if scene.last - _made(pod) >= ONE_TRY), None)


def _hold(observed: Observed, scene: _Scene, left: float) -> Damping:
    """Pause: only what was accepted goes on.

    In the middle of a rollout a Deployment cannot stand still: it makes new pods or stops old ones. So it is
    given one revision whole, the one of which more pods answer; the other one's go.
    """
    newest = sum(pod.ready for pod in scene.new), len(scene.new)
    answering = Counter(pod.revision for pod in scene.old if pod.ready)
    instead, count = max(answering.items(), key=lambda entry: (entry[1], entry[0]), default=("", 0))
    if not instead or (count, count) <= newest:
        instead, count = "", len(scene.new)
    run = min(count, scene.wanted)
    return Damping(
        run=run,
        instead=instead,
        beside=bool(scene.old) and run < scene.wanted,
        again=left,
        cause=_cause(observed, scene),
        trim=_forgettable(scene),
    )


def _try(observed: Observed, scene: _Scene) -> Damping:
    """The pause is over: one more pod.

    Beside old pods it is the one that a rollout makes first. Asking for another number of pods in the same
    breath would make Kubernetes scale the old revision.
    """
    run = len(scene.accepted) if scene.old else len(scene.new) + 1
    waits = any(pod.unschedulable and not pod.node for pod in observed.newest(scene.revision))
    return Damping(
        run=min(run, scene.wanted),
        beside=bool(scene.old) and run < scene.wanted,
        cause=None if waits else _cause(observed, scene),
        trim=_forgettable(scene),
    )


def _go_on(observed: Observed, scene: _Scene) -> Damping:
    """Nodes accept pods again. A rollout that was damped goes on with as many pods as it has, and grows then.

    Growing in the middle of it would make Kubernetes add pods of the old revision.
    """
    deployment = observed.deployment
    smaller = deployment is not None and deployment.replicas < scene.wanted
    if deployment and smaller and scene.old and deployment.revision == scene.revision:
        return Damping(run=deployment.replicas, beside=True, trim=_forgettable(scene))
    return Damping(trim=_forgettable(scene))


def _cause(observed: Observed, scene: _Scene) -> Blocked:
    refusal = observed.verdict(scene.dead[-1])
    text = f"{len(scene.new)} of {scene.wanted} pods were accepted; others are tried after pauses"
    return Blocked(refusal.reason, f"{text}: {refusal.message}")


def _forgettable(scene: _Scene) -> tuple[PodView, ...]:
    """Dead pods that tell nothing more: all but the last ones of the newest two tries.

    The last one of the newest revision stays too, as it keeps that revision from being carried anew. So few
    stay that with those of the next try there are five or fewer.
    """
    own = [pod for pod in scene.dead if pod.revision == scene.revision]
    before = _try_before(scene)
    kept = {scene.dead[-1].uid, own[-1].uid, before.uid if before else ""}
    return tuple(pod for pod in scene.dead if pod.uid not in kept)
