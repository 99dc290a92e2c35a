"""The status of what serves a model, beside its conditions, out of one observation."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from serval_contract.ports import PORT_GRPC, PORT_HTTP
from serval_contract.report import FetchReport
from serval_operator.api.blocks.rollout import Strategy
from serval_operator.api.blocks.served import ServedSpec
from serval_operator.api.blocks.source import ModelSource
from serval_operator.api.conditions import format_time
from serval_operator.api.facts import Facts
from serval_operator.api.judgement import Status
from serval_operator.api.naming import selector
from serval_operator.api.snapshots import OwnerView, PodView
from serval_operator.constants import (
    ACCELERATOR_AVAILABLE,
    ACCELERATOR_IN_USE,
    AVAILABLE,
    ENDPOINT_READY,
    MAX_MESSAGE,
    MODEL_FETCHED,
    MODEL_LOADED,
    READY,
    RECONCILING,
    SCHEDULED,
    STALLED,
    UPDATE_AVAILABLE,
)
from serval_operator.pods.observation import Observed
from serval_operator.pods.pod_state import Verdict, fetch_result
from serval_operator.reasons import SERVING
from serval_operator.workload.readiness import Readiness

CONDITIONS = (
    READY,
    AVAILABLE,
    ACCELERATOR_AVAILABLE,
    SCHEDULED,
    MODEL_FETCHED,
    MODEL_LOADED,
    ENDPOINT_READY,
    ACCELERATOR_IN_USE,
    UPDATE_AVAILABLE,
    RECONCILING,
    STALLED,
)
"""Types of the conditions of an object that serves a model, in their order."""
MOST_PLACES = 1000
"""Nodes that `placement` lists: as many as the CRD takes."""


@dataclass(frozen=True, slots=True)
class Served:
    """What the pods serve that the Deployment carries.

    Parameters
    ----------
    endpoints:
        Addresses of the model, by field of `status.endpoints`.
    facts:
        Facts about these pods.
    """

    model: ModelSource
    endpoints: Mapping[str, str]
    facts: Facts


def build_status(
    observed: Observed,
    readiness: Readiness,
    spec: ServedSpec | None,
    revision: str,
    *,
    served: Served | None = None,
    carried: str = "",
    strategy: Strategy | None = None,
    accelerator: Status | None = None,
    pinned: bool = False,
    skewed: Collection[str] = (),
) -> Status:
    """Status to store, without conditions.

    Parameters
    ----------
    spec, revision:
        The spec and its revision; None and empty when the spec cannot be used. What earlier generations left
        running is then still described as it was.
    served:
        What the pods serve that the Deployment carries; None when the spec cannot be used.
    carried:
        Revision that the Deployment carries where that is another one, because the newest failed.
    strategy:
        How a change goes out now.
    accelerator:
        What the operator knows of devices that pods wait for; None while none waits.
    pinned:
        Whether replicas to come are bound to the version that the first one found.
    skewed:
        uids of the pods that serve another model than their revision does.
    """
    model = observed.model
    wanted = spec.wanted_replicas if spec else model.spec.get("replicas", 1)
    status: Status = {
        "replicas": readiness.replicas,
        "readyReplicas": readiness.ready_replicas,
        "updatedReplicas": readiness.updated_replicas,
        "replicasSummary": f"{readiness.ready_replicas}/{wanted}",
        "selector": ",".join(f"{key}={value}" for key, value in sorted(selector(model.key).items())),
    }
    status |= _description(observed, served, carried or revision, strategy, pinned=pinned, skewed=skewed)
    if spec:
        status["revision"] = revision
    optional = {
        "placement": _placement(observed),
        "lastFailure": _last_failure(observed, readiness.failure),
        "accelerator": accelerator,
        "servingRevision": _serving(model, readiness, revision),
    }
    return status | {field: value for field, value in optional.items() if value}


def _serving(model: OwnerView, readiness: Readiness, revision: str) -> str:
    """The newest revision of which all replicas once answered: the one to go back to."""
    if readiness.ready.reason == SERVING:
        return revision
    return str(model.status.get("servingRevision") or "")


def _description(
    observed: Observed,
    served: Served | None,
    revision: str,
    strategy: Strategy | None,
    *,
    pinned: bool,
    skewed: Collection[str],
) -> Status:
    """What serves; if the spec cannot be used, the previous description."""
    model = observed.model
    if served is None:
        kept = ("revision", "endpoints", "model", "modelSummary", "effective")
        return {field: model.status[field] for field in kept if field in model.status}
    found = served_model(observed, served.model, revision, skewed)
    if pinned:
        found["pinned"] = True
    return {
        "endpoints": dict(served.endpoints),
        "model": found,
        "modelSummary": _summary(found),
        "effective": _effective(served.facts, strategy),
    }


def _placement(observed: Observed) -> list[dict[str, Any]]:
    """Where the pods run: one entry for each node, in the order of their names."""
    nodes: dict[str, dict[str, Any]] = {}
    for pod in observed.active():
        if pod.node:
            where = {"node": pod.node, "zone": pod.zone, "region": pod.region}
            known = {field: value for field, value in where.items() if value}
            entry = nodes.setdefault(pod.node, {**known, "replicas": 0})
            entry["replicas"] += 1
    return [nodes[node] for node in sorted(nodes)[:MOST_PLACES]]


def addresses(owner: OwnerView, model: ModelSource) -> dict[str, str]:
    """Addresses of a model in the cluster, by field of `status.endpoints`; all servers have these."""
    host = service_host(owner)
    return {
        "grpc": f"{host}:{PORT_GRPC}",
        "rest": f"http://{host}:{PORT_HTTP}/v1/models/{model.name}",
    }


def service_host(owner: OwnerView) -> str:
    """Name of an object's Service in the cluster's DNS."""
    return f"{owner.name}.{owner.namespace}.svc"


def served_model(
    observed: Observed, model: ModelSource, revision: str, skewed: Collection[str] = ()
) -> dict[str, Any]:
    """What the pods of the newest revision fetched; what was known of that revision while none tells."""
    served: dict[str, Any] = {"name": model.name}
    pods = [pod for pod in observed.living() if pod.revision == revision and pod.uid not in skewed]
    pods.sort(key=_ready_first)
    result = next((result for result in map(fetch_result, pods) if result), None)
    if result:
        if result.version is not None:
            served["version"] = result.version
        if result.digest:
            served["digest"] = result.digest
        return served | _signature(result)
    known = observed.model.status.get("model") or {}
    if observed.model.status.get("revision") == revision and known.get("name") == served["name"]:
        return dict(known)
    if model.version is not None:
        served["version"] = model.version
    return served


def _signature(report: FetchReport) -> dict[str, list[dict[str, Any]]]:
    """Inputs and outputs of the model, as far as they are known and there are any."""
    tensors = {"inputs": report.inputs, "outputs": report.outputs}
    return {field: [one.fields() for one in values] for field, values in tensors.items() if values}


def _ready_first(pod: PodView) -> tuple[bool, str]:
    return (not pod.ready, pod.name)


def _summary(served: dict[str, Any]) -> str:
    return f"{served['name']}/{served['version']}" if "version" in served else str(served["name"])


def _effective(facts: Facts, strategy: Strategy | None) -> dict[str, str]:
    chosen = {
        "runtime": facts.runtime,
        "image": facts.image,
        "strategy": strategy or "",
        "accelerator": facts.placement.accelerator,
    }
    return {field: value for field, value in chosen.items() if value}


def _last_failure(observed: Observed, verdict: Verdict | None) -> dict[str, Any] | None:
    """The newest thing that ended badly; it stays after it healed, with the time at which it happened."""
    known = observed.model.status.get("lastFailure")
    if verdict is None or verdict.when is None:
        return dict(known) if known else None
    failure: dict[str, Any] = {
        "reason": verdict.reason,
        "message": verdict.message[:MAX_MESSAGE],
        "pod": verdict.pod,
        "time": format_time(verdict.when),
    }
    return failure if verdict.exit_code is None else {**failure, "exitCode": verdict.exit_code}
