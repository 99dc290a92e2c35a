"""The spec of a ModelDeployment, typed.

The CRD's schema and CEL rules refuse almost everything that is wrong before it is stored. What is checked
here again is what the operator relies on: an object may be older than a rule, and a rule may be ratcheted
(tolerated in an unchanged field).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from serval_contract.models import FRAMEWORKS, TENSORFLOW
from serval_contract.paths import RESERVED_NAMES
from serval_contract.schemes import PREFIXES, SCHEMES, Scheme
from serval_operator.api.blocks import (
    AUTO,
    Autoscaling,
    Batching,
    Credentials,
    Disruption,
    Endpoint,
    Probe,
    RawBytes,
    Rollout,
    Scheduling,
    WhenUnavailable,
    invalid,
    known_word,
    parse_autoscaling,
    parse_batching,
    parse_credentials,
    parse_disruption,
    parse_rollout,
    parse_scheduling,
    parse_when_unavailable,
    whole_number,
)
from serval_operator.constants import MAX_NAME, RESERVED_METADATA_DOMAINS

_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_MODEL_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True)
class ModelSource:
    """What to serve: `spec.model`.

    Parameters
    ----------
    uri:
        ``pvc://claim/path``, ``https://host/archive.tar.gz``, ``azureblob://account/container/path``,
        ``s3://bucket/path``, ``gs://bucket/path`` or ``oci://registry/repository:tag``.
    name:
        Name under which clients ask for the model.
    version:
        The wanted version, or None for the highest found.
    framework:
        What made the model's files: ``TensorFlow`` or ``ONNX``.
    ca_config_map:
        Name and key of a ConfigMap with the certificate authority of an https source, or None.
    credentials:
        Identity of the fetch container at the store, or None to fetch anonymously.
    """

    uri: str
    name: str
    version: int | None
    framework: str
    sha256: str
    ca_config_map: tuple[str, str] | None
    credentials: Credentials | None = None

    @property
    def scheme(self) -> str:
        """Scheme of the address, in lower case."""
        return self.uri.partition("://")[0].lower()

    @property
    def claim(self) -> str:
        """Name of the persistent volume claim of a ``pvc://`` address."""
        return self.uri.partition("://")[2].partition("/")[0]

    @property
    def image(self) -> str:
        """Reference of the image of an ``oci://`` address."""
        return self.uri.partition("://")[2]


@dataclass(frozen=True, slots=True)
class Accelerator:
    """What each replica runs on: `spec.accelerator`. Either a profile or a resource name is set.

    Parameters
    ----------
    when_unavailable:
        Whether pods are created while no node could ever take one: ``Wait`` yes, ``Refuse`` no, ``Auto`` no
        unless such a node may be added.
    """

    profile: str
    resource_name: str
    count: int
    when_unavailable: WhenUnavailable = AUTO


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A ModelDeployment's spec, checked."""

    model: ModelSource
    runtime: str
    runtime_args: tuple[str, ...]
    runtime_env: tuple[tuple[str, str], ...]
    replicas: int
    resources: Mapping[str, Mapping[str, Any]]
    accelerator: Accelerator | None
    endpoint: Endpoint
    startup: Probe
    readiness: Probe
    liveness: Probe
    suspend: bool
    batching: Batching | None = None
    scheduling: Scheduling = field(default_factory=Scheduling)
    image_pull_secrets: tuple[str, ...] = ()
    pod_labels: Mapping[str, str] = field(default_factory=dict)
    pod_annotations: Mapping[str, str] = field(default_factory=dict)
    rollout: Rollout = field(default_factory=Rollout)
    autoscaling: Autoscaling | None = None
    disruption: Disruption | None = None

    @property
    def wanted_replicas(self) -> int:
        """Pods that should run: none while suspended."""
        return 0 if self.suspend else self.replicas


def parse_spec(name: str, spec: Mapping[str, Any]) -> ModelSpec:
    """Read a spec as the API server stored it.

    Parameters
    ----------
    name:
        Name of the custom resource: the default of the model's name.

    Raises
    ------
    InvalidSpec
        The message names the field and says what must hold.
    """
    if len(name) > MAX_NAME or not _NAME.fullmatch(name):
        raise invalid(
            f"`metadata.name` must be at most {MAX_NAME} of a-z, 0-9 and '-', starting with a letter"
        )
    runtime = spec.get("runtime") or {}
    probes = spec.get("probes") or {}
    metadata = spec.get("podMetadata") or {}
    return ModelSpec(
        model=_model(name, spec.get("model") or {}),
        runtime=runtime.get("name") or "",
        runtime_args=tuple(runtime.get("args") or ()),
        runtime_env=tuple((str(one["name"]), str(one.get("value", ""))) for one in runtime.get("env") or ()),
        replicas=whole_number("spec.replicas", spec.get("replicas", 1), least=0),
        resources=spec.get("resources") or {},
        accelerator=_accelerator(spec.get("accelerator")),
        endpoint=_endpoint(spec.get("endpoint") or {}),
        startup=_probe(probes.get("startup")),
        readiness=_probe(probes.get("readiness")),
        liveness=_probe(probes.get("liveness")),
        suspend=bool(spec.get("suspend")),
        batching=parse_batching(runtime.get("batching")),
        scheduling=parse_scheduling(spec.get("scheduling")),
        image_pull_secrets=tuple(one["name"] for one in spec.get("imagePullSecrets") or ()),
        pod_labels=_metadata("labels", metadata.get("labels")),
        pod_annotations=_metadata("annotations", metadata.get("annotations")),
        rollout=parse_rollout(spec.get("rollout")),
        autoscaling=parse_autoscaling(spec),
        disruption=parse_disruption(spec.get("disruption")),
    )


def _model(default_name: str, model: Mapping[str, Any]) -> ModelSource:
    uri = str(model.get("uri") or "")
    scheme = _scheme(uri)
    name = str(model.get("name") or default_name)
    if not _MODEL_NAME.fullmatch(name):
        raise invalid("`spec.model.name` must be at most 63 letters, digits, '.', '_' or '-'")
    if name in RESERVED_NAMES:
        raise invalid(f"`spec.model.name` must not be the reserved name `{name}`")
    ca = model.get("caConfigMapRef")
    credentials = parse_credentials(model.get("credentials"))
    if credentials and not scheme.takes_credentials:
        raise invalid(
            f"`spec.model.credentials` must be absent where `spec.model.uri` starts with {scheme.prefix}"
        )
    return ModelSource(
        uri=uri,
        name=name,
        version=model.get("version"),
        framework=known_word("spec.model.framework", model.get("framework"), FRAMEWORKS, TENSORFLOW),
        sha256=str(model.get("sha256") or ""),
        ca_config_map=(str(ca["name"]), str(ca.get("key") or "ca.crt")) if ca else None,
        credentials=credentials,
    )


def _scheme(uri: str) -> Scheme:
    """The scheme of an address, whose form is checked."""
    name, _, rest = uri.partition("://")
    scheme = SCHEMES.get(name.lower())
    if scheme is None or not rest:
        raise invalid(f"`spec.model.uri` must be an address that starts with one of {', '.join(PREFIXES)}")
    if ".." in rest.split("/") or "%2e" in rest.lower() or "\\" in rest or not uri.isprintable():
        raise invalid(
            "`spec.model.uri` must not contain `..`, encoded dots, backslashes or control characters"
        )
    if not scheme.accepts(scheme.prefix + rest):
        raise invalid(f"`spec.model.uri` must have the form {scheme.form}")
    return scheme


def _accelerator(spec: Mapping[str, Any] | None) -> Accelerator | None:
    if not spec:
        return None
    profile, resource = str(spec.get("profile") or ""), str(spec.get("resourceName") or "")
    if bool(profile) == bool(resource):
        raise invalid("`spec.accelerator` must have either `profile` or `resourceName`")
    return Accelerator(
        profile=profile,
        resource_name=resource,
        count=whole_number("spec.accelerator.count", spec.get("count", 1), least=1),
        when_unavailable=parse_when_unavailable(spec),
    )


def _endpoint(spec: Mapping[str, Any]) -> Endpoint:
    raw_bytes: tuple[RawBytes | None, ...] = get_args(RawBytes)
    return Endpoint(
        raw_bytes=known_word("spec.endpoint.rawBytes", spec.get("rawBytes"), raw_bytes, None),
        timeout_seconds=spec.get("timeoutSeconds"),
        max_concurrent_requests=spec.get("maxConcurrentRequests"),
    )


def _probe(spec: Mapping[str, Any] | None) -> Probe:
    values = spec or {}
    return Probe(values.get("periodSeconds"), values.get("timeoutSeconds"), values.get("failureThreshold"))


def _metadata(what: str, values: Mapping[str, Any] | None) -> Mapping[str, str]:
    """Labels or annotations for the pods; keys of Kubernetes, of ours and of GitOps tools are refused."""
    for key in values or {}:
        domain = key.rpartition("/")[0]
        if any(domain == one or domain.endswith(f".{one}") for one in RESERVED_METADATA_DOMAINS):
            raise invalid(f"`spec.podMetadata.{what}` must not have the reserved key `{key}`")
    return {str(key): str(value) for key, value in (values or {}).items()}
