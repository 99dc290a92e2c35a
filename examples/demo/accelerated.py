"""The demo's third act: a model is converted to int8, programmed into an exclusive device, and makes room.

The device is emulated: the int8 network runs on the CPU. The screen says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from examples.demo import manifests
from examples.demo.azure import by_azure, has_azure
from examples.demo.cluster import Cluster
from examples.demo.console import Say, Screen
from examples.demo.emulation import RESOURCE as DEVICE
from examples.demo.emulation import Emulation
from examples.demo.errors import DemoError
from examples.demo.manifests import ACCELERATED, EDGE_PORT, INT8, NEXT
from examples.demo.model import HeldOutImage, TrainedModel
from examples.demo.scarcity import Promise, devices
from examples.demo.scoring import Answers, by_grpc
from examples.demo.watching import READY, condition, follow, until, until_condition, until_reason

ACT = "Third act"
ACCURACY = 0.95
CALIBRATED = 100
"""Held-out images that calibrate the conversion. They are not scored."""
SCORED = 200
CONVERTED_LIMIT_S = 300.0
SERVING_LIMIT_S = 180.0
WAITING_LIMIT_S = 60.0
ANSWER_LIMIT_S = 60.0
TAKES_OVER_S = 2.0
EMULATED = "Emulated"
PROGRAMMED, IN_USE = "DeviceProgrammed", "AcceleratorInUse"
NO_LAB = "it needs a registry to push to and devices to program, as the lab has them"


def third_act(
    screen: Screen, cluster: Cluster, model: TrainedModel, emulation: Emulation | None
) -> list[Promise]:
    """Convert the digits for an emulated device, score them, and let a second model wait for the device.

    Parameters
    ----------
    model:
        Served from the model store of the first act.
    emulation:
        What the lab lends; None on other clusters, where the act is not played.

    Raises
    ------
    DemoError
        A step cannot be done, or does not end.
    """
    if emulation is None:
        screen.text(f"\n{ACT}, exclusive devices: not played. {NO_LAB[0].upper()}{NO_LAB[1:]}.", "yellow")
        return []
    screen.text(f"\n{ACT}: an FPGA. There is none here: the device is EMULATED by the CPU.", "yellow")
    scored = model.images[CALIBRATED : CALIBRATED + SCORED]
    with emulation.one_device():
        with screen.step(f"{ACT}: a network is converted to int8") as say:
            _clear(cluster)
            cluster.apply(emulation.manifests(model.images[:CALIBRATED]))
            state = convert(cluster, model.sha256, say)
        with screen.step(f"{ACT}: the device is programmed") as say:
            promises = [judge_emulation(programmed(cluster, say))]
        with screen.step(f"{ACT}: scoring") as say:
            promises.append(judge_scores(score(cluster, model, scored, say), scored))
        with screen.step(f"{ACT}: a second model wants the device") as say:
            promises.append(wait_in_line(cluster, state, say))
        with screen.step(f"{ACT}: the first one is deleted") as say:
            promises.append(take_over(cluster, say))
    return promises


def convert(cluster: Cluster, sha256: str, say: Say) -> dict[str, Any]:
    """Apply an AcceleratedModel, and follow it until its Job has converted the model."""
    cluster.apply([manifests.accelerated_model(sha256)])
    say(f"applied AcceleratedModel {INT8}: a Job converts the SavedModel; no device is needed for that")
    state = until_condition(_watch(cluster, INT8, CONVERTED_LIMIT_S), "Converted", say)
    conversion = state["status"]["conversion"]
    say(f"artifact {conversion['artifact']}")
    say(f"int8 and float agree on {conversion['agreement']:.2%} of held-out images")
    return state


def programmed(cluster: Cluster, say: Say) -> dict[str, Any]:
    """Follow the first AcceleratedModel until it serves, and show its row."""
    follow(_watch(cluster, INT8, SERVING_LIMIT_S), say)
    # The operator asks a server that is ready what it runs on, and the answer comes a moment later.
    state = until(_watch(cluster, INT8, ANSWER_LIMIT_S), IN_USE, bool)
    for kind in (PROGRAMMED, IN_USE):
        said = condition(state, kind)
        say(f"{kind}={said['status']}  {said['reason']}: {said['message']}")
    _show(cluster, say)
    return state


def judge_emulation(state: dict[str, Any]) -> Promise:
    """Whether the status says that no device computes."""
    reasons = {kind: condition(state, kind).get("reason", "nothing") for kind in (PROGRAMMED, IN_USE)}
    kept = set(reasons.values()) == {EMULATED} and condition(state, IN_USE).get("status") == "False"
    seen = ", ".join(f"{kind}: {reason}" for kind, reason in reasons.items())
    return Promise("an emulated device is called one", kept, seen)


def score(cluster: Cluster, model: TrainedModel, images: tuple[HeldOutImage, ...], say: Say) -> Answers:
    """Score images by Azure's client where it is installed, and else by the project's."""
    with cluster.reach(INT8, manifests.NAMESPACE, (EDGE_PORT,)) as addresses:
        address = addresses[EDGE_PORT]
        if has_azure():
            say(f"Azure ML's PredictionClient (azureml-accel-models) calls {address}")
            answers = by_azure(address, INT8, model.folder, images)
        else:
            say(f"azureml-accel-models is not installed: the project's own client calls {address}")
            answers = by_grpc(address, INT8, images)
    accuracy = answers.accuracy(images)
    say(f"{answers.protocol}: {accuracy:.2%} of {len(images)} images right, in int8, emulated")
    return answers


def judge_scores(answers: Answers, images: tuple[HeldOutImage, ...]) -> Promise:
    """Whether the int8 network is right often enough."""
    accuracy = answers.accuracy(images)
    seen = f"{accuracy:.2%}, {answers.protocol}"
    return Promise(f"int8 is right for {ACCURACY:.0%} or more", accuracy >= ACCURACY, seen)


def wait_in_line(cluster: Cluster, holder: Mapping[str, Any], say: Say) -> Promise:
    """Apply a second AcceleratedModel, of the artifact of the first, and show its place in the queue."""
    artifact = holder["status"]["conversion"]["artifact"]
    cluster.apply([manifests.converted_model(artifact)])
    say(f"applied AcceleratedModel {NEXT}, of the artifact that {INT8} was converted to")
    state = until_reason(_watch(cluster, NEXT, WAITING_LIMIT_S), "AcceleratorBusy")
    _show(cluster, say)
    return judge_place(state)


def judge_place(state: dict[str, Any]) -> Promise:
    """Whether who waits has the first place, and names the holder."""
    position = state["status"].get("accelerator", {}).get("position")
    named = f"{manifests.NAMESPACE}/{INT8}" in condition(state, READY)["message"]
    seen = f"position {position}, holder {'named' if named else 'not named'}"
    return Promise("who waits knows its position and the holder", position == 1 and named, seen)


def take_over(cluster: Cluster, say: Say, clock: Callable[[], float] = time.monotonic) -> Promise:
    """Delete the first AcceleratedModel, and measure until the second one has its device."""
    selector = f"serval.dev/name in ({INT8},{NEXT})"
    events = cluster.watch_events("pods", manifests.NAMESPACE, selector, SERVING_LIMIT_S)
    # The watch must run before anything changes: its first event is a pod that exists.
    next(events)
    cluster.delete(ACCELERATED, INT8, manifests.NAMESPACE)
    say(f"deleted AcceleratedModel {INT8}")
    seconds = handover(events, clock)
    say(f"the device of {INT8} is free; the pod of {NEXT} got it {seconds:.2f} s later")
    freed = clock()
    follow(_watch(cluster, NEXT, SERVING_LIMIT_S), say)
    say(f"{NEXT} serves {clock() - freed:.1f} s after that, its server started and the device programmed")
    _show(cluster, say)
    return Promise(
        f"a free device is taken within {TAKES_OVER_S:.0f} s", seconds <= TAKES_OVER_S, f"{seconds:.2f} s"
    )


def handover(events: Iterable[tuple[str, Mapping[str, Any]]], clock: Callable[[], float]) -> float:
    """Return the seconds from the end of the pod that held the device until the next one's pod has a node.

    Parameters
    ----------
    events:
        Type and pod of each change, as they come; pods of Jobs among them, which have no device.

    Raises
    ------
    DemoError
        The events ended.
    """
    freed: float | None = None
    taken: float | None = None
    for kind, pod in events:
        if DEVICE not in devices(pod):
            continue
        name = pod["metadata"]["labels"]["serval.dev/name"]
        if name == INT8 and kind == "DELETED":
            freed = clock()
        elif name == NEXT and taken is None and pod["spec"].get("nodeName"):
            taken = clock()
        if freed is not None and taken is not None:
            return max(taken - freed, 0.0)
    raise DemoError(f"{NEXT} was given no device")


def _clear(cluster: Cluster) -> None:
    """Delete what an earlier run left, and wait until its device is free."""
    pods = []
    for name in (INT8, NEXT):
        cluster.delete(ACCELERATED, name, manifests.NAMESPACE)
        pods += cluster.select("pods", manifests.NAMESPACE, manifests.pod_selector(name))
    cluster.wait_gone([pod["metadata"]["name"] for pod in pods], manifests.NAMESPACE, SERVING_LIMIT_S)


def _show(cluster: Cluster, say: Say) -> None:
    say(f"kubectl -n {manifests.NAMESPACE} get amodel -o wide")
    rows = cluster.kubectl("get", ACCELERATED, f"--namespace={manifests.NAMESPACE}", "--output=wide")
    for line in rows.splitlines():
        say(f"  {line}")


def _watch(cluster: Cluster, name: str, limit_s: float) -> Iterable[dict[str, Any]]:
    return cluster.watch(ACCELERATED, name, manifests.NAMESPACE, limit_s)
