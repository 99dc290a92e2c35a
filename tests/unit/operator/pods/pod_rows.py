"""All states of a pod, as the scheduler and the kubelet (1.36) write them, and how each is judged."""

from __future__ import annotations

from dataclasses import dataclass

from serval_contract.reasons import FETCH_REASONS
from serval_operator.pods.pod_state import Stage
from support import gen

SCHEDULER = (
    "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient nvidia.com/gpu. no new "
    "claims to deallocate, preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
)
SANDBOX = (
    "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to setup network for sandbox "
    '"0f": plugin type="bridge" failed (add): no IP addresses available in range set'
)
VOLUME = 'MountVolume.SetUp failed for volume "ca" : configmap "store-ca" not found'
VOLUMES = (
    "Unable to attach or mount volumes: unmounted volumes=[ca], unattached volumes=[], failed to process "
    "volumes=[]: context deadline exceeded"
)
RUNC = (
    "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create "
    'failed: unable to start container process: error during container init: exec: "nope": executable file '
    "not found in $PATH"
)
HELD = "DeviceHeld: unit fpga-0 is held by net-7c9f"
NOT_SERVABLE = (
    "Failed to start server. Error: Unknown: 1 servable(s) did not become available: {{{name: digits "
    "version: 3} due to error: Not found: Could not find SavedModel .pb or .pbtxt at supplied export "
    "directory path}}"
)
SERVABLE = (
    "1 servable(s) did not become available: {{{name: digits version: 3} due to error: Op type unknown}}"
)
SEVERAL_LINES = (
    "starting\nFailed to start server. Error: 1 servable(s) did not become available: {{{name: digits "
    "version: 3} due to error: IR version 99\n is too new\n}}}\n"
)
LOST = "The container could not be located when the pod was deleted.  The container used to be Running"
UNAVAILABLE = gen.fetch_failure("ModelSourceUnavailable", "https://host did not answer", permanent=False)


@dataclass(frozen=True)
class Row:
    """A state and its judgement; only what is not the rule is said."""

    name: str
    options: tuple[gen.Option, ...]
    stage: Stage
    reason: str
    message: str
    failed: bool = True
    exit_code: int | None = None
    when: float | None = None
    warnings: tuple[gen.Object, ...] = ()


def progress(
    name: str, options: tuple[gen.Option, ...], stage: Stage, message: str, *warnings: gen.Object
) -> Row:
    return Row(name, options, stage, "Progressing", message, failed=False, warnings=warnings)


def pull(reason: str, message: str) -> gen.Object:
    return gen.waiting(reason, message)


def back_off(kind: str, cause: str) -> gen.Object:
    return gen.waiting("ImagePullBackOff", f'Back-off pulling image "{gen.IMAGE}": {kind}: {cause}')


REGISTRY = f"image pull failed for {gen.IMAGE} because the registry is unavailable: connection refused"
STARTS = "the node sets up the pod and its images"
FETCHES = "fetching the model"
CRASHED = "the model server ended with exit code"
OOM = "was killed for using more memory than its limit"

SCHEDULING = [
    progress("created", (), Stage.SCHEDULE, "waiting for the scheduler"),
    progress(
        "gated",
        (gen.gated,),
        Stage.SCHEDULE,
        "the pod's scheduling gates are not open yet, such as those of a queue",
    ),
    Row("unschedulable", (gen.unschedulable(SCHEDULER),), Stage.SCHEDULE, "Unschedulable", SCHEDULER),
    progress("placed", (gen.placed(),), Stage.FETCH, STARTS),
]
STARTING = [
    progress("taken by the kubelet", (gen.starting(),), Stage.FETCH, STARTS),
    Row(
        "sandbox",
        (gen.starting(),),
        Stage.FETCH,
        "SandboxFailed",
        SANDBOX,
        when=5,
        warnings=(gen.warning("FailedCreatePodSandBox", SANDBOX),),
    ),
    Row(
        "network",
        (gen.starting(),),
        Stage.FETCH,
        "SandboxFailed",
        "network is not ready: cni plugin not initialized",
        when=5,
        warnings=(gen.warning("NetworkNotReady", "network is not ready: cni plugin not initialized"),),
    ),
    Row(
        "volume",
        (gen.starting(),),
        Stage.FETCH,
        "VolumeFailed",
        VOLUME,
        when=7,
        warnings=(gen.warning("FailedCreatePodSandBox", SANDBOX), gen.warning("FailedMount", VOLUME, seen=7)),
    ),
    Row(
        "volume, and the kubelet's summary after it",
        (gen.starting(),),
        Stage.FETCH,
        "VolumeFailed",
        VOLUME,
        when=7,
        warnings=(gen.warning("FailedMount", VOLUME, seen=7), gen.warning("FailedMount", VOLUMES, seen=9)),
    ),
    Row(
        "volume, and nothing but the summary",
        (gen.starting(),),
        Stage.FETCH,
        "VolumeFailed",
        VOLUMES,
        warnings=(gen.warning("FailedMount", VOLUMES, seen=None),),
    ),
    Row(
        "an event with a time before one without",
        (gen.starting(),),
        Stage.FETCH,
        "VolumeFailed",
        VOLUME,
        when=7,
        warnings=(
            gen.warning("FailedMount", VOLUME, seen=7),
            gen.warning("FailedCreatePodSandBox", SANDBOX, seen=None),
        ),
    ),
    Row(
        "attachment",
        (gen.placed(),),
        Stage.FETCH,
        "VolumeFailed",
        "Multi-Attach error",
        when=5,
        warnings=(gen.warning("FailedAttachVolume", "Multi-Attach error"),),
    ),
    progress(
        "sandbox failed at first and is there now",
        (gen.sandbox_ready,),
        Stage.FETCH,
        STARTS,
        gen.warning("FailedCreatePodSandBox", SANDBOX),
    ),
    progress(
        "events that tell nothing of it",
        (gen.starting(),),
        Stage.FETCH,
        STARTS,
        gen.warning("FailedScheduling", SCHEDULER),
        gen.warning("BackOff", "Back-off restarting failed container"),
    ),
    Row(
        "fetch image, pull",
        (gen.fetch(pull("ErrImagePull", gen.NOT_FOUND)),),
        Stage.FETCH,
        "ImagePullFailed",
        gen.NOT_FOUND,
    ),
    Row(
        "fetch image, back-off",
        (gen.fetch(back_off("ErrImagePull", gen.NOT_FOUND)),),
        Stage.FETCH,
        "ImagePullFailed",
        gen.NOT_FOUND,
    ),
    Row(
        "fetch image, registry, pull",
        (gen.fetch(pull("RegistryUnavailable", REGISTRY)),),
        Stage.FETCH,
        "ImagePullFailed",
        REGISTRY,
    ),
    Row(
        "fetch image, registry, back-off",
        (gen.fetch(back_off("RegistryUnavailable", REGISTRY)),),
        Stage.FETCH,
        "ImagePullFailed",
        REGISTRY,
    ),
    Row(
        "fetch image, back-off without a cause",
        (gen.fetch(gen.waiting("ImagePullBackOff", 'Back-off pulling image "x:1"')),),
        Stage.FETCH,
        "ImagePullFailed",
        'Back-off pulling image "x:1"',
    ),
    Row(
        "fetch image, back-off with a cause of a kind that is not known",
        (gen.fetch(back_off("Strange", "cause: a")),),
        Stage.FETCH,
        "ImagePullFailed",
        "Strange: cause: a",
    ),
    Row(
        "fetch image, no words",
        (gen.fetch(gen.waiting("ErrImageNeverPull")),),
        Stage.FETCH,
        "ImagePullFailed",
        "ErrImageNeverPull",
    ),
    Row(
        "fetch image, name",
        (gen.fetch(pull("InvalidImageName", 'couldn\'t parse image name "X"')),),
        Stage.FETCH,
        "ImagePullFailed",
        'couldn\'t parse image name "X"',
    ),
    Row(
        "fetch config",
        (gen.fetch(gen.waiting("CreateContainerConfigError", 'secret "s" not found')),),
        Stage.FETCH,
        "CreateContainerError",
        'CreateContainerConfigError: secret "s" not found',
    ),
]
FETCH = [
    progress("fetch runs", (gen.fetch_running(),), Stage.FETCH, FETCHES),
    progress(
        "fetch runs again in a new sandbox",
        (gen.fetch_running(last=gen.ended(0, "", "Completed")),),
        Stage.FETCH,
        FETCHES,
    ),
    progress("fetch is created", (gen.fetch(gen.waiting("")),), Stage.FETCH, STARTS),
    *(
        Row(
            f"fetch failed for good: {reason}",
            (gen.fetch_failed(1, gen.fetch_failure(reason, f"why {reason}")),),
            Stage.FETCH,
            reason,
            f"why {reason}",
            exit_code=1,
            when=30,
        )
        for reason in sorted(FETCH_REASONS)
    ),
    Row(
        "fetch just failed",
        (gen.fetch(gen.ended(1, gen.fetch_failure("ModelNotFound", "404"))),),
        Stage.FETCH,
        "ModelNotFound",
        "404",
        exit_code=1,
        when=30,
    ),
    Row(
        "fetch runs again after it failed",
        (gen.fetch_running(last=gen.ended(1, UNAVAILABLE)),),
        Stage.FETCH,
        "ModelSourceUnavailable",
        "https://host did not answer",
        exit_code=1,
        when=30,
    ),
    Row(
        "fetch is created again after it failed",
        (gen.fetch(gen.waiting(""), last=gen.ended(1, UNAVAILABLE)),),
        Stage.FETCH,
        "ModelSourceUnavailable",
        "https://host did not answer",
        exit_code=1,
        when=30,
    ),
    Row(
        "fetch failed behind other words",
        (gen.fetch_failed(1, f"a log line\n{gen.fetch_failure('ModelTooLarge', 'big')}\nthe end"),),
        Stage.FETCH,
        "ModelTooLarge",
        "big",
        exit_code=1,
        when=30,
    ),
    Row(
        "fetch failed with a secret in its words",
        (gen.fetch_failed(1, gen.fetch_failure("ModelAccessDenied", "403 https://a/b?sig=abc")),),
        Stage.FETCH,
        "ModelAccessDenied",
        "403 https://a/b?sig=***",
        exit_code=1,
        when=30,
    ),
    Row(
        "fetch failed with a reason that nobody knows",
        (gen.fetch_failed(1, gen.fetch_failure("Serving", "ha")),),
        Stage.FETCH,
        "CrashLoop",
        f"the fetch container ended with exit code 1: {gen.fetch_failure('Serving', 'ha')}",
        exit_code=1,
        when=30,
    ),
    Row(
        "fetch failed with a reason that is no text",
        (gen.fetch_failed(1, '{"serval": "fetch", "reason": ["ModelNotFound"]}'),),
        Stage.FETCH,
        "CrashLoop",
        'the fetch container ended with exit code 1: {"serval": "fetch", "reason": ["ModelNotFound"]}',
        exit_code=1,
        when=30,
    ),
    Row(
        "fetch failed with garbage",
        (gen.fetch_failed(2, '{"serval": "fetch", \n[[[\nusage: fetch\n'),),
        Stage.FETCH,
        "CrashLoop",
        "the fetch container ended with exit code 2: usage: fetch",
        exit_code=2,
        when=30,
    ),
    Row(
        "fetch failed without a word",
        (gen.fetch_failed(1, ""),),
        Stage.FETCH,
        "CrashLoop",
        "the fetch container ended with exit code 1: it said nothing",
        exit_code=1,
        when=30,
    ),
    Row(
        "fetch used too much memory",
        (gen.fetch_failed(137, "", "OOMKilled"),),
        Stage.FETCH,
        "OutOfMemory",
        f"the fetch container {OOM}",
        exit_code=137,
        when=30,
    ),
    *(
        Row(
            f"fetch cannot start: {name}",
            (gen.fetch(state, last=last),),
            Stage.FETCH,
            "CreateContainerError",
            RUNC,
            exit_code=128,
            when=30,
        )
        for name, state, last in (
            ("ended", gen.ended(128, RUNC, "StartError"), None),
            ("back-off", gen.back_off("fetch"), gen.ended(128, RUNC, "StartError")),
            ("error", gen.waiting("RunContainerError", "other words"), gen.ended(128, RUNC, "StartError")),
        )
    ),
    Row(
        "fetch cannot start, and the runtime has not told yet",
        (gen.fetch(gen.waiting("RunContainerError", RUNC)),),
        Stage.FETCH,
        "CreateContainerError",
        f"RunContainerError: {RUNC}",
    ),
]
LOADED = gen.server(gen.running(12), answered=True, ready=True)
"""The server behind a front, which the kubelet asks only whether it started."""
WAITS = gen.waiting("PodInitializing")
FRONT = [
    progress("front, server loads", (gen.loading(), gen.front(WAITS)), Stage.LOAD, "loading the model"),
    Row(
        "front, server crashes",
        (gen.server_crashed(1, "boom"), gen.front(WAITS)),
        Stage.LOAD,
        "CrashLoop",
        f"{CRASHED} 1: boom",
        exit_code=1,
        when=30,
    ),
    Row(
        "front, server crashes after the model answered",
        (gen.server_crashed(1, "boom"), gen.front(gen.running(13), answered=True)),
        Stage.LOAD,
        "CrashLoop",
        f"{CRASHED} 1: boom",
        exit_code=1,
        when=30,
    ),
    *(
        progress(
            f"front {name}",
            (LOADED, gen.front(state)),
            Stage.LOAD,
            "starting the front before the model server",
        )
        for name, state in (("waits", WAITS), ("starts", gen.running(13)))
    ),
    Row(
        "front image, pull",
        (LOADED, gen.front(pull("ErrImagePull", gen.NOT_FOUND))),
        Stage.LOAD,
        "ImagePullFailed",
        gen.NOT_FOUND,
    ),
    Row(
        "front crashes",
        (LOADED, gen.front(gen.back_off("front"), last=gen.ended(2, "no such flag"))),
        Stage.LOAD,
        "CrashLoop",
        "the front container ended with exit code 2: no such flag",
        exit_code=2,
        when=30,
    ),
    Row(
        "front used too much memory",
        (LOADED, gen.front(gen.back_off("front"), last=gen.ended(137, "", "OOMKilled"))),
        Stage.LOAD,
        "OutOfMemory",
        f"the front container {OOM}",
        exit_code=137,
        when=30,
    ),
    Row(
        "front cannot start",
        (LOADED, gen.front(gen.back_off("front"), last=gen.ended(128, RUNC, "StartError"))),
        Stage.LOAD,
        "CreateContainerError",
        RUNC,
        exit_code=128,
        when=30,
    ),
    progress(
        "front, the model does not answer now",
        (LOADED, gen.front(gen.running(13), answered=True)),
        Stage.LOAD,
        "the model server runs, but the model does not answer now",
    ),
    Row(
        "front ready, pod not counted",
        (gen.ready(), gen.node_lost, gen.front(gen.running(13), answered=True, ready=True)),
        Stage.LOAD,
        "NodeNotReady",
        f"node {gen.NODE} stopped reporting; the pod is not counted as ready",
    ),
    Row(
        "front ready",
        (gen.ready(), gen.front(gen.running(13), answered=True, ready=True)),
        Stage.SERVE,
        "Done",
        "",
        failed=False,
    ),
]
LOAD = [
    progress("fetched", (gen.fetched(),), Stage.LOAD, "starting the model server"),
    progress(
        "fetched; the kubelet removed the container",
        (gen.fetch(gen.ended(0, "Unable to get init container status from container runtime", "Completed")),),
        Stage.LOAD,
        "starting the model server",
    ),
    Row(
        "server image, pull",
        (gen.server(pull("ErrImagePull", gen.NOT_FOUND)),),
        Stage.LOAD,
        "ImagePullFailed",
        gen.NOT_FOUND,
    ),
    Row(
        "server image, back-off",
        (gen.server(back_off("ErrImagePull", gen.NOT_FOUND)),),
        Stage.LOAD,
        "ImagePullFailed",
        gen.NOT_FOUND,
    ),
    Row(
        "server cannot be created",
        (gen.server(gen.waiting("CreateContainerError", "context deadline exceeded")),),
        Stage.LOAD,
        "CreateContainerError",
        "CreateContainerError: context deadline exceeded",
    ),
    progress("server loads", (gen.loading(),), Stage.LOAD, "loading the model"),
    *(
        Row(
            f"model cannot be loaded: {name}",
            (gen.server_crashed(255, f"2026-01-02 03:04:05.1: I loading\n{words}\n"),),
            Stage.LOAD,
            "ModelLoadFailed",
            words,
            exit_code=255,
            when=30,
        )
        for name, words in (("TF Serving", NOT_SERVABLE), ("plain", SERVABLE))
    ),
    Row(
        "another process holds the device",
        (gen.server_crashed(1, f"cannot load m: Unavailable: {HELD}"),),
        Stage.LOAD,
        "DeviceHeld",
        HELD,
        exit_code=1,
        when=30,
    ),
    Row(
        "server cannot load, in several lines",
        (gen.server_crashed(255, SEVERAL_LINES),),
        Stage.LOAD,
        "ModelLoadFailed",
        " ".join(SEVERAL_LINES.removeprefix("starting").split()),
        exit_code=255,
        when=30,
    ),
    Row(
        "server crashes",
        (gen.server_crashed(139, "warm-up\nSegmentation fault\n"),),
        Stage.LOAD,
        "CrashLoop",
        f"{CRASHED} 139: Segmentation fault",
        exit_code=139,
        when=30,
    ),
    Row(
        "server is killed after it could not load a model",
        (gen.server_crashed(139, f"{SERVABLE}\nSegmentation fault\n"),),
        Stage.LOAD,
        "CrashLoop",
        f"{CRASHED} 139: Segmentation fault",
        exit_code=139,
        when=30,
    ),
    Row(
        "server just ended",
        (gen.server(gen.ended(0, "", "Completed")),),
        Stage.LOAD,
        "CrashLoop",
        f"{CRASHED} 0: it said nothing",
        exit_code=0,
        when=30,
    ),
    Row(
        "server used too much memory",
        (gen.server_crashed(137, "half a line", "OOMKilled"),),
        Stage.LOAD,
        "OutOfMemory",
        f"the model server {OOM}",
        exit_code=137,
        when=30,
    ),
    Row(
        "server runs again after a crash",
        (gen.loading(last=gen.ended(1, "boom")),),
        Stage.LOAD,
        "CrashLoop",
        f"{CRASHED} 1: boom",
        exit_code=1,
        when=30,
    ),
    Row(
        "server cannot start",
        (gen.server_crashed(128, RUNC, "StartError"),),
        Stage.LOAD,
        "CreateContainerError",
        RUNC,
        exit_code=128,
        when=30,
    ),
    Row(
        "node came back without its containers",
        (gen.server(gen.waiting("PodInitializing"), last=gen.ended(137, LOST, "ContainerStatusUnknown")),),
        Stage.LOAD,
        "CrashLoop",
        f"{CRASHED} 137: {' '.join(LOST.split())}",
        exit_code=137,
        when=30,
    ),
]
SERVE = [
    Row("ready", (gen.ready(),), Stage.SERVE, "Done", "", failed=False),
    Row(
        "ready after a crash", (gen.ready(last=gen.ended(1, "boom")),), Stage.SERVE, "Done", "", failed=False
    ),
    progress(
        "stopped answering",
        (gen.ready(), gen.unready),
        Stage.LOAD,
        "the model server runs, but the model does not answer now",
    ),
    progress(
        "stopped answering, long after a crash",
        (gen.ready(last=gen.ended(1, "boom")), gen.unready),
        Stage.LOAD,
        "the model server runs, but the model does not answer now",
    ),
    progress(
        "another container of the pod is not ready",
        (gen.ready(last=gen.ended(1, "boom")), gen.pod_unready),
        Stage.LOAD,
        "the model answers, but the pod is not ready: ContainersNotReady",
    ),
    *(
        Row(
            f"node lost{name}",
            (gen.ready(last=last), gen.node_lost),
            Stage.LOAD,
            "NodeNotReady",
            "node gpu-0 stopped reporting; the pod is not counted as ready",
        )
        for name, last in (("", None), (", long after a crash", gen.ended(1, "boom")))
    ),
]
REJECTED = "Pod was rejected: "
DEVICES = (
    "Allocate failed due to no healthy devices present; cannot allocate unhealthy devices nvidia.com/gpu, "
    "which is unexpected"
)
FAILED = [
    Row(
        "refused by the device plugin",
        (gen.refused(),),
        Stage.SCHEDULE,
        "DeviceAllocationFailed",
        f"UnexpectedAdmissionError: {REJECTED}{DEVICES}",
        when=0,
    ),
    Row(
        "refused for want of devices",
        (gen.refused("OutOfnvidia.com/gpu", "Node didn't have enough resource: nvidia.com/gpu"),),
        Stage.SCHEDULE,
        "DeviceAllocationFailed",
        f"OutOfnvidia.com/gpu: {REJECTED}Node didn't have enough resource: nvidia.com/gpu",
        when=0,
    ),
    Row(
        "refused for want of memory",
        (gen.refused("OutOfmemory", "Node didn't have enough resource: memory"),),
        Stage.SCHEDULE,
        "PodRefused",
        f"OutOfmemory: {REJECTED}Node didn't have enough resource: memory",
        when=0,
    ),
    Row(
        "refused by topology",
        (gen.refused("TopologyAffinityError", "Resources cannot be allocated with Topology locality"),),
        Stage.SCHEDULE,
        "PodRefused",
        f"TopologyAffinityError: {REJECTED}Resources cannot be allocated with Topology locality",
        when=0,
    ),
    Row(
        "evicted",
        (gen.ready(), gen.evicted('Usage of EmptyDir volume "models" exceeds the limit "2Gi". ', after=300)),
        Stage.SCHEDULE,
        "PodRefused",
        'Evicted: Usage of EmptyDir volume "models" exceeds the limit "2Gi".',
        when=300,
    ),
    Row(
        "stopped by its node",
        (gen.ready(), gen.stopped(after=300)),
        Stage.SCHEDULE,
        "PodRefused",
        "the node stopped the pod in order and does not start it again",
        when=300,
    ),
    Row(
        "failed without a reason",
        (gen.refused("", "no"),),
        Stage.SCHEDULE,
        "PodRefused",
        f"{REJECTED}no",
        when=0,
    ),
    Row(
        "failed without a word",
        (gen.refused("", ""), lambda obj: obj["status"].update(message="")),
        Stage.SCHEDULE,
        "PodRefused",
        "the pod failed",
        when=0,
    ),
]
ROWS = [*SCHEDULING, *STARTING, *FETCH, *LOAD, *FRONT, *SERVE, *FAILED]
