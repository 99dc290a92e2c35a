"""Specs whose manifests are kept as goldens, and strategies for specs of every kind."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

HTTPS = "https://models.example.com/digits.tar.gz"
TOLERATION = {"key": "sku", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"}

CASES: dict[str, dict[str, Any]] = {
    "cpu-https-ca": {
        "model": {"uri": HTTPS, "sha256": "0" * 64, "caConfigMapRef": {"name": "store-ca"}},
        "resources": {"requests": {"cpu": 2, "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
    },
    "gpu-profile": {
        "model": {"uri": HTTPS, "version": 3},
        "replicas": 2,
        "accelerator": {"profile": "nvidia-gpu", "count": 1},
    },
    "resource-tolerations": {
        "model": {"uri": HTTPS},
        "runtime": {"name": "tensorflow-serving"},
        "resources": {"limits": {"memory": "8Gi"}},
        "accelerator": {"resourceName": "nvidia.com/mig-1g.10gb", "count": 2},
        "scheduling": {
            "nodeSelector": {"pool": "mig"},
            "tolerations": [TOLERATION, {"operator": "Exists", "effect": "NoExecute"}],
        },
    },
    "cpu-scheduled": {
        "model": {"uri": HTTPS},
        "scheduling": {
            "nodeSelector": {"pool": "models"},
            "tolerations": [{"key": "models", "operator": "Exists"}],
            "priorityClassName": "serving-high",
            "runtimeClassName": "gvisor",
            "schedulerName": "volcano",
        },
    },
    "gpu-batching": {
        "model": {"uri": HTTPS, "version": 3},
        "runtime": {
            "name": "tensorflow-serving",
            "batching": {"maxBatchSize": 64, "timeoutMicros": 2000, "maxEnqueued": 100},
            "args": ["--tensorflow_intra_op_parallelism=4"],
        },
        "accelerator": {"profile": "gpu-pool"},
    },
    "pvc": {"model": {"uri": "pvc://models/vision/digits", "version": 0}},
    "suspended": {"model": {"uri": "pvc://models"}, "replicas": 3, "suspend": True},
    "blob-secret": {
        "model": {
            "uri": "azureblob://acct/models/digits",
            "credentials": {"secretRef": {"name": "store-keys"}},
        },
        "scheduling": {"topologySpread": "Required"},
    },
    "bucket-account": {
        "model": {
            "uri": "s3://models/digits.tar.gz",
            "version": 3,
            "sha256": "0" * 64,
            "credentials": {"serviceAccountName": "model-reader"},
        },
        "podMetadata": {"annotations": {"note": "kept"}},
        "rollout": {"minReadySeconds": 30, "startDeadlineSeconds": 60},
    },
    "onnx-image": {
        "model": {"uri": "oci://registry.example/vision/digits:3", "framework": "ONNX"},
        "scheduling": {"topologySpread": "Disabled"},
    },
    "everything": {
        "model": {
            "uri": "https://models.example.com:8443/$(HOME)/digits.zip?sig=a%2Bb",
            "name": "ResNet_50.v1-5",
            "version": 7,
            "framework": "TensorFlow",
            "sha256": "f" * 64,
            "caConfigMapRef": {"name": "store-ca", "key": "ca.pem"},
            "credentials": {"secretRef": {"name": "store-keys"}},
        },
        "runtime": {
            "name": "serval",
            "batching": {"maxBatchSize": 32},
            "args": ["--enable_reflection=true", "--title=$(A) costs $5"],
            "env": [{"name": "TF_CPP_MIN_LOG_LEVEL", "value": "0"}, {"name": "B", "value": "$(A)"}],
        },
        "replicas": 4,
        "resources": {
            "requests": {"cpu": "500m", "memory": "4Gi", "ephemeral-storage": "50Gi"},
            "limits": {"cpu": 4, "memory": "8Gi"},
        },
        "accelerator": {
            "profile": "nvidia-gpu",
            "count": 2,
            "whenUnavailable": "Refuse",
        },
        "scheduling": {
            "nodeSelector": {"zone": "b"},
            "tolerations": [TOLERATION],
            "topologySpread": "Preferred",
            "priorityClassName": "serving-high",
            "runtimeClassName": "nvidia-cdi",
            "schedulerName": "default-scheduler",
        },
        "endpoint": {
            "rawBytes": "Enabled",
            "timeoutSeconds": 60,
            "maxConcurrentRequests": 8,
        },
        "probes": {
            "startup": {"periodSeconds": 2, "timeoutSeconds": 5, "failureThreshold": 900},
            "readiness": {"periodSeconds": 10, "timeoutSeconds": 6, "failureThreshold": 4},
            "liveness": {"periodSeconds": 20, "timeoutSeconds": 7, "failureThreshold": 6},
        },
        "suspend": False,
        "rollout": {
            "strategy": "InPlace",
            "startDeadlineSeconds": 600,
            "minReadySeconds": 5,
            "onFailure": "Revert",
            "trigger": "2026-11-28",
        },
        "autoscaling": {
            "minReplicas": 2,
            "maxReplicas": 6,
            "metrics": [{"type": "CPU", "targetUtilization": 50}],
        },
        "disruption": {"maxUnavailable": 2},
        "imagePullSecrets": [{"name": "registry"}, {"name": "mirror"}],
        "podMetadata": {
            "labels": {"team": "vision"},
            "annotations": {"prometheus.io/scrape": "true"},
        },
    },
}

FULL: dict[str, Any] = {
    "model": {
        "uri": "https://models.example.com/a.tar.gz",
        "name": "A.b_c-1",
        "version": 7,
        "framework": "ONNX",
        "sha256": "0" * 64,
        "caConfigMapRef": {"name": "store-ca", "key": "ca.pem"},
        "credentials": {"secretRef": {"name": "store.keys"}},
    },
    "runtime": {
        "name": "serval",
        "args": ["--x=1", "--y"],
        "env": [{"name": "A", "value": "1"}],
        "batching": {"maxBatchSize": 32, "timeoutMicros": 0, "maxEnqueued": 8},
    },
    "replicas": 4,
    "rollout": {
        "strategy": "InPlace",
        "startDeadlineSeconds": 600,
        "minReadySeconds": 5,
        "onFailure": "Revert",
        "trigger": "again",
    },
    "autoscaling": {
        "minReplicas": 2,
        "maxReplicas": 6,
        "metrics": [{"type": "RequestsInFlight", "targetUtilization": 50}],
    },
    "disruption": {"maxUnavailable": "25%"},
    "resources": {"requests": {"cpu": 2}, "limits": {"memory": "4Gi"}},
    "accelerator": {
        "resourceName": "nvidia.com/gpu",
        "count": 2,
        "whenUnavailable": "Wait",
        "whenBusy": "Replace",
    },
    "scheduling": {
        "nodeSelector": {"pool": "gpu"},
        "tolerations": [{**TOLERATION, "effect": "NoExecute", "tolerationSeconds": 30}],
        "topologySpread": "Required",
        "priorityClassName": "high",
        "runtimeClassName": "nvidia",
        "schedulerName": "volcano",
    },
    "endpoint": {"rawBytes": "Disabled", "timeoutSeconds": 60, "maxConcurrentRequests": 8},
    "probes": {
        "startup": {"periodSeconds": 1, "timeoutSeconds": 2, "failureThreshold": 3},
        "readiness": {"periodSeconds": 4, "timeoutSeconds": 5, "failureThreshold": 6},
        "liveness": {"periodSeconds": 7, "timeoutSeconds": 8, "failureThreshold": 9},
    },
    "suspend": True,
    "imagePullSecrets": [{"name": "registry"}],
    "podMetadata": {"labels": {"team": "vision"}, "annotations": {"prometheus.io/scrape": "true"}},
}
"""Every field with a value that is not its default, where fields do not exclude each other."""

IMAGE_CASES: dict[str, dict[str, Any]] = {
    "image-volume": {
        "model": {
            "uri": f"oci://registry.example/vision/digits:3@sha256:{'0' * 64}",
            "sha256": "1" * 64,
            "credentials": {"secretRef": {"name": "registry-login"}},
        },
        "imagePullSecrets": [{"name": "registry"}],
    },
    "image-volume-tag": {"model": {"uri": "oci://registry.example/vision/digits", "version": 2}},
}
"""Where all nodes can mount images."""

FRONT_CASES: dict[str, dict[str, Any]] = {
    "front-scoring": {
        "model": {"uri": HTTPS, "version": 3, "credentials": {"serviceAccountName": "reader"}},
        "runtime": {
            "name": "tensorflow-serving",
            "args": ["--enable_model_warmup=true", "--scoring_output=$(A)"],
        },
        "resources": {"requests": {"cpu": 2}},
        "accelerator": {"profile": "nvidia-gpu"},
        "endpoint": {"rawBytes": "Enabled"},
        "probes": {"readiness": {"periodSeconds": 10}, "liveness": {"failureThreshold": 6}},
    },
    "front-limit": {
        "model": {"uri": "pvc://models/digits", "version": 0},
        "runtime": {"name": "tensorflow-serving", "batching": {"maxBatchSize": 16}},
        "endpoint": {"rawBytes": "Disabled", "maxConcurrentRequests": 8, "timeoutSeconds": 60},
    },
}
"""What the runtime's server lacks, so that a front stands before it."""

AUTOSCALERS: dict[str, dict[str, Any]] = {
    "cpu": {"autoscaling": {"maxReplicas": 5}, "resources": {"requests": {"cpu": 2}}},
    "requests-in-flight": {
        "autoscaling": {
            "minReplicas": 2,
            "maxReplicas": 8,
            "metrics": [{"type": "RequestsInFlight", "targetUtilization": 70}],
        },
        "endpoint": {"maxConcurrentRequests": 8},
    },
    "both": {
        "autoscaling": {
            "maxReplicas": 8,
            "metrics": [{"type": "RequestsInFlight", "targetUtilization": 80}, {"type": "CPU"}],
        },
        "resources": {"requests": {"cpu": 2}},
        "endpoint": {"maxConcurrentRequests": 5},
    },
}

TEXT = st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
NAMES = st.from_regex(r"[a-z][a-z0-9]{0,5}", fullmatch=True)
QUANTITIES = st.sampled_from([1, "1", "500m", "4Gi"])
SIDES = st.dictionaries(st.sampled_from(["cpu", "memory"]), QUANTITIES, max_size=2)
PROBE = st.fixed_dictionaries(
    {}, optional={"periodSeconds": st.integers(1, 9), "failureThreshold": st.integers(1, 9)}
)
MODELS = st.fixed_dictionaries(
    {
        "uri": st.sampled_from(
            [HTTPS, "https://h/$(A)$$", "azureblob://acct/models/a", "s3://models/a", "oci://r/i:1"]
        )
    },
    optional={
        "name": st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,9}", fullmatch=True),
        "version": st.integers(0, 9),
        "sha256": st.just("0" * 64),
        "framework": st.sampled_from(["TensorFlow", "ONNX"]),
        "caConfigMapRef": st.just({"name": "ca"}),
        "credentials": st.sampled_from([{"secretRef": {"name": "keys"}}, {"serviceAccountName": "reader"}]),
    },
) | st.fixed_dictionaries(
    {"uri": st.sampled_from(["pvc://models/a", "pvc://models"])}, optional={"version": st.integers(0, 9)}
)
RUNTIMES = st.fixed_dictionaries(
    {"name": st.sampled_from(["serval", "tensorflow-serving"])},
    optional={
        "args": st.lists(TEXT.map(lambda text: f"--a={text}"), max_size=3),
        "env": st.lists(st.fixed_dictionaries({"name": NAMES, "value": TEXT}), max_size=3),
        "batching": st.fixed_dictionaries(
            {"maxBatchSize": st.integers(1, 99)},
            optional={"timeoutMicros": st.integers(0, 99), "maxEnqueued": st.integers(1, 99)},
        ),
    },
)
ACCELERATORS = st.fixed_dictionaries(
    {"count": st.integers(1, 4)},
    optional={
        "whenUnavailable": st.sampled_from(["Auto", "Wait", "Refuse"]),
        "whenBusy": st.sampled_from(["Wait", "Replace"]),
    },
).flatmap(
    lambda rest: st.sampled_from(
        [{"profile": "cpu"}, {"profile": "nvidia-gpu"}, {"resourceName": "amd.com/gpu"}]
    ).map(lambda which: {**rest, **which})
)
SCHEDULING = st.fixed_dictionaries(
    {},
    optional={
        "nodeSelector": st.just({"pool": "x"}),
        "tolerations": st.just([TOLERATION]),
        "topologySpread": st.sampled_from(["Preferred", "Required", "Disabled"]),
        "priorityClassName": NAMES,
        "runtimeClassName": NAMES,
        "schedulerName": NAMES,
    },
)
MISFIT = ("ONNX", "tensorflow-serving")
SPECS = st.fixed_dictionaries(
    {"model": MODELS},
    optional={
        "runtime": RUNTIMES,
        "replicas": st.integers(0, 9),
        "resources": st.fixed_dictionaries({}, optional={"requests": SIDES, "limits": SIDES}),
        "accelerator": ACCELERATORS,
        "scheduling": SCHEDULING,
        "probes": st.fixed_dictionaries({}, optional={"startup": PROBE, "liveness": PROBE}),
        "suspend": st.booleans(),
        "rollout": st.fixed_dictionaries(
            {},
            optional={
                "strategy": st.sampled_from(["Auto", "Surge", "InPlace"]),
                "minReadySeconds": st.integers(0, 60),
                "onFailure": st.sampled_from(["Hold", "Revert"]),
                "trigger": TEXT,
            },
        ),
        "disruption": st.sampled_from([{}, {"maxUnavailable": 3}, {"maxUnavailable": "10%"}]),
        "imagePullSecrets": st.just([{"name": "registry"}]),
        "podMetadata": st.fixed_dictionaries(
            {},
            optional={
                "labels": st.dictionaries(NAMES, NAMES, max_size=2),
                "annotations": st.dictionaries(NAMES, TEXT, max_size=2),
            },
        ),
    },
).filter(lambda spec: (spec["model"].get("framework"), spec.get("runtime", {}).get("name")) != MISFIT)
"""Specs that the CRD takes, but for the texts with ``$(``, which it refuses and builders must not trust."""
