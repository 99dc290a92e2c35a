from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest
from examples.demo import manifests
from examples.demo.certificates import issue

CERTIFICATE = issue(manifests.store_names(), datetime(2026, 11, 21, tzinfo=UTC))
IMAGE = "registry/serval-operator:1"


def by_kind(items: list[manifests.Manifest]) -> dict[tuple[str, str], manifests.Manifest]:
    return {(item["kind"], item["metadata"]["name"]): item for item in items}


def test_the_namespace_lets_in_restricted_pods_only() -> None:
    labels = manifests.namespace("demo")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_store_meets_the_level_of_its_namespace() -> None:
    store = by_kind(manifests.model_store(b"model", CERTIFICATE, IMAGE))
    pod = store["Deployment", "model-store"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["image"] == IMAGE


def test_what_the_pod_mounts_is_there_and_what_it_runs_is_mounted() -> None:
    store = by_kind(manifests.model_store(b"model", CERTIFICATE, IMAGE))
    pod = store["Deployment", "model-store"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    for volume in pod["volumes"]:
        kind = ("ConfigMap", volume["configMap"]["name"]) if "configMap" in volume else None
        assert (kind or ("Secret", volume["secret"]["secretName"])) in store
    assert {mount["name"] for mount in container["volumeMounts"]} == {
        volume["name"] for volume in pod["volumes"]
    }
    folders = {mount["mountPath"] for mount in container["volumeMounts"]}
    _, script, files, tls, port = container["command"]
    assert {script.rpartition("/")[0], files, tls} == folders
    assert script.rpartition("/")[2] in store["ConfigMap", "model-store-script"]["data"]
    assert int(port) == container["ports"][0]["containerPort"]
    assert (
        base64.b64decode(store["ConfigMap", "model-store-files"]["binaryData"]["digits.tar.gz"]) == b"model"
    )


def test_the_private_key_is_in_the_secret_alone() -> None:
    for item in manifests.model_store(b"model", CERTIFICATE, IMAGE):
        encoded = base64.b64encode(CERTIFICATE.key.encode()).decode()
        assert (CERTIFICATE.key in str(item) or encoded in str(item)) == (item["kind"] == "Secret")


def test_the_pod_is_replaced_when_what_it_serves_changes_and_not_else() -> None:
    def template(archive: bytes, certificate: object = CERTIFICATE) -> object:
        store = by_kind(manifests.model_store(archive, certificate, IMAGE))  # type: ignore[arg-type]
        return store["Deployment", "model-store"]["spec"]["template"]["metadata"]

    assert template(b"model") == template(b"model")
    assert template(b"model") != template(b"other")
    assert template(b"model") != template(b"model", issue(["other"], datetime(2026, 11, 21, tzinfo=UTC)))


@pytest.mark.parametrize("namespace", ["serval-demo", "other"])
def test_the_model_is_fetched_from_a_name_in_the_certificate_and_trusted_by_its_authority(
    namespace: str,
) -> None:
    spec = manifests.model_deployment("0" * 64, namespace=namespace)["spec"]
    host = spec["model"]["uri"].removeprefix("https://").partition("/")[0]
    assert host in manifests.store_names(namespace)
    assert host.endswith(f".{namespace}.svc")
    authority = by_kind(manifests.model_store(b"model", CERTIFICATE, IMAGE, namespace))[
        "ConfigMap", spec["model"]["caConfigMapRef"]["name"]
    ]
    assert spec["model"]["caConfigMapRef"]["key"] in authority["data"]
    assert spec["model"]["sha256"] == "0" * 64


def test_every_replica_takes_an_accelerator() -> None:
    spec = manifests.model_deployment("0" * 64)["spec"]
    assert spec["replicas"] == 2
    assert spec["accelerator"] == {"profile": "nvidia-gpu", "count": 1}
