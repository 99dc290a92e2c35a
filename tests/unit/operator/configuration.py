"""An operator's configuration for tests: three runtimes and six profiles with all that they may have."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import yaml

from serval_contract.schemes import OCI
from serval_operator.api.capabilities import CAPABILITIES, DEVICE_ENGINES, DEVICE_REPORT
from serval_operator.config import Configuration, FrontSettings, parse_configuration
from serval_operator.kinds.model_deployment.desired import resolve
from serval_operator.kinds.model_deployment.spec import ModelSpec, parse_spec
from serval_operator.workload.effective_spec import EffectiveSpec

DOCUMENT: dict[str, Any] = yaml.safe_load(
    """
apiVersion: config.serval.dev/v1alpha1
kind: OperatorConfiguration
fetch:
  image: registry.example/serval-operator:1
  maxBytes: 1Gi
  maxEntries: 1000
  resources: {requests: {cpu: 100m, memory: 128Mi}, limits: {memory: 512Mi}}
  cache: {url: "http://serval-cache.serval-system:8600"}
defaults: {runtime: serval}
runtimes:
  - name: serval
    frameworks: [TensorFlow, ONNX]
    images:
      default: registry.example/serval-server:1
      nvidia-gpu: registry.example/serval-server:1-gpu
      # The same image as without a device: what it holds does not matter here.
      spot: registry.example/serval-server:1
      amd-gpu: registry.example/serval-server:1
      nvidia-mig: registry.example/serval-server:1
    env: [{name: TF_CPP_MIN_LOG_LEVEL, value: "1"}]
    graceSeconds: 30
  - name: tensorflow-serving
    frameworks: [TensorFlow]
    images:
      default: tensorflow/serving:2.19.1
      nvidia-gpu: tensorflow/serving:2.19.1
      amd-gpu: tensorflow/serving:2.19.1
      nvidia-mig: tensorflow/serving:2.19.1
    args: [--monitoring_config_file=/models/monitoring.config]
    architectures: [arm64, amd64]
    capabilities: [grpc-predict, rest-predict, metrics, batching]
  - name: onnx
    frameworks: [ONNX]
    images: {default: registry.example/onnx:1}
profiles:
  - name: nvidia-gpu
    resourceName: nvidia.com/gpu
    nodeSelector: {pool: gpu, zone: a}
    tolerations: [{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}]
  - name: gpu-pool
    resourceName: nvidia.com/gpu
    runtimeClassName: nvidia
  - name: cpu
  - name: spot
    resourceName: example.com/spot
    scalable: true
  - name: amd-gpu
    resourceName: amd.com/gpu
  - name: nvidia-mig
    resourceName: nvidia.com/mig-1g.10gb
"""
)
# Serval's own server can do everything, but in these tests no pod is asked for its device, or programs it.
DOCUMENT["runtimes"][0]["capabilities"] = [
    name for name in CAPABILITIES if name not in {DEVICE_REPORT.name, DEVICE_ENGINES.name}
]
CONFIGURATION: Configuration = parse_configuration(DOCUMENT)
FRONT = FrontSettings(
    image="registry.example/serval-server:front",
    image_pull_policy="IfNotPresent",
    resources={"requests": {"cpu": "100m"}, "limits": {"memory": "1Gi"}},
)
FRONTED: Configuration = replace(CONFIGURATION, front=FRONT)
"""The same, where a front may stand before a runtime's server."""


def resolved(
    name: str = "digits", *, image_volumes: bool = False, front: bool = False, **spec: Any
) -> EffectiveSpec:
    """A spec, resolved; fields by keyword, over one small https model."""
    source = {"uri": "https://models.example.com/digits.tar.gz", **spec.pop("model", {})}
    whole = parse_spec(name, {**spec, "model": source})
    return come_to(whole, image_volumes=image_volumes, front=front)


def come_to(spec: ModelSpec, *, image_volumes: bool = False, front: bool = False) -> EffectiveSpec:
    """What a spec comes to, on nodes that mount images as volumes or that do not."""
    found = resolve(spec, FRONTED if front else CONFIGURATION)
    return replace(found, image_volume=image_volumes and spec.model.scheme == OCI.name)
