"""The key of a revision: a digest of exactly those fields of a spec that shape the pods.

A key must outlive upgrades. It comes from the spec and not from the rendered template, so that a newer
operator, which may render the same spec otherwise, restarts no model. And what is not set, or set to its
default, leaves no trace in it: a field that a later CRD adds, or fills in with a default when an object is
next written, changes no key.

So a default that is named here is for good. A field whose default may ever change counts as soon as it is
set, to whatever value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serval_contract.models import TENSORFLOW
from serval_operator.api.model import (
    SCORING_DISABLED,
    Accelerator,
    Endpoint,
    ModelSource,
    ModelSpec,
    Probe,
)
from serval_operator.api.naming import digest
from serval_operator.api.spec_blocks import PREFERRED, Credentials

TOLERATION_OPERATOR = "Equal"
"""What a toleration without an operator does."""


def revision_key(spec: ModelSpec, update_requested: str, *, fronted: bool = False) -> str:
    """Key of a spec's revision: ten hexadecimal digits.

    Parameters
    ----------
    update_requested:
        Value of the annotation that asks for a new rendering; empty for none.
    fronted:
        Whether a front stands before the runtime's server.
    """
    return digest(_set(shape=_shape(spec), update=update_requested, front=True if fronted else None))


def _shape(spec: ModelSpec) -> dict[str, Any]:
    """The fields that shape the pod template; new ones only with a default that leaves no trace."""
    return _set(
        model=_model(spec.model),
        runtime=_set(
            name=spec.runtime,
            args=list(spec.runtime_args),
            env=[list(variable) for variable in spec.runtime_env],
        ),
        resources=_resources(spec.resources),
        accelerator=_accelerator(spec.accelerator) if spec.accelerator else None,
        endpoint=_endpoint(spec.endpoint),
        probes=_set(
            startup=_probe(spec.startup), readiness=_probe(spec.readiness), liveness=_probe(spec.liveness)
        ),
        imagePullSecrets=list(spec.image_pull_secrets),
        priorityClassName=spec.priority_class,
        podMetadata=_set(labels=dict(spec.pod_labels), annotations=dict(spec.pod_annotations)),
        topologySpread=_unless(PREFERRED, spec.topology_spread),
    )


def _model(model: ModelSource) -> dict[str, Any]:
    credentials = model.credentials or Credentials()
    return _set(
        uri=model.uri,
        name=model.name,
        version=model.version,
        framework=_unless(TENSORFLOW, model.framework),
        sha256=model.sha256,
        caConfigMap=list(model.ca_config_map or ()),
        credentials=_set(
            secretName=credentials.secret_name, serviceAccountName=credentials.service_account_name
        ),
    )


def _resources(resources: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Quantities as texts: 2 and "2" ask for the same."""
    sides = {side: {name: str(amount) for name, amount in asked.items()} for side, asked in resources.items()}
    return _set(**sides)


def _accelerator(accelerator: Accelerator) -> dict[str, Any]:
    return _set(
        profile=accelerator.profile,
        resourceName=accelerator.resource_name,
        count=_unless(1, accelerator.count),
        nodeSelector=dict(accelerator.node_selector),
        tolerations=[_toleration(one) for one in accelerator.tolerations],
    )


def _toleration(toleration: Mapping[str, Any]) -> dict[str, Any]:
    return _set(**{**toleration, "operator": _unless(TOLERATION_OPERATOR, toleration.get("operator"))})


def _endpoint(endpoint: Endpoint) -> dict[str, Any]:
    return _set(
        # Enabled is what the runtime does anyway, or what a front is there for, which counts by itself.
        scoring=endpoint.scoring if endpoint.scoring == SCORING_DISABLED else None,
        timeoutSeconds=endpoint.timeout_seconds,
        maxConcurrentRequests=endpoint.max_concurrent_requests,
    )


def _probe(probe: Probe) -> dict[str, Any]:
    return _set(
        periodSeconds=probe.period_seconds,
        timeoutSeconds=probe.timeout_seconds,
        failureThreshold=probe.failure_threshold,
    )


def _unless(default: Any, value: Any) -> Any:
    """The value, or None where it is the default."""
    return None if value == default else value


def _set(**fields: Any) -> dict[str, Any]:
    """Fields that are set. Of numbers 0 is one too; what users name in maps and lists counts whole."""
    return {name: value for name, value in fields.items() if value is not None and value not in ("", [], {})}
