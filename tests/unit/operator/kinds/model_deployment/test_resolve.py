"""Which runtime, image and nodes a spec comes to."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from serval_operator.config import Configuration
from serval_operator.errors import InvalidSpec
from serval_operator.kinds.model_deployment.desired import resolve
from serval_operator.kinds.model_deployment.spec import ModelSpec, parse_spec
from unit.operator.configuration import CONFIGURATION, FRONT, FRONTED, resolved

pytestmark = pytest.mark.unit

PROFILE_TOLERATION = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
OWN_TOLERATION = {"key": "sku", "operator": "Equal", "value": "gpu"}


def fields_of(record: Any) -> dict[str, Any]:
    """Fields of a dataclass by name, without going into them."""
    return {one.name: getattr(record, one.name) for one in fields(record)}


class TestResolve:
    @pytest.mark.parametrize(
        ("spec", "expected"),
        [
            (
                {},
                {
                    "image": "registry.example/serval-server:1",
                    "accelerator": "",
                    "resource_name": "",
                    "count": 0,
                    "node_selector": {},
                    "tolerations": (),
                    "scalable": False,
                    "when_unavailable": "Auto",
                    "image_volume": False,
                    "runtime_class": "",
                },
            ),
            (
                {"accelerator": {"profile": "spot"}},
                {"scalable": True},
            ),
            (
                {"accelerator": {"resourceName": "example.com/spot", "whenUnavailable": "Refuse"}},
                {"scalable": False, "when_unavailable": "Refuse"},
            ),
            (
                {"accelerator": {"profile": "nvidia-gpu", "count": 2}},
                {
                    "image": "registry.example/serval-server:1-gpu",
                    "accelerator": "nvidia-gpu",
                    "resource_name": "nvidia.com/gpu",
                    "count": 2,
                    "node_selector": {"pool": "gpu", "zone": "a"},
                    "tolerations": (PROFILE_TOLERATION,),
                },
            ),
            (
                {
                    "accelerator": {"profile": "nvidia-gpu"},
                    "scheduling": {
                        "nodeSelector": {"zone": "b", "node": "x"},
                        "tolerations": [OWN_TOLERATION],
                    },
                },
                {
                    "node_selector": {"pool": "gpu", "zone": "b", "node": "x"},
                    "tolerations": (PROFILE_TOLERATION, OWN_TOLERATION),
                },
            ),
            (
                {
                    "accelerator": {"resourceName": "amd.com/gpu", "count": 3},
                    "scheduling": {"nodeSelector": {"pool": "amd"}, "tolerations": [OWN_TOLERATION]},
                },
                {
                    "image": "registry.example/serval-server:1",
                    "accelerator": "amd.com/gpu",
                    "resource_name": "amd.com/gpu",
                    "count": 3,
                    "node_selector": {"pool": "amd"},
                    "tolerations": (OWN_TOLERATION,),
                },
            ),
            (
                {
                    "accelerator": {"profile": "cpu", "count": 4},
                    "scheduling": {"nodeSelector": {"pool": "big"}},
                },
                {
                    "accelerator": "cpu",
                    "resource_name": "",
                    "count": 0,
                    "node_selector": {"pool": "big"},
                },
            ),
            (
                {"runtime": {"name": "tensorflow-serving"}, "accelerator": {"profile": "nvidia-gpu"}},
                {"image": "tensorflow/serving:2.19.1", "count": 1},
            ),
            (
                {
                    "scheduling": {
                        "nodeSelector": {"pool": "big"},
                        "tolerations": [OWN_TOLERATION],
                        "runtimeClassName": "gvisor",
                    }
                },
                {
                    "accelerator": "",
                    "node_selector": {"pool": "big"},
                    "tolerations": (OWN_TOLERATION,),
                    "runtime_class": "gvisor",
                },
            ),
            ({"accelerator": {"profile": "gpu-pool"}}, {"runtime_class": "nvidia"}),
            (
                {
                    "accelerator": {"profile": "gpu-pool"},
                    "scheduling": {"runtimeClassName": "nvidia-cdi"},
                },
                {"runtime_class": "nvidia-cdi"},
            ),
            ({"accelerator": {"resourceName": "nvidia.com/gpu"}}, {"runtime_class": ""}),
        ],
        ids=[
            "CPU",
            "scalable profile",
            "its resource spelled out",
            "profile",
            "profile and more",
            "resource",
            "profile without a resource",
            "runtime",
            "CPU, scheduled",
            "runtime class of a profile",
            "runtime class of the spec",
            "runtime class of no profile",
        ],
    )
    def test_fields(self, spec: dict[str, Any], expected: dict[str, Any]) -> None:
        found = resolved(**spec)
        values = {**fields_of(found), **fields_of(found.placement)}
        assert {field: values[field] for field in expected} == expected

    def test_a_gpu_spelled_out_gets_the_image_for_gpus(self) -> None:
        spelled = resolved(accelerator={"resourceName": "nvidia.com/gpu", "count": 1})
        assert spelled.image == "registry.example/serval-server:1-gpu"

    def test_the_default_runtime_spelled_out_changes_nothing(self) -> None:
        named, default = resolved(runtime={"name": "serval"}), resolved()
        assert named.runtime == default.runtime
        assert replace(named, spec=default.spec) == default

    def test_what_the_runtime_can_may_be_asked_for(self) -> None:
        endpoint = {"maxConcurrentRequests": 3, "rawBytes": "Enabled"}
        assert resolved(endpoint=endpoint).spec.endpoint.max_concurrent_requests == 3

    @pytest.mark.parametrize(
        ("accelerator", "image"),
        [
            ({"profile": "spot-gpu"}, "spot"),
            ({"profile": "nvidia-gpu"}, "gpu"),
            ({"profile": "any-gpu"}, "gpu"),
            ({"resourceName": "nvidia.com/gpu"}, "gpu"),
        ],
    )
    def test_profiles_that_share_a_resource(self, accelerator: dict[str, str], image: str) -> None:
        """A profile without an image, and a resource, take the first image, by name, of another profile."""
        gpu = CONFIGURATION.profiles["nvidia-gpu"]
        named = {name: replace(gpu, name=name) for name in ("any-gpu", "nvidia-gpu", "spot-gpu")}
        images = {"default": "plain", "spot-gpu": "spot", "nvidia-gpu": "gpu"}
        runtime = replace(CONFIGURATION.runtimes["serval"], images=images)
        configuration = replace(CONFIGURATION, profiles=named, runtimes={"serval": runtime})
        spec = parse_spec("digits", {"model": {"uri": "pvc://a/b"}, "accelerator": accelerator})
        assert resolve(spec, configuration).image == image

    def test_takes_the_fetch_settings_along(self) -> None:
        assert resolved().fetch == CONFIGURATION.fetch


class TestFront:
    """What a runtime's server lacks, a front before it has."""

    @pytest.mark.parametrize(
        ("runtime", "endpoint", "fronted", "scores"),
        [
            ("tensorflow-serving", {"rawBytes": "Enabled"}, True, True),
            ("tensorflow-serving", {"maxConcurrentRequests": 1}, True, True),
            ("tensorflow-serving", {"maxConcurrentRequests": 1, "rawBytes": "Disabled"}, True, False),
            ("tensorflow-serving", {"rawBytes": "Disabled"}, False, False),
            ("tensorflow-serving", {}, False, False),
            ("serval", {"rawBytes": "Enabled", "maxConcurrentRequests": 1}, False, True),
            ("serval", {}, False, True),
            ("serval", {"rawBytes": "Disabled"}, False, False),
        ],
    )
    def test_stands_where_it_is_needed(
        self, runtime: str, endpoint: dict[str, Any], fronted: bool, scores: bool
    ) -> None:
        found = resolved(front=True, runtime={"name": runtime}, endpoint=endpoint)
        assert found.front == (FRONT if fronted else None)
        assert found.scores is scores


def configured(default: str, **frameworks: tuple[str, ...]) -> Configuration:
    """Runtimes by name, with the frameworks that they list."""
    plain = CONFIGURATION.runtimes["serval"]
    runtimes = {name: replace(plain, name=name, frameworks=one) for name, one in frameworks.items()}
    return replace(CONFIGURATION, default_runtime=default, runtimes=runtimes)


TENSORFLOW, BOTH, NONE = ("TensorFlow",), ("TensorFlow", "ONNX"), ()


class TestFramework:
    @pytest.mark.parametrize(
        ("configuration", "framework", "chosen"),
        [
            (configured("b", a=BOTH, b=TENSORFLOW), "TensorFlow", "b"),
            (configured("b", a=BOTH, b=TENSORFLOW), "ONNX", "a"),
            (configured("b", a=BOTH, b=BOTH), "ONNX", "b"),
            (configured("b", a=BOTH, b=NONE), "ONNX", "b"),
            (configured("b", d=BOTH, c=BOTH, a=NONE, b=TENSORFLOW), "ONNX", "c"),
        ],
        ids=["default", "the one that can", "default that can", "default that says nothing", "first by name"],
    )
    def test_chooses_a_runtime_where_none_is_named(
        self, configuration: Configuration, framework: str, chosen: str
    ) -> None:
        spec = parse_spec("digits", {"model": {"uri": "pvc://a/b", "framework": framework}})
        assert resolve(spec, configuration).runtime.name == chosen

    def test_one_that_is_named_is_never_replaced(self) -> None:
        model = {"uri": "pvc://a/b", "framework": "ONNX"}
        spec = parse_spec("digits", {"model": model, "runtime": {"name": "b"}})
        with pytest.raises(InvalidSpec) as caught:
            resolve(spec, configured("b", a=BOTH, b=TENSORFLOW))
        message = "runtime `b` serves TensorFlow and not ONNX; runtimes that serve it: a"
        assert (caught.value.reason, caught.value.message) == ("UnsupportedSpec", message)

    @pytest.mark.parametrize(
        ("configuration", "cure"),
        [
            (configured("b", b=TENSORFLOW), "an administrator must add one that does"),
            (configured("b", a=NONE, b=TENSORFLOW), "runtimes that serve it: a"),
        ],
        ids=["nobody serves it", "one may, and must be named"],
    )
    def test_none_can_be_chosen(self, configuration: Configuration, cure: str) -> None:
        spec = parse_spec("digits", {"model": {"uri": "pvc://a/b", "framework": "ONNX"}})
        with pytest.raises(InvalidSpec) as caught:
            resolve(spec, configuration)
        message = f"the default runtime `b` serves TensorFlow and not ONNX; {cure}"
        assert (caught.value.reason, caught.value.message) == ("UnsupportedSpec", message)


GPU, SPOT = {"profile": "nvidia-gpu"}, {"profile": "spot"}
GPU_BY_NAME, RARE = {"resourceName": "nvidia.com/gpu"}, {"resourceName": "example.com/rare"}
ADD = "an administrator must add"


def listing(**images: Any) -> Configuration:
    """Runtimes of both frameworks by name, each with the images that it lists beside the default one."""
    plain = replace(CONFIGURATION.runtimes["serval"], frameworks=BOTH)
    runtimes = {
        name: replace(plain, name=name, images={"default": "plain", **listed})
        for name, listed in images.items()
    }
    return replace(CONFIGURATION, default_runtime="a", runtimes=runtimes)


def asking(accelerator: dict[str, str], framework: str) -> ModelSpec:
    """A spec of the default runtime."""
    model = {"uri": "pvc://a/b", "framework": framework}
    return parse_spec("digits", {"model": model, "accelerator": accelerator})


class TestImageOfADevice:
    """Pods that hold a device get an image that is listed for it, or there are none."""

    @pytest.mark.parametrize(
        ("accelerator", "framework", "image"),
        [
            (GPU, "TensorFlow", "tf"),
            (GPU, "ONNX", "onnx"),
            (GPU_BY_NAME, "ONNX", "onnx"),
            ({"profile": "gpu-pool"}, "ONNX", "onnx"),
            ({"profile": "cpu"}, "ONNX", "plain"),
        ],
        ids=["profile", "other framework", "resource", "profile of the same resource", "no device"],
    )
    def test_by_framework(self, accelerator: dict[str, str], framework: str, image: str) -> None:
        configuration = listing(a={"nvidia-gpu": {"TensorFlow": "tf", "ONNX": "onnx"}})
        assert resolve(asking(accelerator, framework), configuration).image == image

    @pytest.mark.parametrize(
        ("accelerator", "runtimes", "device", "cure"),
        [
            (GPU, {"a": {}}, "nvidia-gpu", f"{ADD} one under `images.nvidia-gpu` of the runtime"),
            (
                GPU,
                {"a": {"nvidia-gpu": {"TensorFlow": "tf"}, "spot": "spot"}},
                "nvidia-gpu",
                f"{ADD} one under `images.nvidia-gpu` of the runtime",
            ),
            (
                GPU_BY_NAME,
                {"a": {}},
                "nvidia.com/gpu",
                f"{ADD} one under `images.gpu-pool` of the runtime",
            ),
            (
                RARE,
                {"a": {"nvidia-gpu": "gpu"}},
                "example.com/rare",
                f"{ADD} a profile of that resource, and an image under its name",
            ),
            (
                SPOT,
                {"a": {}, "c": {"spot": "x"}, "b": {"spot": {"ONNX": "x"}}, "d": {"nvidia-gpu": "x"}},
                "spot",
                "runtimes that have one: b, c",
            ),
        ],
        ids=["none", "of another framework", "resource", "resource of no profile", "other runtimes"],
    )
    def test_is_never_the_one_for_cpus(
        self, accelerator: dict[str, str], runtimes: dict[str, Any], device: str, cure: str
    ) -> None:
        with pytest.raises(InvalidSpec) as caught:
            resolve(asking(accelerator, "ONNX"), listing(**runtimes))
        what = f"runtime `a` has no image for ONNX on `{device}`, and would compute on the CPU"
        assert (caught.value.reason, caught.value.message) == ("UnsupportedSpec", f"{what}; {cure}")

    def test_is_not_the_default_one_of_a_profile_of_that_name(self) -> None:
        profile = replace(
            CONFIGURATION.profiles["nvidia-gpu"], name="default", resource_name="example.com/rare"
        )
        listed = listing(a={})
        configuration = replace(listed, profiles={**listed.profiles, "default": profile})
        with pytest.raises(
            InvalidSpec, match=f"{ADD} a profile of that resource, and an image under its name"
        ):
            resolve(asking({"profile": "default"}, "ONNX"), configuration)


HAS = "the operator's configuration has"


class TestErrors:
    @pytest.mark.parametrize(
        ("spec", "reason", "message"),
        [
            (
                {"runtime": {"name": "moon"}},
                "UnknownRuntime",
                f"there is no runtime `moon`; {HAS}: onnx, serval, tensorflow-serving",
            ),
            (
                {"accelerator": {"profile": "moon"}},
                "UnknownProfile",
                (
                    f"there is no accelerator profile `moon`; {HAS}: amd-gpu, cpu, gpu-pool, nvidia-gpu, "
                    "nvidia-mig, spot"
                ),
            ),
            (
                {"runtime": {"name": "onnx"}},
                "UnsupportedSpec",
                (
                    "runtime `onnx` serves ONNX and not TensorFlow; runtimes that serve it: serval, "
                    "tensorflow-serving"
                ),
            ),
            (
                {"runtime": {"name": "tensorflow-serving"}, "endpoint": {"rawBytes": "Enabled"}},
                "UnsupportedSpec",
                (
                    "`spec.endpoint.rawBytes` needs what runtime `tensorflow-serving` lacks; "
                    "runtimes that have it: serval"
                ),
            ),
            (
                {"runtime": {"name": "tensorflow-serving"}, "endpoint": {"maxConcurrentRequests": 1}},
                "UnsupportedSpec",
                (
                    "`spec.endpoint.maxConcurrentRequests` needs what runtime `tensorflow-serving` lacks; "
                    "runtimes that have it: serval"
                ),
            ),
        ],
        ids=["runtime", "profile", "framework", "raw bytes", "concurrency"],
    )
    def test_message(self, spec: dict[str, Any], reason: str, message: str) -> None:
        with pytest.raises(InvalidSpec) as caught:
            resolved(**spec)
        assert (caught.value.reason, caught.value.message) == (reason, message)

    def test_a_front_needs_a_whole_server_behind_it(self) -> None:
        half = replace(CONFIGURATION.runtimes["tensorflow-serving"], capabilities=frozenset({"grpc-predict"}))
        configuration = replace(FRONTED, runtimes={**FRONTED.runtimes, half.name: half})
        asks = {"runtime": {"name": half.name}, "endpoint": {"rawBytes": "Enabled"}}
        with pytest.raises(InvalidSpec, match="needs what runtime `tensorflow-serving` lacks"):
            resolve(parse_spec("digits", {"model": {"uri": "pvc://a/b"}, **asks}), configuration)

    def test_a_front_adds_no_batching(self) -> None:
        plain = FRONTED.runtimes["tensorflow-serving"]
        poor = replace(plain, capabilities=plain.capabilities - {"batching"})
        configuration = replace(FRONTED, runtimes={**FRONTED.runtimes, poor.name: poor})
        asks = {
            "runtime": {"name": poor.name, "batching": {"maxBatchSize": 8}},
            "endpoint": {"rawBytes": "Enabled"},
        }
        with pytest.raises(InvalidSpec) as caught:
            resolve(parse_spec("digits", {"model": {"uri": "pvc://a/b"}, **asks}), configuration)
        message = (
            "`spec.runtime.batching` needs what runtime `tensorflow-serving` lacks; "
            "runtimes that have it: serval"
        )
        assert (caught.value.reason, caught.value.message) == ("UnsupportedSpec", message)

    def test_batching_that_the_runtime_has_needs_no_front(self) -> None:
        spec = {"runtime": {"name": "tensorflow-serving", "batching": {"maxBatchSize": 8}}}
        assert resolved(front=True, **spec).front is None

    def test_nobody_has_it(self) -> None:
        poor = replace(
            CONFIGURATION,
            runtimes={
                name: replace(runtime, capabilities=frozenset())
                for name, runtime in CONFIGURATION.runtimes.items()
            },
        )
        spec = parse_spec("digits", {"model": {"uri": "pvc://a/b"}, "endpoint": {"rawBytes": "Enabled"}})
        with pytest.raises(InvalidSpec, match=r"lacks; no configured runtime has it$"):
            resolve(spec, poor)

    @pytest.mark.parametrize("endpoint", [{}, {"rawBytes": "Disabled"}])
    def test_what_is_not_asked_for_is_not_needed(self, endpoint: dict[str, str]) -> None:
        assert resolved(runtime={"name": "tensorflow-serving"}, endpoint=endpoint).runtime.args

    def test_a_runtime_that_names_no_framework_serves_all(self) -> None:
        any_framework = replace(CONFIGURATION.runtimes["onnx"], frameworks=())
        configuration = replace(CONFIGURATION, runtimes={"onnx": any_framework}, default_runtime="onnx")
        spec = parse_spec("digits", {"model": {"uri": "pvc://a/b"}})
        assert resolve(spec, configuration).runtime == any_framework


class TestPriorities:
    ALLOWED = replace(CONFIGURATION, allowed_priority_classes=("batch", "serving-high"))

    @pytest.mark.parametrize(
        ("configuration", "name"),
        [(CONFIGURATION, "anything"), (ALLOWED, "batch"), (ALLOWED, "serving-high"), (ALLOWED, None)],
        ids=["no list", "listed", "listed too", "none asked for"],
    )
    def test_allowed(self, configuration: Configuration, name: str | None) -> None:
        scheduling = {"priorityClassName": name} if name else {}
        spec = parse_spec("digits", {"model": {"uri": "pvc://a/b"}, "scheduling": scheduling})
        assert resolve(spec, configuration).spec.scheduling.priority_class_name == (name or "")

    def test_another_one_is_refused_with_the_allowed_ones(self) -> None:
        scheduling = {"priorityClassName": "urgent"}
        spec = parse_spec("digits", {"model": {"uri": "pvc://a/b"}, "scheduling": scheduling})
        with pytest.raises(InvalidSpec) as caught:
            resolve(spec, self.ALLOWED)
        message = "`spec.scheduling.priorityClassName` must not be urgent; allowed are: batch, serving-high"
        assert (caught.value.reason, caught.value.message) == ("UnsupportedSpec", message)
