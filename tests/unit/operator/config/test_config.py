"""The configuration file: what it means, and one clear line with the place for each mistake."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from serval_operator.config import (
    Configuration,
    FetchSettings,
    FrontSettings,
    Profile,
    Runtime,
    load_configuration,
    parse_configuration,
)
from serval_operator.errors import ConfigurationError

pytestmark = pytest.mark.unit

FULL = """
apiVersion: config.serval.dev/v1alpha1
kind: OperatorConfiguration
fetch:
  image: registry.example/serval-operator:1
  imagePullPolicy: Always
  maxBytes: 20Gi
  maxEntries: 10000
  resources:
    requests: {cpu: 0.5, memory: 128Mi}
    limits: {cpu: 1}
  cache: {url: "http://serval-cache.serval-system:8600"}
front:
  image: registry.example/serval-server:1
  imagePullPolicy: Never
  resources: {requests: {cpu: 0.1}, limits: {memory: 1Gi}}
defaults: {runtime: serval}
runtimes:
  - name: serval
    frameworks: [TensorFlow]
    architectures: [arm64, amd64, arm64]
    images: {default: registry.example/serval-server:1, nvidia-gpu: registry.example/serval-server:1-gpu}
    imagePullPolicy: Never
    args: [--a=1]
    env: [{name: TF_CPP_MIN_LOG_LEVEL, value: "1"}, {name: EMPTY}]
    capabilities: [grpc-predict, rest-predict, raw-score, metrics, concurrency-limit]
    graceSeconds: 30
  - name: tensorflow-serving
    images: {default: tensorflow/serving:2.19.1}
profiles:
  - name: nvidia-gpu
    description: NVIDIA GPU
    resourceName: nvidia.com/gpu
    nodeSelector: {pool: gpu}
    tolerations:
      - {key: sku, operator: Equal, value: gpu, effect: NoSchedule}
      - {operator: Exists, effect: NoExecute, tolerationSeconds: 30}
    runtimeClassName: nvidia
    scalable: true
  - name: cpu
scheduling:
  allowedPriorityClasses: [serving-high, batch.v2]
"""


def document(change: Callable[[Any], object] = lambda _: None) -> Any:
    """The full document, changed."""
    value = yaml.safe_load(FULL)
    change(value)
    return value


class TestGood:
    def test_a_full_file(self, tmp_path: Path) -> None:
        path = tmp_path / "config.yaml"
        path.write_text(FULL)
        serval = Runtime(
            name="serval",
            frameworks=("TensorFlow",),
            images={
                "default": "registry.example/serval-server:1",
                "nvidia-gpu": "registry.example/serval-server:1-gpu",
            },
            image_pull_policy="Never",
            args=("--a=1",),
            env=(("TF_CPP_MIN_LOG_LEVEL", "1"), ("EMPTY", "")),
            capabilities=frozenset(
                {"grpc-predict", "rest-predict", "raw-score", "metrics", "concurrency-limit"}
            ),
            grace_seconds=30,
            architectures=("amd64", "arm64"),
        )
        official = Runtime(
            name="tensorflow-serving",
            frameworks=(),
            images={"default": "tensorflow/serving:2.19.1"},
            image_pull_policy="IfNotPresent",
            args=(),
            env=(),
            capabilities=frozenset(),
            grace_seconds=60,
        )
        gpu = Profile(
            name="nvidia-gpu",
            resource_name="nvidia.com/gpu",
            node_selector={"pool": "gpu"},
            tolerations=(
                {"key": "sku", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"},
                {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30},
            ),
            scalable=True,
            runtime_class="nvidia",
        )
        assert load_configuration(path) == Configuration(
            fetch=FetchSettings(
                image="registry.example/serval-operator:1",
                image_pull_policy="Always",
                max_bytes=20 * 2**30,
                max_entries=10_000,
                resources={"requests": {"cpu": "0.5", "memory": "128Mi"}, "limits": {"cpu": "1"}},
                cache_url="http://serval-cache.serval-system:8600",
            ),
            default_runtime="serval",
            runtimes={"serval": serval, "tensorflow-serving": official},
            profiles={"nvidia-gpu": gpu, "cpu": Profile("cpu", "", {}, (), False)},
            front=FrontSettings(
                image="registry.example/serval-server:1",
                image_pull_policy="Never",
                resources={"requests": {"cpu": "0.1"}, "limits": {"memory": "1Gi"}},
            ),
            allowed_priority_classes=("batch.v2", "serving-high"),
        )

    @pytest.mark.parametrize(
        ("profile", "image"),
        [("nvidia-gpu", "registry.example/serval-server:1-gpu"), ("cpu", ""), ("", ""), ("default", "")],
    )
    def test_image_by_profile(self, profile: str, image: str) -> None:
        """The default image is listed for no profile."""
        runtime = parse_configuration(document()).runtimes["serval"]
        assert runtime.image(profile, "TensorFlow") == image
        assert runtime.default_image == "registry.example/serval-server:1"

    @pytest.mark.parametrize(("framework", "image"), [("TensorFlow", "tf"), ("ONNX", "onnx"), ("Other", "")])
    @pytest.mark.parametrize("frameworks", [["TensorFlow", "ONNX"], ["ONNX"], []])
    def test_image_by_framework(self, frameworks: list[str], framework: str, image: str) -> None:
        def change(one: Any) -> None:
            one["runtimes"][0]["frameworks"] = frameworks
            one["runtimes"][0]["images"]["nvidia-gpu"] = {"TensorFlow": "tf", "ONNX": "onnx"}

        runtime = parse_configuration(document(change)).runtimes["serval"]
        assert runtime.image("nvidia-gpu", framework) == image
        assert runtime.image("cpu", framework) == ""

    @pytest.mark.parametrize(
        ("text", "size"),
        [
            (1, 1),
            ("1000", 1000),
            ("1k", 10**3),
            ("2M", 2 * 10**6),
            ("2G", 2 * 10**9),
            ("3T", 3 * 10**12),
            ("2Ki", 2**11),
            ("3Mi", 3 * 2**20),
            ("1.5Gi", 3 * 2**29),
            ("1Ti", 2**40),
            (5e9, 5 * 10**9),
        ],
    )
    def test_sizes(self, text: object, size: int) -> None:
        config = parse_configuration(document(lambda one: one["fetch"].update(maxBytes=text)))
        assert config.fetch.max_bytes == size

    def test_the_least_numbers(self) -> None:
        def change(one: Any) -> None:
            one["fetch"].update(maxBytes=1, maxEntries=1)
            one["runtimes"][0]["graceSeconds"] = 1

        config = parse_configuration(document(change))
        assert (config.fetch.max_bytes, config.fetch.max_entries) == (1, 1)
        assert config.runtimes["serval"].grace_seconds == 1

    @pytest.mark.parametrize("cache", [None, {}, {"url": ""}])
    def test_no_cache(self, cache: object) -> None:
        config = parse_configuration(document(lambda one: one["fetch"].update(cache=cache)))
        assert config.fetch.cache_url == ""

    @pytest.mark.parametrize("change", [lambda one: one.pop("front"), lambda one: one.update(front=None)])
    def test_no_front(self, change: Callable[[Any], object]) -> None:
        assert parse_configuration(document(change)).front is None

    def test_the_least_front(self) -> None:
        least = parse_configuration(document(lambda one: one.update(front={"image": "x"}))).front
        assert least == FrontSettings(image="x", image_pull_policy="IfNotPresent", resources={})

    @pytest.mark.parametrize("scheduling", [None, {}, {"allowedPriorityClasses": []}])
    def test_no_list_of_priority_classes(self, scheduling: object) -> None:
        config = parse_configuration(document(lambda one: one.update(scheduling=scheduling)))
        assert config.allowed_priority_classes == ()

    @pytest.mark.parametrize("url", ["http://cache", "http://10.0.0.8:80"])
    def test_addresses_of_a_cache(self, url: str) -> None:
        config = parse_configuration(document(lambda one: one["fetch"].update(cache={"url": url})))
        assert config.fetch.cache_url == url


def put(*path: str | int, value: Any) -> Callable[[Any], None]:
    """Set a place of the document."""

    def change(root: Any) -> None:
        place = root
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value

    return change


def drop(*path: str | int) -> Callable[[Any], None]:
    """Remove a place of the document."""

    def change(root: Any) -> None:
        place = root
        for step in path[:-1]:
            place = place[step]
        del place[path[-1]]

    return change


RUNTIME, PROFILE = ("runtimes", 0), ("profiles", 0)
TOLERATION = (*PROFILE, "tolerations", 0)
TEXT = "must be a text"
BAD: list[tuple[Callable[[Any], None], str]] = [
    # the document
    (
        put("apiVersion", value="v1"),
        "the document: must be of apiVersion config.serval.dev/v1alpha1 and kind",
    ),
    (put("kind", value="Config"), "the document: must be of apiVersion config.serval.dev/v1alpha1 and kind"),
    (drop("kind"), f"kind: {TEXT}"),
    (put("runtime", value=[]), "runtime: unknown field; known are apiVersion, kind, fetch, front, defaults,"),
    (put("defaults", value="serval"), "defaults: must be a mapping"),
    (put("defaults", value={}), f"defaults.runtime: {TEXT}"),
    (put("defaults", "runtime", value="none"), "defaults.runtime: must be one of serval, tensorflow-serving"),
    (put("defaults", "profile", value="cpu"), "defaults.profile: unknown field; known are runtime"),
    # fetch
    (drop("fetch"), f"fetch.image: {TEXT}"),
    (put("fetch", "image", value=""), f"fetch.image: {TEXT}"),
    (put("fetch", "imagePullPolicy", value="Often"), "fetch.imagePullPolicy: must be one of Always,"),
    (put("fetch", "maxBytes", value="20GB"), "fetch.maxBytes: must be a size such as 20Gi"),
    (put("fetch", "maxBytes", value="0.1"), "fetch.maxBytes: must be a size such as 20Gi"),
    (put("fetch", "maxBytes", value=True), "fetch.maxBytes: must be a size such as 20Gi"),
    (put("fetch", "maxBytes", value=-5), "fetch.maxBytes: must be a size such as 20Gi"),
    (drop("fetch", "maxBytes"), "fetch.maxBytes: must be a size such as 20Gi"),
    (drop("fetch", "maxEntries"), "fetch.maxEntries: must be a whole number of at least 1"),
    (put("fetch", "maxEntries", value=0), "fetch.maxEntries: must be a whole number of at least 1"),
    (put("fetch", "maxEntries", value=True), "fetch.maxEntries: must be a whole number of at least 1"),
    (put("fetch", "resources", value=[1]), "fetch.resources: must be a mapping"),
    (put("fetch", "resources", "cpu", value=1), "fetch.resources.cpu: unknown field; known are requests,"),
    (
        put("fetch", "resources", "limits", "cpu", value="much"),
        "fetch.resources.limits.cpu: must be a quantity such as 500m or 4Gi",
    ),
    (put("fetch", "uri", value="x"), "fetch.uri: unknown field"),
    (put("fetch", "cache", value="http://cache"), "fetch.cache: must be a mapping"),
    (put("fetch", "cache", value={"port": 1}), "fetch.cache.port: unknown field; known are url"),
    (put("fetch", "cache", value={"url": 1}), f"fetch.cache.url: {TEXT}"),
    *(
        (put("fetch", "cache", value={"url": url}), "fetch.cache.url: must be an address such as http://")
        for url in ("https://cache", "cache:8600", "http://cache/", "http://u@cache", "http://cache:x")
    ),
    # front
    (put("front", value={}), f"front.image: {TEXT}"),
    (put("front", value="x"), "front: must be a mapping"),
    (put("front", "imagePullPolicy", value=1), f"front.imagePullPolicy: {TEXT}"),
    (put("front", "resources", "limits", "memory", value="much"), "front.resources.limits.memory: must be a"),
    (
        put("front", "args", value=[]),
        "front.args: unknown field; known are image, imagePullPolicy, resources",
    ),
    # runtimes
    (put("runtimes", value={}), "runtimes: must have at least one entry"),
    (put("runtimes", value={"serval": {}}), "runtimes: must be a list"),
    (put("runtimes", 1, value="serval"), "runtimes[1]: must be a mapping"),
    (put("runtimes", 1, "name", value="serval"), "runtimes: `serval` is there twice"),
    (drop(*RUNTIME, "name"), f"runtimes[0].name: {TEXT}"),
    (put(*RUNTIME, "name", value="Ser_val"), "runtimes[0].name: must be at most 63 characters of a-z"),
    (put(*RUNTIME, "image", value="x"), "runtimes[0].image: unknown field; known are name, frameworks,"),
    (drop(*RUNTIME, "images"), f"runtimes[0].images.default: {TEXT}"),
    (drop(*RUNTIME, "images", "default"), f"runtimes[0].images.default: {TEXT}"),
    (put(*RUNTIME, "images", "default", value={"TensorFlow": "x"}), f"runtimes[0].images.default: {TEXT}"),
    (put(*RUNTIME, "images", "nvidia-gpu", value=""), f"runtimes[0].images.nvidia-gpu: {TEXT}"),
    (
        put(*RUNTIME, "images", "nvidia-gpu", value={"TensorFlow": 1}),
        f"runtimes[0].images.nvidia-gpu.TensorFlow: {TEXT}",
    ),
    (
        put(*RUNTIME, "images", "nvidia-gpu", value={"Caffe": "x"}),
        "runtimes[0].images.nvidia-gpu.Caffe: unknown field; known are TensorFlow, ONNX",
    ),
    (put(*RUNTIME, "images", "default", value=None), f"runtimes[0].images.default: {TEXT}"),
    (put(*RUNTIME, "images", "moon", value="x"), "runtimes.serval.images: no such profile: moon"),
    (put(*RUNTIME, "imagePullPolicy", value=""), "runtimes[0].imagePullPolicy: must be one of Always,"),
    (put(*RUNTIME, "args", value="--a"), "runtimes[0].args: must be a list of texts"),
    (put(*RUNTIME, "args", value=[1]), "runtimes[0].args: must be a list of texts"),
    (put(*RUNTIME, "frameworks", value=[None]), "runtimes[0].frameworks: must be a list of texts"),
    (put(*RUNTIME, "env", value={"A": "1"}), "runtimes[0].env: must be a list"),
    (put(*RUNTIME, "env", 0, value={"value": "1"}), f"runtimes[0].env[0].name: {TEXT}"),
    (
        put(*RUNTIME, "env", 0, "name", value="1A=B"),
        "runtimes[0].env[0].name: must be letters, digits and '_', and not start with a digit",
    ),
    (put(*RUNTIME, "env", 0, "value", value=1), f"runtimes[0].env[0].value: {TEXT}"),
    (put(*RUNTIME, "env", 0, "valueFrom", value={}), "runtimes[0].env[0].valueFrom: unknown field"),
    (put(*RUNTIME, "capabilities", value=["fly"]), "runtimes[0].capabilities: must be some of batching, con"),
    *(
        (put(*RUNTIME, "architectures", value=value), f"runtimes[0].architectures: {words}")
        for value, words in (
            ("amd64", "must be a list of texts"),
            (["linux/amd64"], "must be values of the label kubernetes.io/arch"),
            ([""], "must be values of the label kubernetes.io/arch"),
        )
    ),
    (put(*RUNTIME, "graceSeconds", value=0), "runtimes[0].graceSeconds: must be a whole number of at least"),
    (put(*RUNTIME, "graceSeconds", value="30"), "runtimes[0].graceSeconds: must be a whole number of at"),
    # profiles
    (drop("profiles"), "profiles: must have at least one entry"),
    (put("profiles", 1, "name", value="nvidia-gpu"), "profiles: `nvidia-gpu` is there twice"),
    (put(*PROFILE, "resourceName", value=None), f"profiles[0].resourceName: {TEXT}"),
    (put(*PROFILE, "resourceName", value="gpu"), "profiles[0].resourceName: must be the name of an extended"),
    (put(*PROFILE, "nodeSelector", "spot", value=True), f"profiles[0].nodeSelector.spot: {TEXT}"),
    (put(*PROFILE, "nodeSelector", value="pool=gpu"), "profiles[0].nodeSelector: must be a mapping"),
    (put(*PROFILE, "runtimeClassName", value=True), f"profiles[0].runtimeClassName: {TEXT}"),
    (
        put(*PROFILE, "runtimeClassName", value="NVIDIA"),
        "profiles[0].runtimeClassName: must be the name of a RuntimeClass",
    ),
    (put(*PROFILE, "scalable", value="yes"), "profiles[0].scalable: must be true or false"),
    (put(*PROFILE, "count", value=1), "profiles[0].count: unknown field"),
    (put(*TOLERATION, "kee", value="x"), "profiles[0].tolerations[0].kee: unknown field; known are key,"),
    (put(*TOLERATION, "value", value=1), f"profiles[0].tolerations[0].value: {TEXT}"),
    (put(*TOLERATION, "operator", value="In"), "profiles[0].tolerations[0].operator: must be one of Exists,"),
    (put(*TOLERATION, "effect", value="No"), "profiles[0].tolerations[0].effect: must be one of NoSchedule,"),
    (
        put(*TOLERATION, "tolerationSeconds", value=-1),
        "profiles[0].tolerations[0].tolerationSeconds: must be a whole number of at least 0",
    ),
    (drop(*TOLERATION, "key"), "profiles[0].tolerations[0].operator: must be Exists where there is no key"),
    (put(*TOLERATION, value="sku"), "profiles[0].tolerations[0]: must be a mapping"),
    # scheduling
    (put("scheduling", value=["high"]), "scheduling: must be a mapping"),
    (
        put("scheduling", "priorityClasses", value=[]),
        "scheduling.priorityClasses: unknown field; known are allowedPriorityClasses",
    ),
    *(
        (
            put("scheduling", "allowedPriorityClasses", value=[name]),
            "scheduling.allowedPriorityClasses: must be names of PriorityClasses that do not",
        )
        for name in ("High", "", "a/b", "x" * 254, "system-node-critical")
    ),
]


class TestBad:
    @pytest.mark.parametrize(("change", "start"), BAD, ids=[start for _, start in BAD])
    def test_names_the_place(self, change: Callable[[Any], None], start: str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            parse_configuration(document(change))
        assert str(caught.value).startswith(start)

    @pytest.mark.parametrize("value", [None, [], "text", 5])
    def test_a_document_that_is_no_mapping(self, value: object) -> None:
        with pytest.raises(ConfigurationError, match=r"^the document: must be a mapping$"):
            parse_configuration(value)

    def test_a_missing_file(self, tmp_path: Path) -> None:
        path = tmp_path / "config.yaml"
        with pytest.raises(ConfigurationError) as caught:
            load_configuration(path)
        assert str(caught.value) == f"{path}: cannot be read: No such file or directory"

    @pytest.mark.parametrize(
        "content",
        [b"a: [", b"a: \xff\xfe", b"a: 2026-13-45", b"a: b: c", b"{%"],
        ids=["open bracket", "no UTF-8", "no date", "two colons", "template"],
    )
    def test_a_file_that_is_no_yaml(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "config.yaml"
        path.write_bytes(content)
        with pytest.raises(ConfigurationError) as caught:
            load_configuration(path)
        assert str(caught.value).startswith(f"{path}: is not YAML: ")
        assert "\n" not in str(caught.value)

    def test_a_wrong_file_names_itself_and_the_place(self, tmp_path: Path) -> None:
        path = tmp_path / "config.yaml"
        path.write_text(FULL.replace("maxEntries: 10000", "maxEntries: many"))
        with pytest.raises(ConfigurationError) as caught:
            load_configuration(path)
        assert str(caught.value).startswith(f"{path}: fetch.maxEntries: must be a whole number")


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3) | st.integers(), inner),
    max_leaves=6,
)


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Paths of all places of the document."""
    steps: list[str | int] = []
    if isinstance(value, dict | list):
        steps = list(value) if isinstance(value, dict) else list(range(len(value)))
    return [path, *(deep for step in steps for deep in places(value[step], (*path, step)))]


class TestTotal:
    @given(st.sampled_from(places(document())[1:]), ANYTHING)
    def test_a_wrong_document_gives_a_configuration_error_and_nothing_else(
        self, place: tuple[str | int, ...], value: Any
    ) -> None:
        with suppress(ConfigurationError):
            parse_configuration(document(put(*place, value=deepcopy(value))))
