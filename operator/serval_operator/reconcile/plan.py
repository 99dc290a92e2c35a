"""What a kind plans from, what its plan is, and what came of it: all of it data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from serval_contract.progress import Progress
from serval_operator.api.actions import Creation, Deletion, Patch
from serval_operator.api.conditions import Blocked
from serval_operator.api.judgement import Judgement
from serval_operator.api.naming import Key
from serval_operator.api.nodes import NodeView
from serval_operator.api.resources import Children, Resource
from serval_operator.api.snapshots import OwnerView, PodView
from serval_operator.cluster.questions import Answers
from serval_operator.config import Configuration
from serval_operator.jobs.plan import ToPoll
from serval_operator.pods.device_report import Answer
from serval_operator.pods.observation import Observed
from serval_operator.reconcile.together import Failed


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything that a plan depends on.

    Parameters
    ----------
    nodes:
        All nodes; none where they are not watched.
    referenced:
        The custom resources that this one names; None for one that does not exist.
    pages:
        Progress pages of its running Jobs, by uid of the pod.
    devices:
        What its pods said about their devices until now, by uid.
    crowd:
        How many custom resources wait for a place on a node.
    hide_foreign:
        Whether holders of devices in other namespaces are counted only, and not named.
    """

    observed: Observed
    configuration: Configuration
    nodes: Sequence[NodeView] = ()
    referenced: Mapping[Key, OwnerView | None] = field(default_factory=dict)
    answers: Answers = field(default_factory=Answers)
    pages: Mapping[str, Progress] = field(default_factory=dict)
    devices: Mapping[str, Answer] = field(default_factory=dict)
    crowd: int = 0
    hide_foreign: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a plan.

    Parameters
    ----------
    blocked:
        What keeps the plan from being carried out as a whole, if anything does.
    done:
        Kind and name of each object that was applied, created or patched. One to be created that existed
        already counts too.
    sent:
        Whether anything may have changed by it.
    failed:
        The first request that failed in a way that may pass.
    left:
        Whether something that the plan can do without failed. It is tried again.
    devices:
        What the pods that the plan asks said about their devices, by uid.
    """

    blocked: Blocked | None = None
    done: frozenset[tuple[str, str]] = frozenset()
    sent: bool = False
    failed: Failed | None = None
    left: bool = False
    devices: Mapping[str, Answer] = field(default_factory=dict)

    def did(self, resource: Resource, name: str) -> bool:
        """Whether a creation or a patch of an object took effect."""
        return (resource.kind, name) in self.done


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done about a custom resource, and how to judge it afterwards.

    Parameters
    ----------
    judge:
        Pure: makes the judgement from what is observed after the plan was carried out.
    apply:
        Whole manifests of its children. Children of kinds that it may do without and that are not among them
        are deleted. None leaves all children as they are.
    creations, patches, deletions:
        What else is sent. Deletions come last; one that fails is only logged.
    blocked:
        Why the plan is not what the spec asks for. It is planned again after a pause.
    asks:
        Pods that are asked what their model runs on.
    exclusive:
        Name of the model, where its devices are for it alone. Then these pods are asked for the health of
        their devices too.
    polls:
        Pods of Jobs whose progress pages are polled.
    """

    judge: Callable[[Observed, Outcome], Judgement]
    apply: Children | None = None
    creations: tuple[Creation, ...] = ()
    patches: tuple[Patch, ...] = ()
    deletions: tuple[Deletion, ...] = ()
    blocked: Blocked | None = None
    asks: tuple[PodView, ...] = ()
    exclusive: str = ""
    polls: tuple[ToPoll, ...] = ()
