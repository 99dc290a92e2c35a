"""The operator's Deployment and its pod."""

from __future__ import annotations

from typing import Any

import pytest

from serval_operator.health_server import CLOSE_SECONDS
from serval_operator.manager import INFORMER_STOP_SECONDS
from serval_operator.runtime.lease import RELEASE_SECONDS
from serval_operator.settings import Settings
from unit.chart.rendering import NAMESPACE, Chart, Manifest, configuration, environment, only, pod_of


def test_one_operator_at_a_time(rendered: list[Manifest]) -> None:
    spec = only(rendered, "Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()


def test_pod_meets_the_restricted_level(rendered: list[Manifest]) -> None:
    spec = pod_of(rendered)["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    assert {kind for volume in spec["volumes"] for kind in volume if kind != "name"} == {
        "configMap",
        "projected",
        "emptyDir",
    }
    for container in spec["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert set(container["resources"]) == {"requests", "limits"}


def test_token_is_mounted_by_hand_and_only_once(rendered: list[Manifest]) -> None:
    spec = pod_of(rendered)["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert only(rendered, "ServiceAccount")["automountServiceAccountToken"] is False
    (token,) = [volume["name"] for volume in spec["volumes"] if "projected" in volume]
    assert [
        (container["name"], mount["mountPath"], mount["readOnly"])
        for container in spec["containers"]
        for mount in container["volumeMounts"]
        if mount["name"] == token
    ] == [("operator", "/var/run/secrets/kubernetes.io/serviceaccount", True)]


def test_probes_and_port(rendered: list[Manifest]) -> None:
    (container,) = pod_of(rendered)["spec"]["containers"]
    assert container["ports"] == [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}


def test_environment_by_default(rendered: list[Manifest]) -> None:
    assert environment(rendered) == {
        "SERVAL_CONFIG_FILE": "/etc/serval/config.yaml",
        "SERVAL_WATCH_NAMESPACES": "",
        "SERVAL_LOG_LEVEL": "info",
        "SERVAL_LOG_FORMAT": "json",
        "SERVAL_HTTP_PORT": "8080",
        "SERVAL_WORKERS": "12",
        "SERVAL_HIDE_FOREIGN_HOLDERS": "false",
        "SERVAL_CONDITION_METRICS": "false",
        "SERVAL_LEASE_NAME": "serval-operator",
        "SERVAL_LEASE_NAMESPACE": NAMESPACE,
        "SERVAL_LEASE_SECONDS": "15",
    }
    (container,) = pod_of(rendered)["spec"]["containers"]
    assert {"name": "config", "mountPath": "/etc/serval", "readOnly": True} in container["volumeMounts"]


def test_the_end_in_order_is_shorter_than_the_time_that_the_pod_is_given(rendered: list[Manifest]) -> None:
    grace = Settings.from_environment(environment(rendered)).stop_grace_seconds
    end = grace + RELEASE_SECONDS + CLOSE_SECONDS + INFORMER_STOP_SECONDS
    assert end <= pod_of(rendered)["spec"]["terminationGracePeriodSeconds"] - 2


def test_settings_reach_the_pod(chart: Chart) -> None:
    manifests = chart.render(
        {
            "imagePullSecrets": [{"name": "registry"}],
            "operator": {
                "logLevel": "debug",
                "logFormat": "text",
                "workers": 3,
                "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
                "podAnnotations": {"a": "b"},
                "podLabels": {"c": "d"},
                "nodeSelector": {"pool": "system"},
                "tolerations": [{"key": "system", "operator": "Exists"}],
                "affinity": {"nodeAffinity": {}},
                "priorityClassName": "system-cluster-critical",
                "terminationGracePeriodSeconds": 7,
            },
        }
    )
    names = ("SERVAL_LOG_LEVEL", "SERVAL_LOG_FORMAT", "SERVAL_WORKERS", "HTTPS_PROXY")
    assert [environment(manifests)[name] for name in names] == ["debug", "text", "3", "http://proxy:3128"]
    pod = pod_of(manifests)
    assert pod["metadata"]["annotations"]["a"] == "b"
    assert pod["metadata"]["labels"]["c"] == "d"
    spec = pod["spec"]
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert spec["nodeSelector"]["pool"] == "system"
    assert spec["tolerations"] == [{"key": "system", "operator": "Exists"}]
    assert spec["affinity"] == {"nodeAffinity": {}}
    assert spec["priorityClassName"] == "system-cluster-critical"
    assert spec["terminationGracePeriodSeconds"] == 7


def test_changed_configuration_starts_a_new_pod(chart: Chart, rendered: list[Manifest]) -> None:
    def checksum(manifests: list[Manifest]) -> Any:
        return pod_of(manifests)["metadata"]["annotations"]["checksum/config"]

    assert checksum(chart.render({"fetch": {"maxEntries": 5}})) != checksum(rendered)
    assert checksum(chart.render({"operator": {"logLevel": "debug"}})) == checksum(rendered)


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ({}, "serval-operator:0.2.0"),
        ({"registry": "10.0.0.1:5000/x"}, "10.0.0.1:5000/x/serval-operator:0.2.0"),
        ({"registry": "r", "repository": "mirror/op", "tag": "v2"}, "r/mirror/op:v2"),
        ({"digest": "sha256:" + "a" * 64}, "serval-operator@sha256:" + "a" * 64),
        ({"tag": "v2", "digest": "sha256:" + "a" * 64}, "serval-operator:v2@sha256:" + "a" * 64),
    ],
)
def test_image_of_the_operator_fetches_too(chart: Chart, image: Manifest, reference: str) -> None:
    manifests = chart.render({"image": image})
    (container,) = pod_of(manifests)["spec"]["containers"]
    assert container["image"] == reference
    assert configuration(manifests).fetch.image == reference
