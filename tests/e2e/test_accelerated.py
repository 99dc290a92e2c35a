"""AcceleratedModels on real nodes: from a SavedModel to scores of an emulated device that nobody else has."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from examples.demo.model import TrainedModel

from e2e import accelerated
from e2e.accelerated import CALIBRATED, KIND, NODE, create, create_converted, says, serving
from e2e.stand import Stand
from serval_lab import Lab
from serval_lab.handles import Device
from serval_lab.images import Images
from serval_lab.push_registry import PushRegistry
from serval_lab.spec import EMULATED_FPGA_RESOURCE
from serval_serving.accel.artifact import DEVICE_ONNX
from serval_serving.accel.preprocess import preprocess
from serval_serving.client import GrpcClient
from support.azure import azure
from support.chart import NAMESPACE
from support.cluster import condition
from support.registry import Registry
from unit.serving.engines.artifacts import MADE, PREPROCESSING, offline, photo, write_artifact

# A conversion takes a minute on a busy machine, and then a server starts.
pytestmark = pytest.mark.timeout(600)

SCORED = 64
ACCURACY = 0.95
EDGE_PORT = 50051
TAKES_OVER = timedelta(seconds=2)
"""What docs promise to a model that waits for a device."""


@pytest.fixture(scope="module")
def registry(cluster_lab: Lab) -> PushRegistry:
    """The registry that artifacts are pushed to."""
    return cluster_lab.push_registry(tls=False)


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small artifact, which servers load at once: no part of it needs TensorFlow."""
    return write_artifact(tmp_path_factory.mktemp("artifact"))


@pytest.fixture(scope="module")
def artifact(registry: PushRegistry, converted: Path) -> str:
    """Address of the small artifact."""
    return accelerated.publish(registry, converted)


@pytest.fixture(scope="module")
def enabled(installed: Lab, images: Images, registry: PushRegistry) -> Lab:
    """The lab whose operator converts and emulates."""
    accelerated.enable(installed, images, registry)
    return installed


@pytest.fixture
def device(enabled: Lab) -> Iterator[Device]:
    """The emulated units of the lab's node with FPGAs, which are as before after the test."""
    device = enabled.device(NODE, EMULATED_FPGA_RESOURCE)
    before = device.state.units
    yield device
    device.set_cards(0)
    device.set_faults({})
    device.set_units(before)


@pytest.fixture
def models(stand: Stand, device: Device, registry: PushRegistry) -> Iterator[Stand]:
    """A namespace that may push; its AcceleratedModels are deleted before it is."""
    accelerated.let_push(stand, registry)
    yield stand
    for made in stand.cluster.list(KIND, stand.namespace):
        stand.cluster.delete(KIND, stand.namespace, made["metadata"]["name"])
        stand.cluster.until_gone(KIND, stand.namespace, made["metadata"]["name"])


def host(stand: Stand, name: str) -> str:
    """ClusterIP of a model; the lab routes it from this machine."""
    service = stand.cluster.get("Service", stand.namespace, name)
    assert service is not None
    return str(service["spec"]["clusterIP"])


def test_from_a_saved_model_to_scores_of_azures_client(
    models: Stand, registry: PushRegistry, tensorflow_model: TrainedModel
) -> None:
    with accelerated.calibration(models, tensorflow_model):
        _converted_and_serving(models, registry)
    _scored(models, tensorflow_model)
    _nobody_else_changes_what_the_pod_mounts(models, registry)


def _converted_and_serving(models: Stand, registry: PushRegistry) -> None:
    create(models, "digits")
    says(models, "digits", "stage convert", accelerated.CONVERTED_LIMIT)
    accelerated.kill_operator(models.lab)
    accelerated.until(models, "digits", "Converted", "True", None, accelerated.CONVERTED_LIMIT)
    cr = serving(models, "digits")
    assert [job["attempt"] for job in cr["status"]["jobs"]] == [1], "the next operator went on with the Job"
    assert condition(cr, "DeviceProgrammed")["reason"] == "Emulated"
    # The pods are asked for their device after they are ready.
    accelerated.until(models, "digits", "AcceleratorInUse", "False", "Emulated", accelerated.READY_LIMIT)
    conversion = cr["status"]["conversion"]
    assert f"{registry.host}/{models.namespace}/digits@sha256:" in conversion["artifact"]
    assert conversion["agreement"] >= ACCURACY


def _scored(models: Stand, tensorflow_model: TrainedModel) -> None:
    images = tensorflow_model.images[CALIBRATED : CALIBRATED + SCORED]
    files = [str(tensorflow_model.folder / image.name) for image in images]
    calls = [{"score_file": {"path": path, "outputs": "classes"}} for path in files]
    address = host(models, "digits")
    for told in (
        {"scoring_uri": f"http://{address}/", "name": "digits"},
        {"address": address, "port": EDGE_PORT, "service_name": "digits"},
    ):
        answers = azure(*calls, **told)
        right = sum(answer == image.label for answer, image in zip(answers, images, strict=True))
        assert right >= ACCURACY * SCORED, answers


def _nobody_else_changes_what_the_pod_mounts(models: Stand, registry: PushRegistry) -> None:
    cr = models.cluster.get(KIND, models.namespace, "digits")
    assert cr is not None
    artifact = cr["status"]["conversion"]["artifact"]
    (pod,) = models.pods("digits")
    mounted = [volume["image"]["reference"] for volume in pod["spec"]["volumes"] if "image" in volume]
    assert mounted == [artifact.removeprefix("oci://")], "a pod mounts by digest"
    repository = f"{models.namespace}/digits"
    token = registry.token(registry.account("stranger"), repository)
    stranger = Registry(registry.host, registry.ca, {"Authorization": f"Bearer {token}"}, "http")
    with pytest.raises(AssertionError, match="401"):
        stranger.push(repository, "latest", ("application/vnd.oci.image.layer.v1.tar", b"mine"))


def test_the_next_waits_with_its_position_and_takes_over_when_the_device_is_free(
    models: Stand, device: Device, enabled: Lab, artifact: str, converted: Path
) -> None:
    device.set_units(1)
    create_converted(models, "first", artifact)
    serving(models, "first")
    _answers_are_those_of_the_quantised_file(models, converted)
    create_converted(models, "second", artifact)
    cr = says(models, "second", f"{models.namespace}/first")
    assert cr["status"]["accelerator"]["position"] == 1
    models.cluster.delete(KIND, models.namespace, "first")
    serving(models, "second")
    (gone,) = (
        when
        for when, verb, user in accelerated.written(enabled, "pods", models.namespace, "first-")
        if (verb, user) == ("delete", f"system:node:{NODE}")
    )
    # The first write makes the Deployment, without pods.
    _, taken, *_ = (
        when
        for when, _, user in accelerated.written(enabled, "deployments", models.namespace, "second")
        if user.startswith(f"system:serviceaccount:{NAMESPACE}:")
    )
    assert taken - gone < TAKES_OVER


def _answers_are_those_of_the_quantised_file(models: Stand, converted: Path) -> None:
    photos = [photo(shade) for shade in (0, 90)]
    pixels = preprocess(photos, PREPROCESSING)
    with GrpcClient(f"{host(models, 'first')}:{EDGE_PORT}", timeout=20.0) as client:
        served = client.predict({"images": photos}, "first")["features"]
    np.testing.assert_allclose(served, offline(converted, pixels)[MADE.name], rtol=1e-6)
    exact = write_artifact(converted.parent, 2, quantized=False)
    assert not np.allclose(served, offline(exact, pixels)[MADE.name], rtol=1e-4)


def test_a_card_that_the_plugin_gives_twice_serves_one_model(
    models: Stand, device: Device, artifact: str
) -> None:
    device.set_units(2)
    device.set_cards(1)
    create_converted(models, "first", artifact)
    serving(models, "first")
    create_converted(models, "second", artifact)
    says(models, "second", "DeviceHeld")
    serving(models, "first")
    models.cluster.delete(KIND, models.namespace, "first")
    serving(models, "second")


def test_a_sick_device_is_named_and_serves_again_when_it_is_well(
    models: Stand, device: Device, artifact: str
) -> None:
    create_converted(models, "digits", artifact)
    serving(models, "digits")
    device.set_faults(dict.fromkeys(device.state.ids, "too hot"))
    says(models, "digits", "too hot")
    device.set_faults({})
    serving(models, "digits")


def test_a_refused_allocation_is_told_until_the_plugin_gives_the_device(
    models: Stand, device: Device, artifact: str
) -> None:
    device.refuse(True)
    try:
        create_converted(models, "digits", artifact)
        cr = says(models, "digits", "UnexpectedAdmissionError")
        assert condition(cr, "Ready")["reason"] == "DeviceAllocationFailed"
    finally:
        device.refuse(False)
    serving(models, "digits")


def test_artifacts_that_are_damaged_empty_or_out_of_reach_are_named(
    models: Stand, device: Device, registry: PushRegistry, converted: Path, tmp_path: Path
) -> None:
    device.set_units(3)
    damaged = shutil.copytree(converted, tmp_path / "damaged")
    with (damaged / DEVICE_ONNX).open("ab") as file:
        file.write(b"more")
    create_converted(models, "damaged", accelerated.publish(registry, damaged))
    create_converted(models, "empty", accelerated.publish_pure(registry))
    cr = says(models, "damaged", "ArtifactCorrupted")
    assert condition(cr, "DeviceProgrammed")["reason"] == "ArtifactCorrupted"
    says(models, "empty", "mounts empty")
    unpulled = shutil.copytree(converted, tmp_path / "unpulled")
    (unpulled / "README").touch()
    away = accelerated.publish(registry, unpulled)
    registry.kill()
    try:
        create_converted(models, "away", away)
        cr = says(models, "away", "connection refused")
        assert condition(cr, "Ready")["reason"] == "ImagePullFailed"
    finally:
        registry.start()
    serving(models, "away")
