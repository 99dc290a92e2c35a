"""The typed spec: each field of the CRD has its place, and each wrong value its message."""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import pytest
import yaml

from serval_contract.schemes import PREFIXES
from serval_operator.api.blocks.rollout import Autoscaling, Metric, Rollout
from serval_operator.api.blocks.runtime import Batching
from serval_operator.api.blocks.scheduling import Accelerator
from serval_operator.api.blocks.source import ConfigMapKey, Credentials, ModelSource
from serval_operator.api.schema import Block, fields_of
from serval_operator.constants import RESERVED_METADATA_DOMAINS
from serval_operator.errors import InvalidSpec
from serval_operator.kinds.model_deployment.spec import ModelSpec, parse_spec
from serval_operator.reasons import INVALID_SPEC, UNSUPPORTED_SPEC
from unit.crd.schema import CRD_FILE, walk
from unit.operator.kinds.model_deployment.manifests.cases import FULL

pytestmark = pytest.mark.unit

LEAST: Mapping[str, Any] = {"model": {"uri": "pvc://models/digits"}}
NOT_IN_FULL = {
    ".accelerator.profile": "excludes resourceName, which FULL sets; tested on its own",
    ".model.credentials.serviceAccountName": "excludes secretRef, which FULL sets; tested on its own",
}


def written(block: Block) -> dict[str, Any]:
    """A typed block as users write it, with the fields that differ from their defaults."""
    given = {one.name: getattr(block, one.attribute) for one in fields_of(type(block))}
    defaults = {one.name: one.default for one in fields_of(type(block)) if not one.required}
    return {name: _plain(value) for name, value in given.items() if value != defaults.get(name)}


def _plain(value: Any) -> Any:
    if isinstance(value, Block):
        return written(value)
    return [_plain(one) for one in value] if isinstance(value, tuple) else value


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
    ".model.credentials.secretRef",
    ".model.credentials.secretRef.name",
    ".runtime.batching.maxBatchSize",
    ".accelerator.resourceName",
    ".autoscaling.maxReplicas",
    ".autoscaling.metrics",
    ".autoscaling.metrics[]",
    ".autoscaling.metrics[].type",
    ".endpoint",
    ".endpoint.maxConcurrentRequests",
}
"""Fields of the full spec without which the rest of it makes no sense."""


class TestFields:
    def test_every_field(self) -> None:
        assert written(parse_spec("digits", FULL)) == FULL

    def test_the_full_spec_has_every_field_of_the_crd(self) -> None:
        """So that a field that the CRD gains must be mapped, or stand above with a reason."""
        plain = {path for path, child in walk(spec_schema()) if not path.endswith(("{}", "[]"))}
        assert plain - set_fields(FULL) == set(NOT_IN_FULL)

    @pytest.mark.parametrize("path", sorted(set_fields(FULL) - {""}))
    def test_every_field_matters(self, path: str) -> None:
        """Without the field, the typed spec is another one (or there is none)."""
        spec = deepcopy(dict(FULL))
        _remove(spec, path)
        if path == ".runtime.env[].value":
            return  # required by the CRD
        try:
            assert parse_spec("digits", spec) != parse_spec("digits", FULL)
        except (InvalidSpec, KeyError):
            assert path in NEEDED or path.endswith(".name")

    def test_defaults(self) -> None:
        spec = parse_spec("digits", LEAST)
        assert spec == ModelSpec(model=ModelSource(uri="pvc://models/digits", name="digits"))
        assert (spec.replicas, spec.suspend, spec.model.framework) == (1, False, "TensorFlow")
        assert (spec.model.version, spec.accelerator, spec.autoscaling, spec.disruption) == (None,) * 4
        assert (spec.scheduling.topology_spread, spec.scheduling.tolerations) == ("Preferred", ())
        assert spec.rollout == Rollout(
            strategy="Auto", start_deadline_seconds=1800, min_ready_seconds=0, on_failure="Hold", trigger=""
        )

    def test_empty_blocks_are_as_good_as_none(self) -> None:
        names = (
            *("runtime", "resources", "accelerator", "endpoint", "probes", "podMetadata"),
            *("rollout", "autoscaling", "disruption", "scheduling"),
        )
        assert parse_spec("digits", {**LEAST, **{name: {} for name in names}}) == parse_spec("digits", LEAST)

    def test_profile(self) -> None:
        spec = parse_spec("digits", {**LEAST, "accelerator": {"profile": "nvidia-gpu"}})
        assert spec.accelerator == Accelerator(profile="nvidia-gpu", count=1, when_unavailable="Auto")

    def test_batching_leaves_numbers_to_the_runtime(self) -> None:
        spec = parse_spec("digits", {**LEAST, "runtime": {"batching": {"maxBatchSize": 1}}})
        assert spec.runtime.batching == Batching(max_batch_size=1)

    def test_both_metrics_keep_their_order(self) -> None:
        block = {
            "autoscaling": {
                "maxReplicas": 5,
                "metrics": [{"type": "RequestsInFlight"}, {"type": "CPU", "targetUtilization": 9}],
            },
            "resources": {"requests": {"cpu": 1}},
            "endpoint": {"maxConcurrentRequests": 4},
        }
        autoscaling = parse_spec("digits", {**LEAST, **block}).autoscaling
        metrics = (
            Metric(type="RequestsInFlight", target_utilization=70),
            Metric(type="CPU", target_utilization=9),
        )
        assert autoscaling == Autoscaling(min_replicas=1, max_replicas=5, metrics=metrics)

    def test_a_service_account(self) -> None:
        model = {"uri": "s3://models/digits", "credentials": {"serviceAccountName": "reader"}}
        assert parse_spec("digits", {"model": model}).model.credentials == Credentials(
            service_account_name="reader"
        )

    @pytest.mark.parametrize("side", ["requests", "limits"])
    def test_defaults_of_autoscaling(self, side: str) -> None:
        """A limit without a request is a request, too."""
        block = {"autoscaling": {"maxReplicas": 5}, "resources": {side: {"cpu": 1}}}
        assert parse_spec("digits", {**LEAST, **block}).autoscaling == Autoscaling(
            min_replicas=1, max_replicas=5, metrics=(Metric(type="CPU", target_utilization=70),)
        )

    def test_the_key_of_a_ca_has_a_default(self) -> None:
        uri = "https://models.example.com/a.zip"
        spec = parse_spec("digits", {"model": {"uri": uri, "caConfigMapRef": {"name": "ca"}}})
        assert spec.model.ca_config_map_ref == ConfigMapKey(name="ca", key="ca.crt")

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
MODEL_NAME = "`spec.model.name` must match ^[a-zA-Z0-9][a-zA-Z0-9._-]*$"
OBJECT_NAME = r"must match ^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
UNION = "`spec.accelerator` must have either `profile` or `resourceName`"
COUNT = "`spec.accelerator.count` must be a whole number from 1 to 64"
REPLICAS = "`spec.replicas` must be a whole number from 0 to 1000"
CREDENTIALS = "`spec.model.credentials` must have either `secretRef` or `serviceAccountName`"
BATCH_SIZE = "`spec.runtime.batching.maxBatchSize` must be a whole number from 1 to 65536"
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
            ("model", None, "`spec.model` must be set"),
            ("model.uri", None, "`spec.model.uri` must be set"),
            ("model.uri", "", ADDRESS),
            ("model.uri", "models/digits", ADDRESS),
            ("model.uri", "http://host/a.zip", ADDRESS),
            ("model.uri", "file:///etc/passwd", ADDRESS),
            ("model.uri", "s3://", ADDRESS),
            ("model.uri", "oci://registry/../a", PATH),
            ("model.credentials", {"secretRef": {"name": "a"}, "serviceAccountName": "b"}, CREDENTIALS),
            ("model.credentials", {"secretRef": {}}, CREDENTIALS),
            ("model.credentials", {"secretName": "old"}, CREDENTIALS),
            (
                "model",
                {"uri": "s3://bucket/a", "credentials": {"secretRef": {"name": "other/keys"}}},
                f"`spec.model.credentials.secretRef.name` {OBJECT_NAME}",
            ),
            (
                "model",
                {"uri": "s3://bucket/a", "credentials": {"serviceAccountName": "../reader"}},
                f"`spec.model.credentials.serviceAccountName` {OBJECT_NAME}",
            ),
            (
                "model.credentials",
                {"secretRef": {"name": "keys"}},
                "`spec.model.credentials` must be absent where `spec.model.uri` starts with pvc://",
            ),
            (
                "rollout.startDeadlineSeconds",
                0,
                "`spec.rollout.startDeadlineSeconds` must be a whole number from 10 to 86400",
            ),
            (
                "rollout.minReadySeconds",
                -1,
                "`spec.rollout.minReadySeconds` must be a whole number from 0 to 3600",
            ),
            ("autoscaling", {"minReplicas": 1}, "`spec.autoscaling.maxReplicas` must be set"),
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
                {"maxReplicas": 3, "metrics": [{"type": "CPU", "targetUtilization": 101}]},
                "`spec.autoscaling.metrics[].targetUtilization` must be a whole number from 1 to 100",
            ),
            (
                "autoscaling",
                {"maxReplicas": 3},
                "`spec.resources.requests.cpu` must be set, since `spec.autoscaling` scales on CPU",
            ),
            (
                "autoscaling",
                {"maxReplicas": 3, "metrics": [{"type": "RequestsInFlight"}]},
                (
                    "`spec.endpoint.maxConcurrentRequests` must be set, since `spec.autoscaling` scales on "
                    "requests in flight"
                ),
            ),
            *(
                ("disruption.maxUnavailable", value, BUDGET)
                for value in (0, -1, "0%", "1", "101%", "1%%", "٣%")
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
            ("model.name", "x" * 64, "`spec.model.name` must be a text of 1 to 63 characters"),
            ("model.name", 7, "`spec.model.name` must be a text of 1 to 63 characters"),
            (
                "model.name",
                "monitoring.config",
                "`spec.model.name` must not be the reserved name `monitoring.config`",
            ),
            (
                "model.name",
                "batching.config",
                "`spec.model.name` must not be the reserved name `batching.config`",
            ),
            ("runtime.batching", {"maxEnqueued": 1}, "`spec.runtime.batching.maxBatchSize` must be set"),
            ("runtime.batching", {"maxBatchSize": 0}, BATCH_SIZE),
            (
                "runtime.batching",
                {"maxBatchSize": 1, "timeoutMicros": -1},
                "`spec.runtime.batching.timeoutMicros` must be a whole number from 0 to 60000000",
            ),
            (
                "runtime.batching",
                {"maxBatchSize": 1, "maxEnqueued": 0},
                "`spec.runtime.batching.maxEnqueued` must be a whole number from 1 to 65536",
            ),
            (
                "scheduling.priorityClassName",
                "system-node-critical",
                "`spec.scheduling.priorityClassName` must not start with system-",
            ),
            ("accelerator", {"count": 1}, UNION),
            ("accelerator", {"profile": "gpu", "resourceName": "nvidia.com/gpu"}, UNION),
            ("accelerator", {"profile": "gpu", "count": 0}, COUNT),
            ("accelerator", {"profile": "gpu", "count": "1"}, COUNT),
            ("accelerator", {"profile": "gpu", "count": True}, COUNT),
            ("replicas", -1, REPLICAS),
            ("replicas", 1.5, REPLICAS),
            ("replicas", True, REPLICAS),
            ("suspend", "yes", "`spec.suspend` must be true or false"),
            ("runtime", [], "`spec.runtime` must be an object"),
            ("runtime.args", "--a", "`spec.runtime.args` must be a list of 0 to 32 items"),
            ("runtime.args", ["--a"] * 33, "`spec.runtime.args` must be a list of 0 to 32 items"),
            (
                "scheduling.nodeSelector",
                [],
                "`spec.scheduling.nodeSelector` must be an object with at most 16 keys",
            ),
            (
                "scheduling.tolerations",
                [{"tolerationSeconds": -1}],
                "`spec.scheduling.tolerations[].tolerationSeconds` must be a whole number from 0 to 31536000",
            ),
            *(
                (
                    "disruption.maxUnavailable",
                    value,
                    "`spec.disruption.maxUnavailable` must be a number or a text of at most 4 characters",
                )
                for value in (True, 1.5, "1000%")
            ),
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
            ("model.framework", "TensorFlow, ONNX"),
            ("endpoint.rawBytes", "Enabled, Disabled"),
            ("scheduling.topologySpread", "Preferred, Required, Disabled"),
            ("autoscaling.metrics[].type", "CPU, RequestsInFlight"),
            ("accelerator.whenUnavailable", "Auto, Wait, Refuse"),
            ("accelerator.whenBusy", "Wait, Replace"),
        ],
    )
    def test_a_word_of_a_newer_operator(self, path: str, known: str) -> None:
        base = {**LEAST, "accelerator": {"profile": "gpu"}, "autoscaling": {"maxReplicas": 2}}
        in_list, _, item = path.partition("[].")
        spec = with_field(base, in_list, [{item: "New"}] if item else "New")
        message = f"`spec.{path}` must be one of {known}; this operator knows no other"
        with pytest.raises(InvalidSpec, match=f"^{re.escape(message)}$") as caught:
            parse_spec("digits", spec)
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
        assert set(spec.pod_metadata.labels) == {f"not{domain}/x", "z"}

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
