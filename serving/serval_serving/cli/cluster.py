"""Finds a ModelDeployment and a way to its pods."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pykube
import requests
import yaml
from pykube.exceptions import KubernetesError

from serval_serving.cli.errors import NOT_FOUND, UNREACHABLE, CliError
from serval_serving.cli.forward import Forward, port_forward
from serval_serving.cli.usage import Refusal, Usage, read_usage

API_VERSION: Final = "serval.dev/v1alpha1"
API_SECONDS: Final = 10.0
CONNECT_SECONDS: Final = 1.0


class ModelDeployment(pykube.objects.NamespacedAPIObject):  # type: ignore[misc]
    """The custom resource."""

    version = API_VERSION
    endpoint = "modeldeployments"
    kind = "ModelDeployment"


class AcceleratedModel(pykube.objects.NamespacedAPIObject):  # type: ignore[misc]
    """The custom resource."""

    version = API_VERSION
    endpoint = "acceleratedmodels"
    kind = "AcceleratedModel"


class ControllerRevision(pykube.objects.NamespacedAPIObject):  # type: ignore[misc]
    """Kept revisions of Serval's workloads, and of others."""

    version = "apps/v1"
    endpoint = "controllerrevisions"
    kind = "ControllerRevision"


_KINDS: Final = {
    "Pod": pykube.Pod,
    "Deployment": pykube.Deployment,
    "ControllerRevision": ControllerRevision,
    "ModelDeployment": ModelDeployment,
    "AcceleratedModel": AcceleratedModel,
}


@dataclass(frozen=True, slots=True)
class Kube:
    """How kubectl reaches the same cluster.

    Attributes
    ----------
    kubeconfig, context:
        None for kubectl's own choice.
    namespace:
        The namespace.
    """

    kubeconfig: Path | None
    context: str | None
    namespace: str


class Cluster:
    """A cluster, seen from one namespace.

    Parameters
    ----------
    api:
        pykube's client.
    kube:
        How kubectl reaches it.
    forward:
        Makes a way to a Service that cannot be reached directly.
    """

    def __init__(
        self, api: Any, kube: Kube, forward: Callable[[Kube, str, int], Forward] = port_forward
    ) -> None:
        self._api = api
        self._kube = kube
        self._forward = forward

    @classmethod
    def connect(cls, kubeconfig: Path | None, context: str | None, namespace: str | None) -> Cluster:
        """Read the kubeconfig, or the pod's own credentials inside a cluster.

        Raises
        ------
        CliError
            If there is no usable configuration.
        """
        try:
            if kubeconfig is None:
                config = pykube.KubeConfig.from_env()
            else:
                config = pykube.KubeConfig.from_file(str(kubeconfig))
            if context is not None:
                config.set_current_context(context)
            api = pykube.HTTPClient(config, timeout=API_SECONDS)
            chosen = namespace or config.namespace
        except (KubernetesError, yaml.YAMLError, LookupError, TypeError, OSError, ValueError) as error:
            raise CliError(f"no usable kubeconfig: {error}", UNREACHABLE) from error
        return cls(api, Kube(kubeconfig, context, chosen))

    def model_deployment(self, name: str) -> dict[str, Any]:
        """Return the ModelDeployment `name`.

        Raises
        ------
        CliError
            If there is none, or the cluster does not answer.
        """
        return self._get(ModelDeployment, name)

    @contextmanager
    def address(self, name: str, port_name: str) -> Iterator[str]:
        """Yield ``host:port`` of a port of the Service `name`: its ClusterIP, or a forwarded port.

        Raises
        ------
        CliError
            If there is no such Service or no way to it.
        """
        spec = self._get(pykube.Service, name)["spec"]
        ports = {port.get("name", ""): port["port"] for port in spec.get("ports", [])}
        if port_name not in ports:
            raise CliError(f"Service {name} has no port {port_name}", NOT_FOUND)
        host, port = spec.get("clusterIP", ""), ports[port_name]
        if host not in ("", "None") and _connects(host, port):
            yield f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            return
        with self._forward(self._kube, name, port) as forward:
            yield f"127.0.0.1:{forward.port}"

    def usage(self) -> Usage:
        """Return which images the objects that the caller may list use.

        Raises
        ------
        CliError
            If the cluster does not answer.
        """

        def listing(kind: str, everywhere: bool) -> list[Mapping[str, Any]]:
            return self._list(_KINDS[kind], pykube.all if everywhere else self._kube.namespace)

        try:
            return read_usage(listing, self._kube.namespace)
        except Refusal as error:
            text = f"the cluster does not list what uses images: it answers {error.status}"
            raise CliError(text, UNREACHABLE) from error

    def _list(self, kind: Any, namespace: Any) -> list[Mapping[str, Any]]:
        try:
            return [one.obj for one in kind.objects(self._api, namespace=namespace)]
        except pykube.exceptions.HTTPError as error:
            raise Refusal(error.code) from error
        except requests.HTTPError as error:
            raise Refusal(0 if error.response is None else error.response.status_code) from error
        except (KubernetesError, requests.RequestException) as error:
            raise CliError(f"the cluster does not answer: {error}", UNREACHABLE) from error

    def _get(self, kind: Any, name: str) -> dict[str, Any]:
        namespace = self._kube.namespace
        try:
            found = kind.objects(self._api, namespace=namespace).get_by_name(name)
        except pykube.exceptions.ObjectDoesNotExist as error:
            raise CliError(f"there is no {kind.kind} {name} in namespace {namespace}", NOT_FOUND) from error
        except (pykube.exceptions.HTTPError, requests.HTTPError) as error:
            raise CliError(f"the cluster refuses {kind.kind} {name}: {error}", UNREACHABLE) from error
        except (KubernetesError, requests.RequestException) as error:
            raise CliError(f"the cluster does not answer: {error}", UNREACHABLE) from error
        content: dict[str, Any] = found.obj
        return content


def _connects(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=CONNECT_SECONDS):
            return True
    except OSError:
        return False
