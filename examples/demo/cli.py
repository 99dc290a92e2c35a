"""The demo's command line, and the two clusters that it knows: the lab, and one of the user's own."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from examples.demo import manifests
from examples.demo.cluster import Cluster
from examples.demo.console import Screen
from examples.demo.emulation import Emulation
from examples.demo.errors import DemoError
from examples.demo.run import (
    CHART,
    OPERATOR_NAMESPACE,
    RELEASE,
    ImageReferences,
    Outcome,
    serve_and_score,
)
from rich.console import Console

from serval_lab import Lab, LabError
from serval_lab.images import ImageError, build_images
from serval_lab.settings import Settings
from serval_serving.client import ServingError

KUBECONFIG = "KUBECONFIG"
REGISTRY = "SERVAL_REGISTRY"
TAG = "SERVAL_TAG"
DEFAULT_LAB = "serval"
NOT_REAL = (
    "Not real here: the GPUs' silicon. A device plugin offers nvidia.com/gpu on node gpu-0 without it;\n"
    "scheduling and allocation are Kubernetes' own, and the model computes on the CPU. All else is real:\n"
    "control plane, three nodes, containers, images, network, operator, model server and trained model.\n"
    "Not real either: the FPGA of the third act. The int8 network is real; an emulator runs it on the CPU,\n"
    "and its latency says nothing about a card."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo.

    Returns
    -------
    int
        0; 1 where a step failed, a protocol was right for less than 95 % of the images, or a promise of the
        second or third act was broken.
    """
    options = _options(arguments)
    screen = Screen(Console(highlight=False))
    try:
        play = _on_own_cluster if os.environ.get(KUBECONFIG) else _on_lab
        outcome = play(screen, options)
    except (DemoError, LabError, ImageError, ServingError) as error:
        screen.text(f"\nThe demo stopped: {error}", "bold red")
        return 1
    except KeyboardInterrupt:
        screen.text("\ninterrupted")
        return 130
    for complaint in outcome.complaints:
        screen.text(f"\nThe demo failed: {complaint}", "bold red")
    return 1 if outcome.complaints else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.demo",
        description=(
            "Serve a really trained model on Kubernetes, score images, let GPUs run short, and program an "
            "emulated FPGA. Starts the lab, a Kubernetes on this machine; with "
            f"{KUBECONFIG} set, uses that cluster, with images from {REGISTRY} ({TAG})."
        ),
    )
    parser.add_argument("--lab", default=DEFAULT_LAB, help="name of the lab (default: %(default)s)")
    parser.add_argument(
        "--profile", default="nvidia-gpu", help="accelerator profile of the replicas (default: %(default)s)"
    )
    return parser.parse_args(arguments)


def _on_lab(screen: Screen, options: argparse.Namespace) -> Outcome:
    settings = Settings.from_environment()
    lab = Lab(options.lab, settings=settings)
    with screen.step("Lab") as say:
        lab.up(say)
    with screen.step("Images") as say:
        built = build_images(lab.registry, progress=say)
        say(f"{built.operator}, {built.server} and {built.converter} are in the lab's registry")
    tags = [reference.rpartition(":")[2] for reference in (built.operator, built.server)]
    environment = lab.environment()
    cluster = Cluster(environment, reaches_services=True)
    images = ImageReferences(lab.registry, *tags)
    emulation = Emulation(lab, built.converter, built.server)
    outcome = serve_and_score(screen, cluster, images, settings.cache / "demo", options.profile, emulation)
    screen.text(f"\n{NOT_REAL}", "yellow")
    with cluster.reach(manifests.NAME, manifests.NAMESPACE, [manifests.SCORING_PORT]) as addresses:
        look = [
            f"export KUBECONFIG={shlex.quote(environment[KUBECONFIG])}",
            *_on_path(environment),
            *_commands(f"http://{addresses[manifests.SCORING_PORT]}", outcome.model.folder),
        ]
    screen.lines("Look around:", look)
    down = (
        "make lab-down" if options.lab == DEFAULT_LAB else f"python -m serval_lab down --name {options.lab}"
    )
    screen.lines("The lab stays up. This takes it down:", [down])
    return outcome


def _on_own_cluster(screen: Screen, options: argparse.Namespace) -> Outcome:
    registry = os.environ.get(REGISTRY, "").rstrip("/")
    if not registry:
        raise DemoError(
            f"{KUBECONFIG} is set, so the demo works on that cluster, and its nodes must be able to pull the "
            f"images: push both targets of the Dockerfile (docs/images.md) and set {REGISTRY}, the part "
            f"before /serval-operator and /serval-server. Or unset {KUBECONFIG}: the demo then starts a lab."
        )
    tag = os.environ.get(TAG) or _chart_version()
    cluster = Cluster(os.environ, reaches_services=False)
    with screen.step("Cluster") as say:
        say(f"context {cluster.kubectl('config', 'current-context').strip()}")
        say(f"images from {registry}, tag {tag}")
    images = ImageReferences(registry, tag, tag)
    cache = Settings.from_environment().cache / "demo"
    outcome = serve_and_score(screen, cluster, images, cache, options.profile)
    service = f"-n {manifests.NAMESPACE} port-forward service/{manifests.NAME}"
    forward = f"kubectl {service} 8080:{manifests.SCORING_PORT} &"
    screen.lines("Look around:", [forward, *_commands("http://127.0.0.1:8080", outcome.model.folder)])
    down = [
        f"kubectl delete namespace {manifests.NAMESPACE}",
        f"helm uninstall {RELEASE} --namespace {OPERATOR_NAMESPACE}",
    ]
    screen.lines("The model stays up. This takes it down:", down)
    return outcome


def _commands(base_url: str, images: Path) -> list[str]:
    image = min(images.glob("*.png"))
    kubectl = f"kubectl -n {manifests.NAMESPACE}"
    return [
        f"{kubectl} get modeldeployments,pods -o wide",
        f"{kubectl} describe modeldeployment {manifests.NAME}",
        f"{kubectl} get acceleratedmodels -o wide",
        f"{kubectl} scale modeldeployment {manifests.NAME} --replicas=1",
        "kubectl explain modeldeployment.spec --recursive",
        f"curl --data-binary @{image} {base_url}/score",
    ]


def _on_path(environment: Mapping[str, str]) -> list[str]:
    """Return the command that makes the lab's kubectl known, where the user has none."""
    tool = shutil.which("kubectl", path=environment["PATH"])
    if tool is None or shutil.which("kubectl"):
        return []
    return [f"export PATH={shlex.quote(str(Path(tool).parent))}:$PATH"]


def _chart_version() -> str:
    return str(yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))["appVersion"])


if __name__ == "__main__":
    sys.exit(main())
