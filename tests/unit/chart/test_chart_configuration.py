"""The operator's configuration, read by the operator's own reader, and the values it comes from."""

from __future__ import annotations

import pytest

from serval_operator.api.capabilities import CAPABILITIES
from serval_operator.config import FrontSettings
from serval_operator.config_conversion import ArtifactStore, DeviceSettings
from unit.chart.rendering import Chart, Manifest, configuration


def test_default_configuration(rendered: list[Manifest]) -> None:
    read = configuration(rendered)
    assert read.default_runtime == "tensorflow-serving"
    assert (read.fetch.max_bytes, read.fetch.max_entries, read.fetch.cache_url) == (20 * 2**30, 10_000, "")
    official = read.runtimes["tensorflow-serving"]
    assert official.default_image == "tensorflow/serving:2.19.1"
    for profile in ("nvidia-gpu", "aks-nvidia-gpu"):
        assert official.image(profile, "TensorFlow") == f"{official.default_image}-gpu"
    own = read.runtimes["serval"]
    # Its default image computes on CPUs, so no profile with a device may have it unless values say so.
    assert own.images == {"default": "serval-server:0.2.0"}
    assert (official.frameworks, own.frameworks) == (("TensorFlow",), ("TensorFlow", "ONNX"))
    assert (official.architectures, own.architectures) == (("amd64",), ())
    assert read.allowed_priority_classes == ()
    assert official.capabilities == {"grpc-predict", "rest-predict", "metrics", "batching"}
    assert own.capabilities == CAPABILITIES.keys()
    assert read.front == FrontSettings(
        image="serval-server:0.2.0",
        image_pull_policy="IfNotPresent",
        resources={"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}},
    )


def test_default_profiles(rendered: list[Manifest]) -> None:
    profiles = configuration(rendered).profiles
    assert {profile.runtime_class for profile in profiles.values()} == {""}
    assert {name: profile.resource_name for name, profile in profiles.items()} == {
        "cpu": "",
        "nvidia-gpu": "nvidia.com/gpu",
        "aks-nvidia-gpu": "nvidia.com/gpu",
        "amd-gpu": "amd.com/gpu",
    }
    aks = profiles["aks-nvidia-gpu"]
    assert aks.node_selector == {"kubernetes.azure.com/accelerator": "nvidia"}
    assert {one["key"] for one in aks.tolerations} == {
        "sku",
        "nvidia.com/gpu",
        "kubernetes.azure.com/scalesetpriority",
    }


def test_configuration_follows_the_values(chart: Chart) -> None:
    read = configuration(
        chart.render(
            {
                "image": {"registry": "mirror", "pullPolicy": "Always"},
                "serverImage": {"tag": "v3", "pullPolicy": "Never"},
                "defaultRuntime": "serval",
                "fetch": {
                    "maxBytes": 5_000_000_000,
                    "maxEntries": 1_000_000,
                    "resources": {"limits": {"cpu": 1}},
                    "cache": {"url": "http://serval-cache:8600"},
                },
                "runtimes": {
                    "tensorflow-serving": None,
                    "serval": {
                        "images": {
                            "fpga": "mirror/serval-server:fpga",
                            "nvidia-gpu": {"TensorFlow": "mirror/serval-server:gpu"},
                            "aks-nvidia-gpu": {"ONNX": "mirror/serval-server:onnx-gpu"},
                        },
                        "env": [{"name": "A", "value": "1"}],
                        "architectures": ["arm64", "amd64"],
                        "graceSeconds": 5,
                    },
                },
                "profiles": {
                    "amd-gpu": None,
                    "fpga": {"resourceName": "amd.com/xilinx_u250", "scalable": True},
                    "nvidia-gpu": {"runtimeClassName": "nvidia"},
                },
                "scheduling": {"allowedPriorityClasses": ["serving-high", "batch"]},
            }
        )
    )
    assert set(read.runtimes) == {"serval"}
    own = read.runtimes["serval"]
    assert own.images == {
        "default": "mirror/serval-server:v3",
        "fpga": "mirror/serval-server:fpga",
        "nvidia-gpu": {"TensorFlow": "mirror/serval-server:gpu"},
        "aks-nvidia-gpu": {"ONNX": "mirror/serval-server:onnx-gpu"},
    }
    assert (own.image_pull_policy, own.env, own.grace_seconds) == ("Never", (("A", "1"),), 5)
    assert own.architectures == ("amd64", "arm64")
    assert read.profiles["nvidia-gpu"].runtime_class == "nvidia"
    assert read.allowed_priority_classes == ("batch", "serving-high")
    assert set(read.profiles) == {"cpu", "nvidia-gpu", "aks-nvidia-gpu", "fpga"}
    assert read.profiles["fpga"].scalable
    assert read.front
    assert (read.front.image, read.front.image_pull_policy) == ("mirror/serval-server:v3", "Never")
    assert read.fetch.image == "mirror/serval-operator:0.2.0"
    assert read.fetch.image_pull_policy == "Always"
    assert read.fetch.cache_url == "http://serval-cache:8600"
    assert (read.fetch.max_bytes, read.fetch.max_entries) == (5_000_000_000, 1_000_000)


def test_an_image_for_a_framework_that_the_runtime_lacks_is_not_used(chart: Chart) -> None:
    images = {"default": "i", "nvidia-gpu": {"TensorFlow": "tf", "ONNX": "onnx"}}
    read = configuration(chart.render({"runtimes": {"x": {"images": images, "frameworks": ["ONNX"]}}}))
    assert read.runtimes["x"].images == images


def test_a_front_of_ones_own(chart: Chart) -> None:
    own = {"image": "mirror/front:1", "imagePullPolicy": "Always", "resources": {"limits": {"memory": "2Gi"}}}
    read = configuration(chart.render({"front": own}))
    assert read.front
    assert (read.front.image, read.front.image_pull_policy) == ("mirror/front:1", "Always")
    assert read.front.resources["limits"] == {"memory": "2Gi"}


@pytest.mark.parametrize("front", [None, {"enabled": False}])
def test_no_front(chart: Chart, front: Manifest | None) -> None:
    assert configuration(chart.render({"front": front})).front is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"front": {"tag": "1"}}, "additional properties 'tag' not allowed"),
        ({"imag": {}}, "additional properties 'imag' not allowed"),
        ({"operator": {"loglevel": "info"}}, "additional properties 'loglevel' not allowed"),
        ({"operator": {"logLevel": "loud"}}, "/operator/logLevel"),
        ({"image": {"digest": "sha256:1"}}, "/image/digest"),
        ({"watchNamespaces": "vision"}, "/watchNamespaces"),
        ({"watchNamespaces": ["a,b"]}, "/watchNamespaces/0"),
        ({"runtimes": {"x": {"args": []}}}, "missing property 'images'"),
        (
            {"runtimes": {"x": {"images": {"default": "i"}, "capabilities": ["fly"]}}},
            "/runtimes/x/capabilities/0",
        ),
        ({"profiles": {"Big GPU": {}}}, "Big GPU"),
        ({"fetch": {"maxBytes": "20GB"}}, "/fetch/maxBytes"),
        ({"fetch": {"cache": {"url": "cache:8600"}}}, "/fetch/cache/url"),
        (
            {"runtimes": {"x": {"images": {"default": "i"}, "frameworks": ["Caffe"]}}},
            "/runtimes/x/frameworks/0",
        ),
        (
            {"runtimes": {"x": {"images": {"default": "i"}, "architectures": ["linux/amd64"]}}},
            "/runtimes/x/architectures/0",
        ),
        ({"runtimes": {"x": {"images": {"default": {"ONNX": "i"}}}}}, "/runtimes/x/images/default"),
        ({"runtimes": {"x": {"images": {"default": "i", "cpu": {"Caffe": "i"}}}}}, "/runtimes/x/images/cpu"),
        ({"runtimes": {"serval": {"images": {"nvidia-gpu": ""}}}}, "/runtimes/serval/images/nvidia-gpu"),
        ({"profiles": {"x": {"runtimeClassName": "NVIDIA"}}}, "/profiles/x/runtimeClassName"),
        ({"scheduling": {"allowedPriorityClasses": ["system-x"]}}, "/scheduling/allowedPriorityClasses/0"),
        ({"scheduling": {"priorityClasses": []}}, "additional properties 'priorityClasses' not allowed"),
        ({"defaultRuntime": "triton"}, 'there is no runtime "triton"'),
        ({"profiles": {"nvidia-gpu": None}}, "images.nvidia-gpu: there is no profile of this name"),
        ({"metrics": {"serviceMonitor": {"enabled": True}}}, "needs metrics.service.enabled"),
    ],
)
def test_refuses_wrong_values(chart: Chart, values: Manifest, message: str) -> None:
    assert message in chart.refusal(values)


def test_conversion_and_devices_follow_the_values(chart: Chart, rendered: list[Manifest]) -> None:
    default = configuration(rendered).conversion
    assert default is not None
    assert (default.image, default.push_image) == ("serval-converter:0.2.0", "serval-operator:0.2.0")
    assert default.store is None
    read = configuration(
        chart.render(
            {
                "image": {"registry": "mirror"},
                "converterImage": {"tag": "v3", "pullPolicy": "Always"},
                "conversion": {"artifacts": {"repositoryPrefix": "mirror/serval", "pushSecret": "push"}},
                "profiles": {
                    "fpga": {
                        "resourceName": "amd.com/xilinx_u250",
                        "engine": "vart",
                        "engineOptions": {"dpu": "DPUCADF8H"},
                        "lockDir": "/locks",
                    }
                },
            }
        )
    )
    assert read.conversion is not None
    assert (read.conversion.image, read.conversion.image_pull_policy) == (
        "mirror/serval-converter:v3",
        "Always",
    )
    assert read.conversion.store == ArtifactStore(prefix="mirror/serval", push_secret="push")
    assert read.profiles["fpga"].device == DeviceSettings("vart", {"dpu": "DPUCADF8H"}, "/locks")


@pytest.mark.parametrize(
    "values",
    [
        {"profiles": {"fpga": {"resourceName": "a.b/c", "engine": "catapult"}}},
        {"conversion": {"artifacts": {"repositoryPrefix": "https://mirror"}}},
        {"conversion": {"artifacts": {"registry": "mirror"}}},
    ],
)
def test_values_of_conversion_and_devices_that_are_refused(chart: Chart, values: Manifest) -> None:
    assert chart.refusal(values)
