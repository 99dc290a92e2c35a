"""The operator's configuration file: runtimes, accelerator profiles and how models are fetched.

Administrators write it (through the chart); users name what is in it. It is read once at start and checked
whole, so that a mistake stops the operator with one clear line and never a ModelDeployment at run time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from serval_contract.models import ACCELERATED, FRAMEWORKS
from serval_operator.api.capabilities import CAPABILITIES
from serval_operator.config_conversion import (
    DEVICE_FIELDS,
    ConversionSettings,
    DeviceSettings,
    conversion_settings,
    device_settings,
)
from serval_operator.config_reader import DNS_NAME, PULL_POLICIES, Node, resources
from serval_operator.constants import CONFIG_API_VERSION, CONFIG_KIND, SYSTEM_PRIORITY
from serval_operator.errors import ConfigurationError

DEFAULT_IMAGE = "default"
_T = TypeVar("_T", "Runtime", "Profile")
_ARCHITECTURE = re.compile(r"[a-z0-9]{1,63}", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_EXTENDED_RESOURCE = re.compile(
    r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/[a-zA-Z0-9]([-a-zA-Z0-9_.]{0,61}[a-zA-Z0-9])?"
)
_CACHE_URL = re.compile(r"http://[a-zA-Z0-9]([-a-zA-Z0-9.]*[a-zA-Z0-9])?(:\d{1,5})?", re.ASCII)
_TOLERATION_OPERATORS = ("Exists", "Equal")
_TAINT_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


@dataclass(frozen=True, slots=True)
class FetchSettings:
    """How the init container fetches models.

    Parameters
    ----------
    max_bytes, max_entries:
        Caps on what one model may unpack to: bytes and files.
    cache_url:
        Address under which every node reaches its own cache of models; empty for none.
    """

    image: str
    image_pull_policy: str
    max_bytes: int
    max_entries: int
    resources: Mapping[str, Any]
    cache_url: str = ""


@dataclass(frozen=True, slots=True)
class FrontSettings:
    """Serval's own server as a front: it stands before a runtime's server that lacks what a spec asks for."""

    image: str
    image_pull_policy: str
    resources: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Runtime:
    """A model server that ModelDeployments may name.

    Parameters
    ----------
    frameworks:
        Frameworks whose models it serves; empty for all of them.
    architectures:
        Architectures of its images, as in the node label ``kubernetes.io/arch``; empty for any.
    images:
        Image by accelerator profile, or images by framework within a profile; ``default`` for pods without an
        accelerator. An image under a profile's name is the administrator's word that it uses the device.
    args, env:
        Arguments after those that every runtime gets, and environment variables. In both, Kubernetes
        replaces ``$(NAME)`` by the variable of that name.
    capabilities:
        Which of `CAPABILITIES` it has.
    grace_seconds:
        Longest time that the server may take to finish requests once it is told to stop.
    """

    name: str
    frameworks: tuple[str, ...]
    images: Mapping[str, str | Mapping[str, str]]
    image_pull_policy: str
    args: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    capabilities: frozenset[str]
    grace_seconds: int
    architectures: tuple[str, ...] = ()

    @property
    def default_image(self) -> str:
        """Image for pods without an accelerator."""
        return str(self.images[DEFAULT_IMAGE])

    def image(self, profile: str, framework: str) -> str:
        """Image for models of a framework under the name of a profile; empty where none is listed."""
        # A profile may have the name under which the default image is listed.
        listed = self.images.get(profile, "") if profile != DEFAULT_IMAGE else ""
        return listed if isinstance(listed, str) else listed.get(framework, "")


@dataclass(frozen=True, slots=True)
class Profile:
    """A kind of accelerator node that ModelDeployments may name; no resource name means CPU.

    Parameters
    ----------
    runtime_class:
        RuntimeClass that pods need on these nodes; empty for none.
    device:
        How an AcceleratedModel runs on it; None where no AcceleratedModel does.
    """

    name: str
    resource_name: str
    node_selector: Mapping[str, str]
    tolerations: Sequence[Mapping[str, Any]]
    scalable: bool
    runtime_class: str = ""
    device: DeviceSettings | None = None


@dataclass(frozen=True, slots=True)
class Configuration:
    """All of the file, checked.

    Parameters
    ----------
    front:
        What may stand before a runtime's server; None where what a runtime lacks is refused.
    allowed_priority_classes:
        PriorityClasses that a spec may name; empty for all but Kubernetes' own.
    conversion:
        How models are converted for devices; None where they are not.
    """

    fetch: FetchSettings
    default_runtime: str
    runtimes: Mapping[str, Runtime]
    profiles: Mapping[str, Profile]
    front: FrontSettings | None = None
    allowed_priority_classes: tuple[str, ...] = ()
    conversion: ConversionSettings | None = None


def load_configuration(path: Path) -> Configuration:
    """Read and check the configuration file.

    Raises
    ------
    ConfigurationError
        The file cannot be read, is no YAML, or says something impossible; the text names the place.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:
        # ValueError: bytes that are no UTF-8, and values like 2026-13-01, which looks like a date.
        raise ConfigurationError(f"{path}: is not YAML: {' '.join(str(error).split())}") from error
    try:
        return parse_configuration(document)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def parse_configuration(document: Any) -> Configuration:
    """Check a configuration document.

    Raises
    ------
    ConfigurationError
        The text starts with the path of the field that is wrong.
    """
    root = Node("", document)
    root.only(
        "apiVersion",
        "kind",
        "fetch",
        "front",
        "defaults",
        "runtimes",
        "profiles",
        "scheduling",
        "conversion",
    )
    if root.text("apiVersion") != CONFIG_API_VERSION or root.text("kind") != CONFIG_KIND:
        raise ConfigurationError(
            f"the document: must be of apiVersion {CONFIG_API_VERSION} and kind {CONFIG_KIND}"
        )
    runtimes = _by_name("runtimes", (_runtime(node) for node in root.items("runtimes")))
    profiles = _by_name("profiles", (_profile(node) for node in root.items("profiles")))
    defaults = root.child("defaults")
    defaults.only("runtime")
    default = defaults.text("runtime")
    if default not in runtimes:
        raise ConfigurationError(f"defaults.runtime: must be one of {', '.join(sorted(runtimes))}")
    for runtime in runtimes.values():
        unknown = set(runtime.images) - set(profiles) - {DEFAULT_IMAGE}
        if unknown:
            raise ConfigurationError(
                f"runtimes.{runtime.name}.images: no such profile: {', '.join(sorted(unknown))}"
            )
    front = _front(root.child("front")) if root.has("front") else None
    fetch = _fetch(root.child("fetch"))
    return Configuration(
        fetch,
        default,
        runtimes,
        profiles,
        front,
        _priorities(root.child("scheduling")),
        _conversion(root, fetch),
    )


def _conversion(root: Node, fetch: FetchSettings) -> ConversionSettings | None:
    if not root.has("conversion"):
        return None
    node = root.child("conversion")
    return conversion_settings(node, push_image=fetch.image, push_policy=fetch.image_pull_policy)


def _priorities(node: Node) -> tuple[str, ...]:
    """PriorityClasses that a spec may name, sorted."""
    node.only("allowedPriorityClasses")
    names = node.texts("allowedPriorityClasses")
    if not all(DNS_NAME.fullmatch(name) and not name.startswith(SYSTEM_PRIORITY) for name in names):
        text = f"must be names of PriorityClasses that do not start with {SYSTEM_PRIORITY}"
        raise node.error("allowedPriorityClasses", text)
    return tuple(sorted(set(names)))


def _fetch(node: Node) -> FetchSettings:
    node.only("image", "imagePullPolicy", "maxBytes", "maxEntries", "resources", "cache")
    return FetchSettings(
        image=node.text("image"),
        image_pull_policy=node.choice("imagePullPolicy", PULL_POLICIES, "IfNotPresent"),
        max_bytes=node.size("maxBytes"),
        max_entries=node.number("maxEntries", least=1),
        resources=resources(node.child("resources")),
        cache_url=_cache(node.child("cache")),
    )


def _front(node: Node) -> FrontSettings:
    node.only("image", "imagePullPolicy", "resources")
    return FrontSettings(
        image=node.text("image"),
        image_pull_policy=node.choice("imagePullPolicy", PULL_POLICIES, "IfNotPresent"),
        resources=resources(node.child("resources")),
    )


def _cache(node: Node) -> str:
    node.only("url")
    url = node.text("url", "")
    if url and not _CACHE_URL.fullmatch(url):
        raise node.error("url", "must be an address such as http://serval-cache.serval-system:8600")
    return url


def _runtime(node: Node) -> Runtime:
    node.only(
        "name",
        "frameworks",
        "architectures",
        "images",
        "imagePullPolicy",
        "args",
        "env",
        "capabilities",
        "graceSeconds",
    )
    frameworks = node.texts("frameworks")
    capabilities = frozenset(node.texts("capabilities"))
    if capabilities - CAPABILITIES.keys():
        raise node.error("capabilities", f"must be some of {', '.join(sorted(CAPABILITIES))}")
    architectures = node.texts("architectures")
    if not all(_ARCHITECTURE.fullmatch(one) for one in architectures):
        raise node.error("architectures", "must be values of the label kubernetes.io/arch, such as amd64")
    return Runtime(
        name=node.name(),
        frameworks=frameworks,
        images=_images(node.child("images")),
        image_pull_policy=node.choice("imagePullPolicy", PULL_POLICIES, "IfNotPresent"),
        args=node.texts("args"),
        env=tuple(_variable(one) for one in node.items("env")),
        capabilities=capabilities,
        grace_seconds=node.number("graceSeconds", least=1, default=60),
        # Sorted, so that the same set in another order renders the same pods.
        architectures=tuple(sorted(set(architectures))),
    )


def _images(node: Node) -> Mapping[str, str | Mapping[str, str]]:
    """Images by profile, each one for all frameworks or one for each, also those that the runtime lacks."""
    node.text(DEFAULT_IMAGE)
    images: dict[str, str | Mapping[str, str]] = {}
    for profile, value in node.whole().items():
        if not isinstance(value, Mapping):
            images[str(profile)] = node.text(profile)
            continue
        child = node.child(profile)
        child.only(*FRAMEWORKS, ACCELERATED)
        images[str(profile)] = {name: child.text(name) for name in child.whole()}
    return images


def _variable(node: Node) -> tuple[str, str]:
    node.only("name", "value")
    name = node.text("name")
    if not _VARIABLE.fullmatch(name):
        raise node.error("name", "must be letters, digits and '_', and not start with a digit")
    return name, node.text("value", "")


def _profile(node: Node) -> Profile:
    node.only(
        "name",
        "description",
        "resourceName",
        "nodeSelector",
        "tolerations",
        "runtimeClassName",
        "scalable",
        *DEVICE_FIELDS,
    )
    resource = node.text("resourceName", "")
    if resource and not _EXTENDED_RESOURCE.fullmatch(resource):
        raise node.error("resourceName", "must be the name of an extended resource such as nvidia.com/gpu")
    runtime_class = node.text("runtimeClassName", "")
    if runtime_class and not DNS_NAME.fullmatch(runtime_class):
        raise node.error("runtimeClassName", "must be the name of a RuntimeClass")
    return Profile(
        name=node.name(),
        resource_name=resource,
        node_selector=node.child("nodeSelector").all_texts(),
        tolerations=tuple(_toleration(one) for one in node.items("tolerations")),
        scalable=node.boolean("scalable"),
        runtime_class=runtime_class,
        device=device_settings(node, resource),
    )


def _toleration(node: Node) -> Mapping[str, Any]:
    node.only("key", "operator", "value", "effect", "tolerationSeconds")
    whole = node.whole()
    for field in ("key", "value"):
        node.text(field, "")
    if "operator" in whole:
        node.choice("operator", _TOLERATION_OPERATORS)
    if "effect" in whole:
        node.choice("effect", _TAINT_EFFECTS)
    if "tolerationSeconds" in whole:
        node.number("tolerationSeconds", least=0)
    if not whole.get("key") and whole.get("operator") != "Exists":
        raise node.error("operator", "must be Exists where there is no key")
    return whole


def _by_name(path: str, entries: Iterable[_T]) -> Mapping[str, _T]:
    named: dict[str, _T] = {}
    for entry in entries:
        if entry.name in named:
            raise ConfigurationError(f"{path}: `{entry.name}` is there twice")
        named[entry.name] = entry
    if not named:
        raise ConfigurationError(f"{path}: must have at least one entry")
    return named
