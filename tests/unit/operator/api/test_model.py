"""The typed spec: each field of the CRD has its place, and each wrong value its message."""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import pytest
import yaml

from serval_contract.schemes import PREFIXES
from serval_operator.api.model import (
    Accelerator,
    Endpoint,
    ModelSource,
    ModelSpec,
    Probe,
    parse_spec,
)
from serval_operator.api.spec_blocks import Autoscaling, Credentials, Disruption, Rollout
from serval_operator.constants import RESERVED_METADATA_DOMAINS
from serval_operator.errors import InvalidSpec
from serval_operator.reasons import INVALID_SPEC, UNSUPPORTED_SPEC
from unit.crd.schema import CRD_FILE, walk

pytestmark = pytest.mark.unit

LEAST: Mapping[str, Any] = {"model": {"uri": "pvc://models/digits"}}
TOLERATION = {"key": "sku", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"}
FULL: Mapping[str, Any] = {
    "model": {
        "uri": "https://models.example.com/a.tar.gz",
        "name": "A.b_c-1",
        "version": 7,
        "framework": "ONNX",
        "sha256": "0" * 64,
        "caConfigMap": {"name": "store-ca", "key": "ca.pem"},
        "credentials": {"secretName": "store.keys"},
    },
    "runtime": {"name": "serval", "args": ["--x=1", "--y"], "env": [{"name": "A", "value": "1"}]},
    "replicas": 4,
    "rollout": {
        "strategy": "InPlace",
        "progressDeadlineSeconds": 600,
        "minReadySeconds": 5,
        "onFailure": "Revert",
    },
    "autoscaling": {
        "minReplicas": 2,
        "maxReplicas": 6,
        "targetUtilization": 50,
        "metric": "RequestsInFlight",
    },
    "disruption": {"maxUnavailable": "25%"},
    "topologySpread": "Required",
    "resources": {"requests": {"cpu": 2}, "limits": {"memory": "4Gi"}},
    "accelerator": {
        "resourceName": "nvidia.com/gpu",
        "count": 2,
        "nodeSelector": {"pool": "gpu"},
        "tolerations": [TOLERATION],
        "whenUnavailable": "Wait",
    },
    "endpoint": {
        "expose": "ClusterIP",
        "scoring": "Disabled",
        "timeoutSeconds": 60,
        "maxConcurrentRequests": 8,
    },
    "probes": {
        "startup": {"periodSeconds": 1, "timeoutSeconds": 2, "failureThreshold": 3},
        "readiness": {"periodSeconds": 4, "timeoutSeconds": 5, "failureThreshold": 6},
        "liveness": {"periodSeconds": 7, "timeoutSeconds": 8, "failureThreshold": 9},
    },
    "suspend": True,
    "imagePullSecrets": [{"name": "registry"}],
    "priorityClassName": "high",
    "podMetadata": {"labels": {"team": "vision"}, "annotations": {"prometheus.io/scrape": "true"}},
}
FULL_SPEC = ModelSpec(
    model=ModelSource(
        uri="https://models.example.com/a.tar.gz",
        name="A.b_c-1",
        version=7,
        framework="ONNX",
        sha256="0" * 64,
        ca_config_map=("store-ca", "ca.pem"),
        credentials=Credentials(secret_name="store.keys"),
    ),
    runtime="serval",
    runtime_args=("--x=1", "--y"),
    runtime_env=(("A", "1"),),
    replicas=4,
    resources={"requests": {"cpu": 2}, "limits": {"memory": "4Gi"}},
    accelerator=Accelerator(
        profile="",
        resource_name="nvidia.com/gpu",
        count=2,
        node_selector={"pool": "gpu"},
        tolerations=(TOLERATION,),
        when_unavailable="Wait",
    ),
    endpoint=Endpoint(scoring="Disabled", timeout_seconds=60, max_concurrent_requests=8),
    startup=Probe(1, 2, 3),
    readiness=Probe(4, 5, 6),
    liveness=Probe(7, 8, 9),
    suspend=True,
    image_pull_secrets=("registry",),
    priority_class="high",
    pod_labels={"team": "vision"},
    pod_annotations={"prometheus.io/scrape": "true"},
    rollout=Rollout("InPlace", 600, 5, "Revert"),
    autoscaling=Autoscaling(2, 6, 50, "RequestsInFlight"),
    disruption=Disruption("25%"),
    topology_spread="Required",
)
WITHOUT_EFFECT = {
    ".endpoint.expose": "ClusterIP is its only value",
    ".accelerator.profile": "excludes resourceName, which FULL sets; tested on its own",
    ".model.credentials.serviceAccountName": "excludes secretName, which FULL sets; tested on its own",
}


def with_field(base: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A spec with one field set; ``path`` as a.b.c."""
    spec = deepcopy(dict(base))
    *parents, last = path.split(".")
    place = spec
    for parent in parents:
        place = place.setdefault(parent, {})
    place[last] = value
    return spec


def spec_schema() -> dict[str, Any]:
    (version,) = yaml.safe_load(CRD_FILE.read_text(encoding="utf-8"))["spec"]["versions"]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return schema


def set_fields(value: Any, path: str = "") -> set[str]:
    """Paths of a document in the notation of `walk`."""
    if isinstance(value, Mapping):
        inner = {one for key, child in value.items() for one in set_fields(child, f"{path}.{key}")}
        return inner | {path}
    if isinstance(value, list):
        return {one for child in value for one in set_fields(child, f"{path}[]")} | {path}
    return {path}


NEEDED = {
    ".model",
    ".model.uri",
    ".model.credentials.secretName",
    ".accelerator.resourceName",
    ".autoscaling.maxReplicas",
    ".endpoint",
    ".endpoint.maxConcurrentRequests",
}
"""Fields of the full spec without which the rest of it makes no sense."""


class TestFields:
    def test_every_field(self) -> None:
        assert parse_spec("digits", FULL) == FULL_SPEC

    def test_the_full_spec_has_every_field_of_the_crd(self) -> None:
        """So that a field that the CRD gains must be mapped, or stand above with a reason."""
        plain = {path for path, child in walk(spec_schema()) if not path.endswith(("{}", "[]"))}
        toleration = {f".accelerator.tolerations[].{field}" for field in (*TOLERATION, "tolerationSeconds")}
        missing = plain - set_fields(FULL) - toleration
        assert missing == set(WITHOUT_EFFECT) - {".endpoint.expose"}

    @pytest.mark.parametrize("path", sorted(set_fields(FULL) - {""}))
    def test_every_field_matters(self, path: str) -> None:
        """Without the field, the typed spec is another one (or there is none)."""
        spec = deepcopy(dict(FULL))
        _remove(spec, path)
        if path in (".endpoint.expose", ".runtime.env[].value"):
            return  # one value only; required by the CRD
        try:
            assert parse_spec("digits", spec) != FULL_SPEC
        except (InvalidSpec, KeyError):
            assert path in NEEDED or path.endswith(".name")

    def test_defaults(self) -> None:
        assert parse_spec("digits", LEAST) == ModelSpec(
            model=ModelSource("pvc://models/digits", "digits", None, "TensorFlow", "", None),
            runtime="",
            runtime_args=(),
            runtime_env=(),
            replicas=1,
            resources={},
            accelerator=None,
            endpoint=Endpoint("", None, None),
            startup=Probe(),
            readiness=Probe(),
            liveness=Probe(),
            suspend=False,
            rollout=Rollout("Auto", 1800, 0, "Hold"),
            autoscaling=None,
            disruption=None,
            topology_spread="Preferred",
        )

    def test_empty_blocks_are_as_good_as_none(self) -> None:
        names = (
            *("runtime", "resources", "accelerator", "endpoint", "probes", "podMetadata"),
            *("rollout", "autoscaling", "disruption"),
        )
        assert parse_spec("digits", {**LEAST, **{name: {} for name in names}}) == parse_spec("digits", LEAST)

    def test_profile(self) -> None:
        spec = parse_spec("digits", {**LEAST, "accelerator": {"profile": "nvidia-gpu"}})
        assert spec.accelerator == Accelerator("nvidia-gpu", "", 1, {}, (), "Auto")

    def test_a_service_account(self) -> None:
        model = {"uri": "s3://models/digits", "credentials": {"serviceAccountName": "reader"}}
        assert parse_spec("digits", {"model": model}).model.credentials == Credentials("", "reader")

    @pytest.mark.parametrize("side", ["requests", "limits"])
    def test_defaults_of_autoscaling(self, side: str) -> None:
        """A limit without a request is a request, too."""
        block = {"autoscaling": {"maxReplicas": 5}, "resources": {side: {"cpu": 1}}}
        assert parse_spec("digits", {**LEAST, **block}).autoscaling == Autoscaling(1, 5, 70, "CPU")

    def test_the_key_of_a_ca_has_a_default(self) -> None:
        uri = "https://models.example.com/a.zip"
        spec = parse_spec("digits", {"model": {"uri": uri, "caConfigMap": {"name": "ca"}}})
        assert spec.model.ca_config_map == ("ca", "ca.crt")

    @pytest.mark.parametrize(
        ("uri", "scheme", "claim"),
        [
            ("pvc://models/a/b", "pvc", "models"),
            ("pvc://models", "pvc", "models"),
            ("pvc://models.v2/", "pvc", "models.v2"),
            ("https://host:8443/a.zip?sig=a..b", "https", "host:8443"),
            ("azureblob://acct/models/a", "azureblob", "acct"),
            ("s3://models/a", "s3", "models"),
            ("gs://models", "gs", "models"),
        ],
    )
    def test_addresses(self, uri: str, scheme: str, claim: str) -> None:
        source = parse_spec("digits", {"model": {"uri": uri}}).model
        assert (source.uri, source.scheme, source.claim) == (uri, scheme, claim)

    @pytest.mark.parametrize(
        ("replicas", "suspend", "wanted"), [(3, False, 3), (3, True, 0), (0, False, 0), (0, True, 0)]
    )
    def test_wanted_replicas(self, replicas: int, suspend: bool, wanted: int) -> None:
        spec = parse_spec("digits", {**LEAST, "replicas": replicas, "suspend": suspend})
        assert spec.wanted_replicas == wanted


ADDRESS = f"`spec.model.uri` must be an address that starts with one of {', '.join(PREFIXES)}"
PATH = "`spec.model.uri` must not contain `..`, encoded dots, backslashes or control characters"
CLAIM = "`spec.model.uri` must have the form pvc://CLAIM/PATH"
MODEL_NAME = "`spec.model.name` must be at most 63 letters, digits, '.', '_' or '-'"
UNION = "`spec.accelerator` must have either `profile` or `resourceName`"
COUNT = "`spec.accelerator.count` must be a whole number of at least 1"
REPLICAS = "`spec.replicas` must be a whole number of at least 0"
CREDENTIALS = "`spec.model.credentials` must have either `secretName` or `serviceAccountName`"
FEWEST = "`spec.autoscaling.minReplicas` must be a whole number from 1 to 1000"
MOST = "`spec.autoscaling.maxReplicas` must be a whole number from 1 to 1000"
BUDGET = (
    "`spec.disruption.maxUnavailable` must be a number of at least 1 or a percentage above 0, "
    "such as 1 or 25%"
)


class TestInvalid:
    @pytest.mark.parametrize(
        ("path", "value", "message"),
        [
            ("model", None, ADDRESS),
            ("model.uri", "", ADDRESS),
            ("model.uri", "models/digits", ADDRESS),
            ("model.uri", "http://host/a.zip", ADDRESS),
            ("model.uri", "file:///etc/passwd", ADDRESS),
            ("model.uri", "s3://", ADDRESS),
            ("model.uri", "oci://registry/../a", PATH),
            ("model.credentials", {"secretName": "a", "serviceAccountName": "b"}, CREDENTIALS),
            ("model.credentials", {"secretName": ""}, CREDENTIALS),
            (
                "model",
                {"uri": "s3://bucket/a", "credentials": {"secretName": "other/keys"}},
                "`spec.model.credentials.secretName` must be the name of an object of this namespace",
            ),
            (
                "model",
                {"uri": "s3://bucket/a", "credentials": {"serviceAccountName": "../reader"}},
                "`spec.model.credentials.serviceAccountName` must be the name of an object of this namespace",
            ),
            (
                "model.credentials",
                {"secretName": "keys"},
                "`spec.model.credentials` must be absent where `spec.model.uri` starts with pvc://",
            ),
            (
                "rollout.progressDeadlineSeconds",
                0,
                "`spec.rollout.progressDeadlineSeconds` must be a whole number of at least 1",
            ),
            (
                "rollout.minReadySeconds",
                -1,
                "`spec.rollout.minReadySeconds` must be a whole number of at least 0",
            ),
            ("autoscaling", {"minReplicas": 1}, MOST),
            ("autoscaling", {"maxReplicas": 1001}, MOST),
            ("autoscaling", {"maxReplicas": True}, MOST),
            ("autoscaling", {"maxReplicas": 3, "minReplicas": 0}, FEWEST),
            (
                "autoscaling",
                {"maxReplicas": 3, "minReplicas": 4},
                "`spec.autoscaling.maxReplicas` must be at least `spec.autoscaling.minReplicas`",
            ),
            (
                "autoscaling",
                {"maxReplicas": 3, "targetUtilization": 101},
                "`spec.autoscaling.targetUtilization` must be a whole number from 1 to 100",
            ),
            (
                "autoscaling",
                {"maxReplicas": 3},
                "`spec.resources.requests.cpu` must be set, since `spec.autoscaling` scales on CPU",
            ),
            (
                "autoscaling",
                {"maxReplicas": 3, "metric": "RequestsInFlight"},
                (
                    "`spec.endpoint.maxConcurrentRequests` must be set, since `spec.autoscaling` scales on "
                    "requests in flight"
                ),
            ),
            *(
                ("disruption.maxUnavailable", value, BUDGET)
                for value in (0, -1, True, "0%", "1", "101%", "1%%", "٣%", 1.5, None)
            ),
            ("model.uri", "pvc://", ADDRESS),
            ("model.uri", "pvc://models/../secrets", PATH),
            ("model.uri", "pvc://models/..", PATH),
            ("model.uri", "https://host/%2e%2E/a.zip", PATH),
            ("model.uri", "https://host/a\\b.zip", PATH),
            ("model.uri", "https://host/a\n.zip", PATH),
            ("model.uri", "pvc:///path", CLAIM),
            ("model.uri", "pvc://Models/path", CLAIM),
            ("model.uri", "pvc://-x/path", CLAIM),
            ("model.name", "-x", MODEL_NAME),
            ("model.name", "a/b", MODEL_NAME),
            ("model.name", "x" * 64, MODEL_NAME),
            (
                "model.name",
                "monitoring.config",
                "`spec.model.name` must not be the reserved name `monitoring.config`",
            ),
            ("accelerator", {"count": 1}, UNION),
            ("accelerator", {"profile": "gpu", "resourceName": "nvidia.com/gpu"}, UNION),
            ("accelerator", {"profile": "gpu", "count": 0}, COUNT),
            ("accelerator", {"profile": "gpu", "count": "1"}, COUNT),
            ("accelerator", {"profile": "gpu", "count": True}, COUNT),
            ("replicas", -1, REPLICAS),
            ("replicas", 1.5, REPLICAS),
            ("replicas", None, REPLICAS),
            (
                "podMetadata.labels",
                {"team": "x", "serval.dev/name": "y"},
                "`spec.podMetadata.labels` must not have the reserved key `serval.dev/name`",
            ),
            (
                "podMetadata.annotations",
                {"container.apparmor.security.beta.kubernetes.io/server": "unconfined"},
                (
                    "`spec.podMetadata.annotations` must not have the reserved key "
                    "`container.apparmor.security.beta.kubernetes.io/server`"
                ),
            ),
        ],
    )
    def test_message(self, path: str, value: Any, message: str) -> None:
        with pytest.raises(InvalidSpec, match=f"^{re.escape(message)}$") as caught:
            parse_spec("digits", with_field(LEAST, path, value))
        assert caught.value.reason == INVALID_SPEC

    @pytest.mark.parametrize(
        ("path", "known"),
        [
            ("rollout.strategy", "Auto, Surge, InPlace"),
            ("rollout.onFailure", "Hold, Revert"),
            ("topologySpread", "Preferred, Required, Disabled"),
            ("autoscaling.metric", "CPU, RequestsInFlight"),
            ("accelerator.whenUnavailable", "Auto, Wait, Refuse"),
        ],
    )
    def test_a_word_of_a_newer_operator(self, path: str, known: str) -> None:
        base = {**LEAST, "accelerator": {"profile": "gpu"}, "autoscaling": {"maxReplicas": 2}}
        message = f"`spec.{path}` must be one of {known}; this operator knows no other"
        with pytest.raises(InvalidSpec, match=f"^{re.escape(message)}$") as caught:
            parse_spec("digits", with_field(base if "." in path else LEAST, path, "New"))
        assert caught.value.reason == UNSUPPORTED_SPEC

    @pytest.mark.parametrize("name", ["", "Digits", "1digits", "digits-", "a.b", "d" * 54])
    def test_a_name_that_no_service_can_have(self, name: str) -> None:
        with pytest.raises(InvalidSpec, match=r"^`metadata\.name` must be at most 53 of a-z, 0-9 and '-'"):
            parse_spec(name, LEAST)

    @pytest.mark.parametrize("name", ["d", "d-1", "d" * 53])
    def test_a_name_that_a_service_can_have(self, name: str) -> None:
        assert parse_spec(name, LEAST).model.name == name

    @pytest.mark.parametrize("domain", RESERVED_METADATA_DOMAINS)
    def test_reserved_domains_and_what_is_below_them(self, domain: str) -> None:
        for key in (f"{domain}/x", f"sub.{domain}/x"):
            with pytest.raises(InvalidSpec, match="reserved key"):
                parse_spec("digits", with_field(LEAST, "podMetadata.labels", {key: "y"}))
        spec = parse_spec(
            "digits", with_field(LEAST, "podMetadata.labels", {f"not{domain}/x": "y", "z": "1"})
        )
        assert set(spec.pod_labels) == {f"not{domain}/x", "z"}

    def test_reserved_domains_are_those_of_the_crd(self) -> None:
        (rule,) = {
            rule["rule"]
            for path, child in walk(spec_schema())
            if path.startswith(".podMetadata.")
            for rule in child.get("x-kubernetes-validations", ())
            if "serval" in rule["rule"]
        }
        refused = re.search(r"\?\((kubernetes.*?)\)/", rule.replace("\\", ""))
        assert refused is not None
        assert set(refused[1].split("|")) == set(RESERVED_METADATA_DOMAINS)


def _remove(spec: dict[str, Any], path: str) -> None:
    place: Any = spec
    steps = path.removeprefix(".").replace("[]", ".0").split(".")
    # Keys of maps may hold dots: take the longest that is there.
    while steps:
        for length in range(len(steps), 0, -1):
            key: Any = ".".join(steps[:length])
            key = int(key) if isinstance(place, list) and key.isdigit() else key
            there = key < len(place) if isinstance(key, int) else key in place
            if there:
                break
        steps = steps[length:]
        if not steps:
            del place[key]
            return
        place = place[key]
