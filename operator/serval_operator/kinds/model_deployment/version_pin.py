"""The version pin: all replicas of a revision serve the version that the first one found. Pure.

The first replicas start at the same time, before there is a pin, and may find different models, and a pin may
be deleted by hand. So what the replicas fetched is compared, and one that differs is replaced: its successor
starts with the pin. The fetcher reports whether a pin bound it; such a report says what the pin holds, which
the operator itself may not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from serval_contract.report import FetchReport
from serval_operator.api.actions import Creation, Deletion
from serval_operator.api.naming import pin_name
from serval_operator.api.resources import CONFIG_MAPS, PODS
from serval_operator.api.snapshots import OwnerView, PodView
from serval_operator.kinds.model_deployment.manifests.pin import pin
from serval_operator.pods.observation import Observed
from serval_operator.pods.pod_state import fetch_result
from serval_operator.reconcile.plan import Outcome
from serval_operator.workload.desired import Desired

SHOWN_DIGITS = 12
"""Hexadecimal digits of a digest that a message shows."""


class Found(NamedTuple):
    """A version of a model, and the digest of its files."""

    version: int | None
    digest: str

    def __str__(self) -> str:
        """As messages show it."""
        algorithm, _, digits = self.digest.partition(":")
        return f"version {self.version} ({algorithm}:{digits[:SHOWN_DIGITS]})"


@dataclass(frozen=True, slots=True)
class Agreement:
    """What the replicas of the newest revision have to serve, and which of them serve something else.

    Parameters
    ----------
    model:
        What they have to serve; None while no replica has fetched it.
    skewed:
        What to say of each replica that serves something else, by uid.
    unbound:
        Those of them that no pin bound, in the order of their age.
    agreeing:
        Whether any replica serves the right model.
    waiting:
        uids of the replicas that have still to fetch the model.
    """

    model: Found | None = None
    skewed: Mapping[str, str] = field(default_factory=dict)
    unbound: tuple[PodView, ...] = ()
    agreeing: bool = False
    waiting: frozenset[str] = frozenset()


def compare_replicas(desired: Desired, observed: Observed) -> Agreement:
    """Compare what the replicas of the newest revision fetched.

    What a pin bound counts first, then what the status says of the pin, then the oldest replica.
    """
    pods = sorted(observed.newest(desired.revision), key=_age)
    fetched = [(pod, report) for pod in pods if (report := fetch_result(pod))]
    reports = [(pod, report) for pod, report in fetched if report.digest]
    bound = next((_found(report) for _, report in reports if report.pinned), None)
    oldest = next((_found(report) for _, report in reports), None)
    model = bound or _pinned(observed.model, desired) or oldest
    odd = [(pod, report) for pod, report in reports if _found(report) != model]
    return Agreement(
        model=model,
        skewed={pod.uid: f"it serves {_found(report)}, and its revision {model}" for pod, report in odd},
        unbound=tuple(pod for pod, report in odd if not report.pinned),
        agreeing=len(odd) < len(reports),
        waiting=frozenset(pod.uid for pod in pods) - {pod.uid for pod, _ in fetched},
    )


def pin_creation(desired: Desired, observed: Observed, agreement: Agreement) -> Creation | None:
    """The ConfigMap that binds the replicas; None if there is nothing to bind, or nothing to bind it to.

    It may have been deleted since the status said that it exists. No one can tell, as it may not be read. So
    it is created once more for each replica that has still to fetch the model, and before a replica is
    replaced for its sake.
    """
    record, found = observed.revision(desired.revision), agreement.model
    if desired.model.version is not None or record is None:
        return None
    if found is None or found.version is None:
        return None
    due = bool(replaced(desired, observed, agreement))
    if _pinned(observed.model, desired) and not agreement.waiting and not due:
        return None
    manifest = pin(observed.model, record, version=found.version, digest=found.digest)
    # Without it replicas are not bound, but they serve.
    return Creation(CONFIG_MAPS, manifest, required=False, once_for=None if due else agreement.waiting)


def replaced(desired: Desired, observed: Observed, agreement: Agreement) -> tuple[Deletion, ...]:
    """Replicas to delete, because they serve something else than the others, and a successor would not.

    One that a pin bound is never deleted: its successor would be bound to the same. Nor is the last one that
    serves: one that is ready goes only while all others are ready. Where there is no pin, as for a version
    that the spec names, nothing is deleted either: every deletion waits for the pin.
    """
    if not agreement.agreeing:
        return ()
    pods = observed.newest(desired.revision)
    idle = [pod for pod in agreement.unbound if not pod.ready]
    settled = all(pod.ready for pod in pods) and len(pods) >= desired.wanted
    chosen = idle or (agreement.unbound[:1] if settled else ())
    name = pin_name(observed.model.name, observed.model.uid, desired.revision)
    return tuple(Deletion(PODS, pod, after=(CONFIG_MAPS.kind, name)) for pod in chosen)


def is_pinned(model: OwnerView, desired: Desired, outcome: Outcome) -> bool:
    """Whether replicas to come are bound to one version and digest."""
    if desired.model.version is not None:
        return False
    name = pin_name(model.name, model.uid, desired.revision)
    return outcome.did(CONFIG_MAPS, name) or _pinned(model, desired) is not None


def _pinned(model: OwnerView, desired: Desired) -> Found | None:
    """What the status says that the revision is bound to; None if it says nothing of it."""
    known = model.status.get("model") or {}
    if not known.get("pinned") or model.status.get("revision") != desired.revision:
        return None
    return Found(known.get("version"), str(known.get("digest", "")))


def _found(report: FetchReport) -> Found:
    return Found(report.version, report.digest)


def _age(pod: PodView) -> tuple[float, str]:
    return (pod.created.timestamp() if pod.created else 0.0, pod.name)
