"""The part of the configuration about devices that hold one model, and about converting models for them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from serval_contract.devices import EMULATED_DOMAIN, EMULATOR, ENGINES
from serval_operator.config_reader import DNS_NAME, PULL_POLICIES, Node, resources

_PREFIX: Final = re.compile(
    r"[a-zA-Z0-9]([-a-zA-Z0-9.]*[a-zA-Z0-9])?(:[0-9]{1,5})?(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*", re.ASCII
)
"""A registry, and the first part of the repositories in it."""


@dataclass(frozen=True, slots=True)
class DeviceSettings:
    """How model servers program and run the devices of a profile.

    Parameters
    ----------
    engine:
        One of `serval_contract.devices.ENGINES`.
    options:
        Options of the engine, as JSON data.
    lock_dir:
        Folder of locks that the device plugin mounts; empty where its environment variable says it, or where
        there is none.
    allow_emulation:
        Whether the emulator may hold a resource that stands for real cards.
    """

    engine: str
    options: Mapping[str, Any] = field(default_factory=dict)
    lock_dir: str = ""
    allow_emulation: bool = False


@dataclass(frozen=True, slots=True)
class ArtifactStore:
    """Where converted models are stored. Either a prefix or a claim is set.

    Parameters
    ----------
    prefix:
        Registry and first part of the repositories; each object has ``PREFIX/NAMESPACE/NAME``.
    claim:
        Name of a PersistentVolumeClaim in the namespace of each object, in place of a registry.
    push_secret, pull_secret:
        Names of Secrets in the namespace of each object: only the container that pushes has the first; pods
        pull artifacts with the second. Empty for none.
    plain_http:
        Whether the registry is reached without TLS.
    ca_config_map:
        Name of a ConfigMap in the namespace of each object, with the registry's authorities under the key
        ``ca.crt``; empty for the public ones.
    """

    prefix: str = ""
    claim: str = ""
    push_secret: str = ""
    pull_secret: str = ""
    plain_http: bool = False
    ca_config_map: str = ""


@dataclass(frozen=True, slots=True)
class ConversionSettings:
    """How models are converted.

    Parameters
    ----------
    image:
        Image that builds and converts.
    push_image:
        Image of the container that pushes: it executes nothing of the user's.
    resources:
        Requests and limits of the stages that build and convert; their memory follows from the network.
    store:
        Where artifacts go; None where none is configured.
    """

    image: str
    image_pull_policy: str
    push_image: str
    push_image_pull_policy: str
    resources: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    store: ArtifactStore | None = None


DEVICE_FIELDS: Final = ("engine", "engineOptions", "lockDir", "allowEmulation")
"""Fields of a profile that are about its device."""


def device_settings(node: Node, resource: str) -> DeviceSettings | None:
    """Read what a profile says of its device; None where it names no engine.

    Parameters
    ----------
    resource:
        Resource of the profile.

    Raises
    ------
    ConfigurationError
        A field says something impossible.
    """
    engine = node.text("engine", "")
    if not engine:
        given = [name for name in DEVICE_FIELDS if node.has(name)]
        if [name for name in given if name != "engine" and node.whole()[name] not in ({}, "", False)]:
            raise node.error("engine", f"must be set beside {given[-1]}")
        return None
    node.choice("engine", ENGINES)
    if not resource:
        raise node.error("resourceName", "must be set beside `engine`")
    allow = node.boolean("allowEmulation")
    if engine == EMULATOR and not allow and not resource.startswith(EMULATED_DOMAIN):
        text = f"must be true, since the emulator would hold {resource}, which may be a real card"
        raise node.error("allowEmulation", text)
    return DeviceSettings(
        engine=engine,
        options=node.child("engineOptions").whole(),
        lock_dir=node.text("lockDir", ""),
        allow_emulation=allow,
    )


def conversion_settings(node: Node, *, push_image: str, push_policy: str) -> ConversionSettings:
    """Read the section `conversion`.

    Parameters
    ----------
    push_image, push_policy:
        Image that pushes where the section names none, and its pull policy.

    Raises
    ------
    ConfigurationError
        A field says something impossible.
    """
    node.only("image", "imagePullPolicy", "pushImage", "pushImagePullPolicy", "resources", "artifacts")
    return ConversionSettings(
        image=node.text("image"),
        image_pull_policy=node.choice("imagePullPolicy", PULL_POLICIES, "IfNotPresent"),
        push_image=node.text("pushImage", "") or push_image,
        push_image_pull_policy=node.choice("pushImagePullPolicy", PULL_POLICIES, push_policy),
        resources=resources(node.child("resources")),
        store=_store(node.child("artifacts")),
    )


def _store(node: Node) -> ArtifactStore | None:
    node.only("repositoryPrefix", "claim", "pushSecret", "pullSecret", "plainHttp", "caConfigMap")
    prefix, claim = node.text("repositoryPrefix", ""), _object(node, "claim")
    if prefix and claim:
        raise node.error("claim", "must be absent where `repositoryPrefix` is set")
    if not prefix and not claim:
        return None
    if prefix and not _PREFIX.fullmatch(prefix):
        raise node.error("repositoryPrefix", "must be REGISTRY or REGISTRY/PATH, the path in lower case")
    return ArtifactStore(
        prefix=prefix,
        claim=claim,
        push_secret=_object(node, "pushSecret"),
        pull_secret=_object(node, "pullSecret"),
        plain_http=node.boolean("plainHttp"),
        ca_config_map=_object(node, "caConfigMap"),
    )


def _object(node: Node, field_name: str) -> str:
    """Name of an object of Kubernetes, or an empty text."""
    name = node.text(field_name, "")
    if name and not DNS_NAME.fullmatch(name):
        raise node.error(field_name, "must be the name of an object of Kubernetes")
    return name
