"""The key of a revision: a digest of exactly those values of a spec that shape the pods.

A key must survive upgrades. Three rules follow:

- It is computed from the spec and not from the rendered template, so that a newer operator, which may render
  the same spec differently, restarts no model. The operator's configuration (images, architectures, profiles)
  is not part of it either.
- A field that is not set, or set to its default, leaves no trace. A field that a later CRD adds, or fills in
  with a default when an object is next written, changes no key. A default that is named here can therefore
  never change; a field whose default may change counts as soon as it is set.
- It is computed from the values, grouped under names that belong to this module. They are the paths of the
  fields in the first schema. A field that moves to another place in the spec, or is renamed, keeps its group
  and name here: moving a value changes no key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serval_contract.models import TENSORFLOW
from serval_operator.api.blocks import DISABLED, PREFERRED, Batching, Credentials, Endpoint, Probe, Scheduling
from serval_operator.api.naming import digest
from serval_operator.kinds.model_deployment.spec import Accelerator, ModelSource, ModelSpec

TOLERATION_OPERATOR = "Equal"
"""What a toleration without an operator does."""


def revision_key(spec: ModelSpec, *, fronted: bool = False) -> str:
    """Key of a spec's revision: ten hexadecimal digits.

    Parameters
    ----------
    fronted:
        Whether a front stands before the runtime's server.
    """
    return digest(_set(shape=_shape(spec), trigger=spec.rollout.trigger, front=True if fronted else None))


def _shape(spec: ModelSpec) -> dict[str, Any]:
    """The fields that shape the pod template; new ones only with a default that leaves no trace."""
    return _set(
        model=_model(spec.model),
        runtime=_set(
            name=spec.runtime,
            args=list(spec.runtime_args),
            env=[list(variable) for variable in spec.runtime_env],
            batching=_batching(spec.batching) if spec.batching else None,
        ),
        resources=_resources(spec.resources),
        accelerator=_accelerator(spec.accelerator) if spec.accelerator else None,
        scheduling=_scheduling(spec.scheduling),
        endpoint=_endpoint(spec.endpoint),
        probes=_set(
            startup=_probe(spec.startup), readiness=_probe(spec.readiness), liveness=_probe(spec.liveness)
        ),
        imagePullSecrets=list(spec.image_pull_secrets),
        podMetadata=_set(labels=dict(spec.pod_labels), annotations=dict(spec.pod_annotations)),
    )


def _model(model: ModelSource) -> dict[str, Any]:
    credentials = model.credentials or Credentials()
    return _set(
        uri=model.uri,
        name=model.name,
        version=model.version,
        framework=_unless(TENSORFLOW, model.framework),
        sha256=model.sha256,
        caConfigMapRef=list(model.ca_config_map or ()),
        credentials=_set(
            secretRef=credentials.secret_name, serviceAccountName=credentials.service_account_name
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
    )


def _batching(batching: Batching) -> dict[str, Any]:
    return _set(
        maxBatchSize=batching.max_batch_size,
        timeoutMicros=batching.timeout_micros,
        maxEnqueued=batching.max_enqueued,
    )


def _scheduling(scheduling: Scheduling) -> dict[str, Any]:
    return _set(
        nodeSelector=dict(scheduling.node_selector),
        tolerations=[_toleration(one) for one in scheduling.tolerations],
        topologySpread=_unless(PREFERRED, scheduling.topology_spread),
        priorityClassName=scheduling.priority_class,
        runtimeClassName=scheduling.runtime_class,
        schedulerName=scheduling.scheduler,
    )


def _toleration(toleration: Mapping[str, Any]) -> dict[str, Any]:
    return _set(**{**toleration, "operator": _unless(TOLERATION_OPERATOR, toleration.get("operator"))})


def _endpoint(endpoint: Endpoint) -> dict[str, Any]:
    return _set(
        # Enabled is what the runtime does anyway, or the reason for a front, which counts by itself.
        rawBytes=DISABLED if endpoint.raw_bytes == DISABLED else None,
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
    """Fields that are set. The number 0 is set too; maps and lists that users fill count as a whole."""
    return {name: value for name, value in fields.items() if value is not None and value not in ("", [], {})}
