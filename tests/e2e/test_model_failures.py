"""Every pod failure made for real on the nodes: its reason on the ModelDeployment, and its clearing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from e2e.stand import ARCHIVE, Stand
from serval_lab import Lab
from support.cluster import Object, condition
from support.ledger import provokes

SOON = 90.0
"""Seconds that a failure may take to happen; the status follows it within two."""


def failing(stand: Stand, name: str, reason: str, limit: float = SOON) -> Object:
    """Wait until a ModelDeployment is not ready for this reason."""
    return stand.failing(name, reason, limit)


def message(obj: Object) -> str:
    """What its Ready condition says."""
    text: str = condition(obj, "Ready")["message"]
    return text


def serving(stand: Stand, name: str) -> Object:
    """Wait until a ModelDeployment serves."""
    return stand.serving(name)


class TestScheduling:
    @provokes("RequestExceedsNode", "more GPUs than any node has")
    def test_more_gpus_than_a_node_has(self, stand: Stand) -> None:
        gpus = {"profile": "nvidia-gpu", "count": 3}
        stand.create("greedy", accelerator=gpus)
        cr = failing(stand, "greedy", "RequestExceedsNode")
        assert "gpu-0" in message(cr)
        assert not stand.pods("greedy")
        stand.patch("greedy", accelerator={**gpus, "count": 1})
        stand.cluster.until_condition(stand.namespace, "greedy", "Scheduled", "True", limit=SOON)

    @provokes("QuotaExceeded", "the namespace's quota is used up")
    def test_quota(self, stand: Stand) -> None:
        quota = {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "full", "namespace": stand.namespace},
            "spec": {"hard": {"pods": "0"}},
        }
        stand.cluster.create(quota)
        stand.cluster.until(
            "the quota's use",
            "ResourceQuota",
            stand.namespace,
            "full",
            lambda one: one.get("status", {}).get("used"),
        )
        stand.create("poor")
        assert "exceeded quota" in message(failing(stand, "poor", "QuotaExceeded"))
        stand.cluster.patch("ResourceQuota", stand.namespace, "full", {"spec": {"hard": {"pods": "5"}}})
        stand.patch("poor", replicas=2)
        stand.cluster.until_condition(stand.namespace, "poor", "Scheduled", "True", limit=SOON)


@contextmanager
def broken_network(lab: Lab, node: str) -> Iterator[None]:
    """For a while, new pods of a node get no network: its configuration names a plugin that is not there."""
    configuration = lab.node(node).folder / "cni-conf" / "10-lab.conflist"
    good = configuration.read_text()
    configuration.write_text(good.replace('"type": "bridge"', '"type": "no-such-plugin"'))
    try:
        yield
    finally:
        configuration.write_text(good)


class TestNode:
    @provokes("SandboxFailed", "the node's network is broken")
    def test_sandbox(self, stand: Stand, cluster_lab: Lab) -> None:
        with broken_network(cluster_lab, "cpu-0"):
            stand.create("netless", **stand.on_node("cpu-0"))
            assert "no-such-plugin" in message(failing(stand, "netless", "SandboxFailed"))
        stand.cluster.until_condition(stand.namespace, "netless", "ModelFetched", "True", limit=180)

    @provokes("VolumeFailed", "a ConfigMap that does not exist")
    def test_volume_that_is_missing(self, stand: Stand) -> None:
        stand.create("no-ca", model={**stand.model, "caConfigMapRef": {"name": "later", "key": "ca.crt"}})
        assert "later" in message(failing(stand, "no-ca", "VolumeFailed"))
        stand.copy_ca("later")
        stand.cluster.until_condition(stand.namespace, "no-ca", "ModelFetched", "True", limit=240)

    @provokes("ImagePullFailed", "an image that does not exist")
    def test_image_that_does_not_exist(self, stand: Stand) -> None:
        stand.create("no-image", runtime={"name": "no-image"})
        assert "no-image" in message(failing(stand, "no-image", "ImagePullFailed"))
        stand.patch("no-image", runtime={"name": "serval"})
        serving(stand, "no-image")

    @provokes("CreateContainerError", "a program that may not be run")
    def test_container_that_cannot_be_started(self, stand: Stand) -> None:
        stand.create("no-program", runtime={"name": "no-program"})
        assert "permission denied" in message(failing(stand, "no-program", "CreateContainerError"))

    @provokes("NodeNotReady", "the node is switched off")
    def test_node_lost_and_found(self, stand: Stand, cluster_lab: Lab) -> None:
        stand.create("lost", **stand.on_node("cpu-0"))
        serving(stand, "lost")
        node = cluster_lab.node("cpu-0")
        stand.ledger.act()
        node.kill()
        try:
            cr = failing(stand, "lost", "NodeNotReady")
            assert condition(cr, "Available")["status"] == "False"
        finally:
            node.start()
        serving(stand, "lost")


class TestDevice:
    @provokes("DeviceAllocationFailed", "the device plugin refuses")
    def test_refused_allocation(self, stand: Stand, cluster_lab: Lab) -> None:
        device = cluster_lab.device("gpu-0", "nvidia.com/gpu")
        device.refuse(True)
        try:
            stand.create("refused", accelerator={"profile": "nvidia-gpu"})
            assert "UnexpectedAdmissionError" in message(failing(stand, "refused", "DeviceAllocationFailed"))
            stand.patch("refused", suspend=True)
        finally:
            device.refuse(False)
        stand.patch("refused", suspend=False)
        stand.cluster.until_condition(stand.namespace, "refused", "ModelFetched", "True", limit=SOON)


class TestFetch:
    @provokes("ModelNotFound", "the address answers 404")
    @provokes("ModelAccessDenied", "the address answers 403")
    @provokes("ModelArtifactRejected", "an archive that writes outside its folder")
    @provokes("ModelInvalid", "an archive without a model")
    @pytest.mark.parametrize(
        ("path", "reason", "words"),
        [
            ("nothing-here.tar.gz", "ModelNotFound", "404"),
            ("denied.tar.gz", "ModelAccessDenied", "403"),
            ("evil.tar.gz", "ModelArtifactRejected", ".."),
            ("empty.tar.gz", "ModelInvalid", "saved_model.pb"),
        ],
    )
    def test_what_is_wrong_with_the_archive(self, stand: Stand, path: str, reason: str, words: str) -> None:
        stand.create("wrong", model=stand.tensorflow(path))
        assert words in message(failing(stand, "wrong", reason))

    @provokes("ModelDigestMismatch", "another archive than the pinned one")
    def test_digest(self, stand: Stand) -> None:
        stand.create("other", model={**stand.model, "sha256": "0" * 64})
        cr = failing(stand, "other", "ModelDigestMismatch")
        assert condition(cr, "Stalled")["status"] == "True"
        stand.patch("other", model={"sha256": None})
        stand.cluster.until_condition(stand.namespace, "other", "ModelFetched", "True", limit=SOON)

    @provokes("ModelSourceUnavailable", "nothing listens at the address")
    def test_store_that_does_not_answer(self, stand: Stand) -> None:
        stand.create("silent", model={**stand.model, "uri": stand.uri("digits.tar.gz", port=444)})
        failing(stand, "silent", "ModelSourceUnavailable")

    @provokes("ModelSourceUnavailable", "the store's certificate is not trusted")
    def test_certificate_that_is_not_trusted(self, stand: Stand) -> None:
        stand.create("untrusted", model={"uri": stand.model["uri"]})
        assert "certificate" in message(failing(stand, "untrusted", "ModelSourceUnavailable"))


class TestServer:
    @provokes("CrashLoop", "a server that ends at once")
    def test_crash_loop(self, stand: Stand) -> None:
        stand.create("crash", runtime={"name": "crash"})
        assert "exit code" in message(failing(stand, "crash", "CrashLoop"))

    @provokes("OutOfMemory", "too little memory")
    def test_out_of_memory(self, stand: Stand) -> None:
        # TensorFlow alone takes more, whatever the model is.
        stand.create("small", resources={"limits": {"memory": "64Mi"}}, model=stand.tensorflow())
        failing(stand, "small", "OutOfMemory", 180)
        stand.patch("small", resources={"limits": {"memory": "2Gi"}})
        serving(stand, "small")

    @provokes("ModelLoadFailed", "a model without its variables")
    def test_model_that_cannot_be_loaded(self, stand: Stand) -> None:
        stand.create("damaged", model=stand.tensorflow("damaged.tar.gz"))
        assert "did not become available" in message(failing(stand, "damaged", "ModelLoadFailed", 180))
        stand.patch("damaged", model=stand.model)
        serving(stand, "damaged")


def test_a_store_that_comes_back_is_noticed_without_help(stand: Stand) -> None:
    stand.store.answers["later.tar.gz"] = 503
    stand.create("patient", model={**stand.model, "uri": stand.uri("later.tar.gz")})
    failing(stand, "patient", "ModelSourceUnavailable")
    stand.store.answers["later.tar.gz"] = stand.store.answers[ARCHIVE]
    stand.cluster.until_condition(stand.namespace, "patient", "ModelFetched", "True", limit=180)
