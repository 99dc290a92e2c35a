"""A small world around the planner: a Deployment's rolling update, ReplicaSets, a scheduler and a node.

The rules are those of Kubernetes 1.36: `pkg/controller/deployment/rolling.go` for a rolling update,
`sync.go` for a changed number of replicas in the middle of one, and a ReplicaSet that makes a pod at once for
each one missing. One round of all of them takes a tenth of a second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random
from typing import Any

from serval_operator.api.conditions import Blocked
from serval_operator.api.naming import Key
from serval_operator.api.placement import Placement
from serval_operator.api.resources import DEPLOYMENTS
from serval_operator.api.snapshots import PodView, RevisionView, parse_deployment, parse_owner, parse_pod
from serval_operator.cluster.room import Room
from serval_operator.pods.observation import Observed
from serval_operator.pods.refused_pod_backoff import Damping, plan_damping
from serval_operator.workload.rollout import Rollout, failed_now, heading, plan_rollout
from serval_operator.workload.workload import Workload
from support import gen

STEP = 0.1
NO_DEVICE = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
NO_MEMORY = "0/1 nodes are available: 1 Insufficient memory."
NOT_THERE = gen.fetch_failure("ModelNotFound", "nothing is there")
OLD, NEW = "aaaaaaaaaa", "bbbbbbbbbb"


GPU = Placement("nvidia.com/gpu", 1)
_OF_THE_ROLLOUT = {
    "asked": "strategy",
    "on_failure": "on_failure",
    "deadline_seconds": "start_deadline_seconds",
}


def workload(revision: str = NEW, wanted: int = 1, **changed: Any) -> Workload:
    """A workload with a device in each pod and everything else by default; see `changed_workload`."""
    return changed_workload(Workload(revision, wanted, placement=GPU), **changed)


def changed_workload(plain: Workload, **changed: Any) -> Workload:
    """The same with other fields: its own, those of its rollout, or ``devices``: whether it asks for some."""
    rollout = {_OF_THE_ROLLOUT[name]: value for name, value in changed.items() if name in _OF_THE_ROLLOUT}
    rest = {name: value for name, value in changed.items() if name not in {*_OF_THE_ROLLOUT, "devices"}}
    if "devices" in changed:
        rest["placement"] = GPU if changed["devices"] else Placement()
    return replace(plain, rollout=replace(plain.rollout, **rollout), **rest)


def record(key: str, number: int = 1, *, failed: str = "", served: bool = False) -> RevisionView:
    """A kept revision; ``failed`` is the reason."""
    return RevisionView(
        namespace=gen.NAMESPACE,
        name=f"{gen.MODEL}-{key}",
        uid=f"uid-{key}",
        resource_version="1",
        owner=Key("ModelDeployment", gen.NAMESPACE, gen.MODEL),
        owner_uid=gen.MODEL_UID,
        foreign_owner="",
        deleting=False,
        created=gen.moment(),
        number=number,
        key=key,
        packed_template=b"",
        facts_text="{}",
        template_digest="",
        failed_reason=failed,
        failed_message="its message" if failed else "",
        served=served,
    )


@dataclass(eq=False)
class Pod:
    """A pod.

    ``device`` is what it holds, ``waits`` what the scheduler says while it holds none, ``came`` when its node
    accepted it, ``ends`` when it is gone.
    """

    name: str
    revision: str
    made: float
    device: str = ""
    came: float | None = None
    ends: float | None = None
    dead: bool = False
    waits: str = ""
    ready: bool = False

    @property
    def active(self) -> bool:
        """Whether its ReplicaSet counts it."""
        return not self.dead and self.ends is None


@dataclass
class ReplicaSet:
    """``desired`` and ``most`` are the annotations by which a Deployment notices that it was scaled."""

    spec: int
    desired: int
    most: int


@dataclass
class World:
    """One ModelDeployment, its devices, and an operator that acts ``delay`` seconds after it looked.

    Parameters
    ----------
    refuses:
        Whether a device is refused at a time.
    bad:
        Revisions whose model cannot be fetched.
    memory:
        Pods for which the node has memory.
    shut:
        What the scheduler says of every new pod, for which no node is open; empty while one is.
    """

    workload: Workload
    devices: Sequence[str]
    refuses: Callable[[str, float], bool] = lambda _device, _now: False
    bad: frozenset[str] = frozenset()
    memory: int = 1000
    shut: str = ""
    delay: float = 0.2
    load: float = 2.0
    grace: float = 1.0
    now: float = 0.0
    skew: float = 0.0
    dice: Random | None = None
    carried: str = ""
    replicas: int = 0
    surge: bool = False
    serving: str = ""
    pods: list[Pod] = field(default_factory=list)
    sets: dict[str, ReplicaSet] = field(default_factory=dict)
    records: dict[str, RevisionView] = field(default_factory=dict)
    rollout: Rollout | None = None
    most_dead: int = 0
    least_ready: int = 1000
    made: int = 0
    tries: list[float] = field(default_factory=list)
    strategies: list[str] = field(default_factory=list)
    _changed: bool = True
    _again: float | None = None
    _due: list[tuple[float, Rollout, Damping]] = field(default_factory=list)

    def run(self, seconds: float) -> World:
        """Let so much time pass."""
        for _ in range(round(seconds / STEP)):
            # Rounded, so that what is due in so many steps is never a step late.
            self.now = round(self.now + STEP, 3)
            self._operate()
            self._deploy()
            self._replicate()
            self._schedule()
            self._start()
            self.most_dead = max(self.most_dead, len(self.dead))
            self.least_ready = min(self.least_ready, self.ready())
        return self

    def restart(self) -> None:
        """Another operator takes over: all that the first one had in its head is gone."""
        self._changed, self._again, self._due = True, None, []

    def edit(self, **changed: Any) -> None:
        """The spec changes."""
        self.workload, self._changed = changed_workload(self.workload, **changed), True
        self.least_ready = self.ready()

    @property
    def dead(self) -> list[Pod]:
        """Refused pods."""
        return [pod for pod in self.pods if pod.dead]

    def ready(self, revision: str = "") -> int:
        """Pods that answer, of a revision or of all."""
        pods = [pod for pod in self.pods if pod.active and pod.ready]
        return sum(pod.revision == revision or not revision for pod in pods)

    # --- the operator ---------------------------------------------------------------------------------

    def observe(self) -> Observed:
        """What an operator sees now."""
        stopping = any(pod.ends is not None and pod.ends > self.now - 3 for pod in self.pods)
        seen = replace(
            parse_deployment(gen.deployment()),
            revision=self.carried,
            replicas=self.replicas,
            surge=self.surge,
        )
        return Observed(
            model=parse_owner(gen.model(status={"servingRevision": self.serving})),
            children={DEPLOYMENTS: {gen.MODEL: seen}} if self.carried else {},
            pods=tuple(map(self._view, self.pods)),
            now=gen.moment(self.now + self.skew),
            making_room=stopping,
            revisions=tuple(self.records.values()),
        )

    def plan(self) -> tuple[Rollout, Damping]:
        """Decide as a reconcile does."""
        observed, wanted = self.observe(), self.workload
        head = heading(observed, wanted)
        damping = plan_damping(observed, revision=head.revision, wanted=wanted.wanted)
        decide = partial(
            plan_rollout, observed, wanted, head=head, damping=damping, refused=None, allowed=wanted.wanted
        )
        rollout = decide(room=None)
        if rollout.needs.capacity:
            rollout = decide(room=Room(len(self._free()) if wanted.placement.resource_name else None))
        return rollout, damping

    def _operate(self) -> None:
        while self._due and self._due[0][0] <= self.now:
            self._act(*self._due.pop(0)[1:])
        if not self._changed and (self._again is None or self.now < self._again):
            return
        self._changed = False
        self._keep()
        rollout, damping = self.plan()
        self._again = None if rollout.again is None else self.now + rollout.again
        self._due.append((round(self.now + self.delay, 3), rollout, damping))

    def _keep(self) -> None:
        """Keep revisions, what is said of them, and which one serves."""
        key = self.workload.revision
        self.records.setdefault(key, record(key, len(self.records) + 1))
        if self.carried == key and self.ready(key) >= self.workload.wanted > 0:
            self.serving = key
        seen = self.observe()
        failure: Blocked | None = failed_now(seen, self.workload)
        if failure:
            self.records[key] = replace(self.records[key], failed_reason=failure.reason)

    def _act(self, rollout: Rollout, damping: Damping) -> None:
        if (rollout.revision, rollout.replicas, rollout.strategy == "Surge") != self._asked():
            self.carried, self.replicas = rollout.revision, rollout.replicas
            self.surge, self._changed = rollout.strategy == "Surge", True
        if rollout.revision == self.workload.revision:
            self.strategies.append(rollout.strategy)
        gone = {pod.name for pod in damping.trim}
        self._changed |= bool(gone)
        self.pods = [pod for pod in self.pods if pod.name not in gone]
        self.rollout = rollout

    def _asked(self) -> tuple[str, int, bool]:
        return self.carried, self.replicas, self.surge

    def _view(self, pod: Pod) -> PodView:
        options: list[gen.Option] = []
        if pod.waits:
            options.append(gen.unschedulable(pod.waits))
        if pod.device:
            options.append(gen.placed(pod.device, after=pod.made))
        if pod.came is not None:
            loaded = pod.came + self.load <= self.now
            broken = pod.revision in self.bad and loaded
            options.append(gen.fetch_failed(1, NOT_THERE) if broken else gen.starting(pod.device))
        if pod.ready:
            options.append(gen.ready())
        if pod.dead:
            options.append(gen.refused())
        if pod.ends is not None:
            options.append(gen.deleting)
        return parse_pod(gen.pod(pod.name, *options, revision=pod.revision, created=pod.made))

    # --- the Deployment's controller ------------------------------------------------------------------

    def _deploy(self) -> None:
        if not self.carried:
            return
        most = self.replicas + self.surge
        active = {key: one for key, one in self.sets.items() if one.spec}
        if any(one.desired != self.replicas for one in active.values()):
            self._scale(active, most)
        elif self.carried not in self.sets:
            self.sets[self.carried] = ReplicaSet(0, self.replicas, most)
            self._roll(most)
        else:
            self._roll(most)
        for one in self.sets.values():
            if one.spec or one is self.sets.get(self.carried):
                one.desired, one.most = self.replicas, most

    def _roll(self, most: int) -> None:
        """`rolloutRolling`: up if we can, else down if we can."""
        new, total = self.sets[self.carried], sum(one.spec for one in self.sets.values())
        if new.spec != self.replicas:
            room = min(max(most - total, 0), max(self.replicas - new.spec, 0))
            grown = self.replicas if new.spec > self.replicas else new.spec + room
            if grown != new.spec:
                new.spec = grown
                return
        least = self.replicas - (0 if self.surge else 1)
        spare = total - least - (new.spec - self.ready(self.carried))
        if spare <= 0:
            return
        old = [(key, one) for key, one in self.sets.items() if one is not new]
        for key, one in old:
            unhealthy = min(spare, one.spec - self.ready(key))
            one.spec, spare = one.spec - unhealthy, spare - unhealthy
        surplus = self.ready() - least
        for _, one in old:
            less = min(one.spec, max(surplus, 0))
            one.spec, surplus = one.spec - less, surplus - less

    def _scale(self, active: dict[str, ReplicaSet], most: int) -> None:
        """`scale`: one active set takes the number; several share it in proportion."""
        if len(active) == 1:
            next(iter(active.values())).spec = self.replicas
            return
        allowed = most if self.replicas else 0
        left = allowed - sum(one.spec for one in active.values())
        order = sorted(active.values(), key=lambda one: -one.spec)
        for one in order:
            share = -one.spec if not self.replicas else _round(one.spec * most / one.most) - one.spec
            share = min(share, left) if left > 0 else max(share, left) if left < 0 else 0
            one.spec, left = one.spec + share, left - share
        order[0].spec = max(order[0].spec + left, 0)

    # --- ReplicaSets, scheduler, node -----------------------------------------------------------------

    def _replicate(self) -> None:
        for key, one in self.sets.items():
            pods = [pod for pod in self.pods if pod.active and pod.revision == key]
            for _ in range(one.spec - len(pods)):
                self.made += 1
                self.tries.append(self.now)
                self.pods.append(Pod(f"digits-{self.made:04}", key, self.now))
                self._changed = True
            rank = sorted(
                pods, key=lambda pod: (bool(pod.device), pod.came is not None, pod.ready, -pod.made)
            )
            for pod in rank[: max(len(pods) - one.spec, 0)]:
                pod.ends, self._changed = self.now + (self.grace if pod.came is not None else 0), True

    def _schedule(self) -> None:
        kept = [pod for pod in self.pods if pod.ends is None or pod.ends > self.now]
        self._changed |= len(kept) < len(self.pods)
        self.pods = kept
        for pod in self.pods:
            if pod.active and not pod.device:
                before = pod.waits
                pod.waits = self._lacks()
                pod.device = "" if pod.waits else self._free()[0]
                self._changed |= bool(pod.device) or pod.waits != before

    def _lacks(self) -> str:
        """What the scheduler says of one more pod; empty where it has a place for it."""
        if self.shut or not self._free():
            return self.shut or NO_DEVICE
        held = sum(bool(pod.device) and not pod.dead for pod in self.pods)
        return NO_MEMORY if held >= self.memory else ""

    def _free(self) -> list[str]:
        """Devices that no pod holds; refused ones first, which is the worst, or as the dice say."""
        held = {pod.device for pod in self.pods if not pod.dead}
        free = [device for device in self.devices if device not in held]
        if self.dice:
            return self.dice.sample(free, len(free))
        return sorted(free, key=lambda device: not self.refuses(device, self.now))

    def _start(self) -> None:
        for pod in self.pods:
            if not pod.active or not pod.device:
                continue
            if pod.came is None:
                pod.dead = self.refuses(pod.device, self.now)
                pod.came, self._changed = None if pod.dead else self.now, True
            elif pod.came + self.load <= self.now and not pod.ready:
                self._changed |= self.now - STEP < pod.came + self.load
                ready = pod.revision not in self.bad
                self._changed |= ready
                pod.ready = ready


def _round(value: float) -> int:
    return int(value + 0.5)


def until(seconds: float) -> Callable[[str, float], bool]:
    """Every device is refused for so long."""
    return lambda _device, now: now < seconds


def running(revision: str, count: int, devices: int, **changed: object) -> World:
    """A revision that serves already with so many replicas."""
    world = World(workload(revision, count), [f"gpu-{number}" for number in range(devices)]).run(10)
    assert world.ready(revision) == count
    for name, value in changed.items():
        setattr(world, name, value)
    return world
