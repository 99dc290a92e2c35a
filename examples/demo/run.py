"""The demo's story: a cluster, images, the operator, a model, answers."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from examples.demo import manifests, timeline
from examples.demo.accelerated import third_act
from examples.demo.certificates import ServerCertificate, issue
from examples.demo.cluster import Cluster
from examples.demo.console import Say, Screen
from examples.demo.emulation import Emulation, merged
from examples.demo.errors import DemoError
from examples.demo.model import TrainedModel, trained_model
from examples.demo.scarcity import Promise, second_act, show_promises
from examples.demo.scoring import Answers, by_grpc, by_http, sketch
from examples.demo.watching import follow

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "serval"
OPERATOR_NAMESPACE = "serval-system"
RELEASE = "serval"
REQUIRED_ACCURACY = 0.95
REQUIRED_IMAGES = 200
SHOWN_IMAGES = 10
DEPLOY_STEP = "From apply to Ready"
HELM_LIMIT_S = 300.0
STORE_LIMIT_S = 180.0
READY_LIMIT_S = 600.0


@dataclass(frozen=True, slots=True)
class ImageReferences:
    """Where the nodes pull Serval's images from.

    Attributes
    ----------
    registry:
        Registry, with a path where it has one.
    operator_tag, server_tag:
        Tags of ``serval-operator`` and ``serval-server`` there.
    """

    registry: str
    operator_tag: str
    server_tag: str

    @property
    def operator(self) -> str:
        """Reference of the operator's image."""
        return f"{self.registry}/serval-operator:{self.operator_tag}"

    def chart_values(self, profile: str) -> dict[str, Any]:
        """Return the chart's values that choose these images, and Serval's own model server.

        Parameters
        ----------
        profile:
            Accelerator profile of the replicas. It gets the image for CPUs: the demo has no other, and its
            model needs no device.
        """
        return {
            "image": {"registry": self.registry, "tag": self.operator_tag},
            "serverImage": {"registry": self.registry, "tag": self.server_tag},
            "defaultRuntime": "serval",
            "runtimes": {"serval": {"images": {profile: f"{self.registry}/serval-server:{self.server_tag}"}}},
        }


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it.

    Attributes
    ----------
    model:
        The model that was served.
    answers:
        What each protocol answered to the held-out images.
    promises:
        What the second and third act showed; empty where they were not played.
    """

    model: TrainedModel
    answers: tuple[Answers, ...]
    promises: tuple[Promise, ...] = ()

    @property
    def complaints(self) -> list[str]:
        """What is not as it should be, in words: too many wrong answers, and broken promises."""
        accuracies = [(one.protocol, one.accuracy(self.model.images)) for one in self.answers]
        return [
            *(f"{who} is right for {how:.2%} only" for who, how in accuracies if how < REQUIRED_ACCURACY),
            *(f"a promise is broken: {one.text} ({one.seen})" for one in self.promises if not one.kept),
        ]


def install_operator(cluster: Cluster, values: dict[str, Any], say: Say) -> None:
    """Install or upgrade the operator by its chart, with these values, and wait until it is ready."""
    say(f"helm upgrade --install {RELEASE} charts/serval --namespace {OPERATOR_NAMESPACE} --wait")
    try:
        cluster.helm(
            *("upgrade", "--install", RELEASE, str(CHART), f"--namespace={OPERATOR_NAMESPACE}"),
            *("--create-namespace", "--wait", f"--timeout={HELM_LIMIT_S:.0f}s", "--values=-"),
            stdin=json.dumps(values),
            limit_s=HELM_LIMIT_S + 30,
        )
    except DemoError as error:
        pods = cluster.kubectl("get", "pods", f"--namespace={OPERATOR_NAMESPACE}", "--output=wide")
        raise DemoError(f"{error}\n{pods}") from error


def start_store(cluster: Cluster, model: TrainedModel, image: str, say: Say) -> None:
    """Put the model into the cluster, behind HTTPS with a certificate of an authority of its own."""
    cluster.apply([manifests.namespace()])
    certificate, is_new = _certificate(cluster)
    say(f"{'made' if is_new else 'kept'} a certificate for {manifests.store_names()[0]}, of an own authority")
    cluster.apply(manifests.model_store(model.archive, certificate, image))
    cluster.kubectl(
        *("rollout", "status", f"deployment/{manifests.STORE}", f"--namespace={manifests.NAMESPACE}"),
        f"--timeout={STORE_LIMIT_S:.0f}s",
        limit_s=STORE_LIMIT_S + 10,
    )
    say(f"serving {manifests.store_url()}, {len(model.archive) / 1000:.0f} kB, sha256 {model.sha256[:12]}...")


def _certificate(cluster: Cluster) -> tuple[ServerCertificate, bool]:
    """Return the store's certificate, and whether it had to be made."""
    names, now = manifests.store_names(), datetime.now(UTC)
    secret = cluster.get("secret", manifests.STORE_TLS, manifests.NAMESPACE)
    authority = cluster.get("configmap", manifests.STORE_CA, manifests.NAMESPACE)
    if secret is not None and authority is not None:
        pem = {name: base64.b64decode(secret["data"][name]).decode() for name in ("tls.crt", "tls.key")}
        kept = ServerCertificate(authority["data"][manifests.CA_KEY], pem["tls.crt"], pem["tls.key"])
        if kept.is_good_for(names, now):
            return kept, False
    return issue(names, now), True


def deploy(cluster: Cluster, sha256: str, profile: str, say: Say) -> list[timeline.Phase]:
    """Apply the ModelDeployment, follow it to Ready, and return where the time went.

    Returns
    -------
    list[timeline.Phase]
        Phases of the replica that was ready last; empty where all of them were serving before.
    """
    began = datetime.now(UTC)
    # An earlier run may have been interrupted in its second act; what it left holds a device.
    cluster.delete(manifests.RESOURCE, manifests.LATECOMER, manifests.NAMESPACE)
    wanted = manifests.model_deployment(sha256, profile=profile)
    cluster.apply([wanted])
    say(f"applied ModelDeployment {manifests.NAME}: 2 replicas, one accelerator of {profile} each")
    states = cluster.watch(manifests.RESOURCE, manifests.NAME, manifests.NAMESPACE, READY_LIMIT_S)
    follow(states, say)
    pods = cluster.select("pods", manifests.NAMESPACE, manifests.pod_selector())
    ready = [pod for pod in pods if timeline.is_ready(pod)]
    if timeline.created_before(ready, began):
        say("its pods were serving already")
        return []
    return timeline.phases(timeline.slowest(ready))


def score(cluster: Cluster, model: TrainedModel, say: Say) -> list[Answers]:
    """Score all held-out images by both protocols."""
    ports = (manifests.GRPC_PORT, manifests.SCORING_PORT)
    with cluster.reach(manifests.NAME, manifests.NAMESPACE, ports) as addresses:
        answers = [
            by_grpc(addresses[manifests.GRPC_PORT], manifests.NAME, model.images),
            by_http(f"http://{addresses[manifests.SCORING_PORT]}", model.images),
        ]
    for one in answers:
        rate = f"{one.requests} requests, {1000 * one.seconds / one.requests:.1f} ms each"
        say(f"{one.protocol}: {one.accuracy(model.images):.2%} of {len(model.images)} images right; {rate}")
    return answers


def show_predictions(screen: Screen, model: TrainedModel, answers: Sequence[Answers]) -> None:
    """Print the first images' labels beside what each protocol answered, and draw the first."""
    rows = [
        [image.name, str(image.label), *(str(one.digits[position]) for one in answers)]
        for position, image in enumerate(model.images[:SHOWN_IMAGES])
    ]
    columns = ["image", "label", *(one.protocol for one in answers)]
    screen.beside(sketch(model.images[0]), "Predictions beside labels", columns, rows)


def show_summary(
    screen: Screen, phases: Sequence[timeline.Phase], model: TrainedModel, answers: Sequence[Answers]
) -> None:
    """Print where the time went, and the accuracies."""
    rows = []
    for name, seconds in screen.durations:
        rows.append([name, f"{seconds:.1f}"])
        if name == DEPLOY_STEP:
            rows += [[f"  {phase.name}", f"{phase.seconds:.0f}"] for phase in phases]
    rows.append(["all", f"{screen.seconds:.1f}"])
    screen.table("Time", ["step", "seconds"], rows)
    accuracies = [
        [one.protocol, f"{one.accuracy(model.images):.2%}", str(len(model.images))] for one in answers
    ]
    screen.table("Held-out images", ["protocol", "right", "images"], accuracies)


def serve_and_score(
    screen: Screen,
    cluster: Cluster,
    images: ImageReferences,
    cache: Path,
    profile: str,
    emulation: Emulation | None = None,
) -> Outcome:
    """Do all that comes after the cluster and the images are there.

    Parameters
    ----------
    cache:
        Folder that keeps the trained model.
    profile:
        Accelerator profile of the replicas.
    emulation:
        Emulated devices for the third act, where there are any.

    Raises
    ------
    DemoError
        A step cannot be done.
    serval_serving.client.ServingError
        The model does not answer.
    """
    with screen.step("Operator") as say:
        values = images.chart_values(profile)
        install_operator(cluster, merged(values, emulation.chart_values()) if emulation else values, say)
    with screen.step("Model") as say:
        model = trained_model(cache, say)
        if len(model.images) < REQUIRED_IMAGES:
            raise DemoError(f"{len(model.images)} held-out images; {REQUIRED_IMAGES} are needed to judge")
    with screen.step("Model store") as say:
        start_store(cluster, model, images.operator, say)
    with screen.step(DEPLOY_STEP) as say:
        phases = deploy(cluster, model.sha256, profile, say)
    with screen.step("Scoring") as say:
        answers = score(cluster, model, say)
    show_predictions(screen, model, answers)
    promises = second_act(screen, cluster, model, profile)
    promises += third_act(screen, cluster, model, emulation)
    show_summary(screen, phases, model, answers)
    show_promises(screen, promises)
    return Outcome(model, tuple(answers), tuple(promises))
