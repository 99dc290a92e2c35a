"""What the operator asks of an API server. Reconcilers and tests depend on this, not on a client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Object = dict[str, Any]
"""A Kubernetes object as plain JSON data."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of object and where the API server keeps it.

    Parameters
    ----------
    group, version:
        API group (empty for the core group) and version.
    plural, kind:
        Names in paths and in manifests.
    namespaced:
        Whether its objects live in namespaces. Where they do not, a namespace is never part of a path.
    """

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """``apiVersion`` as manifests write it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None, name: str = "", subresource: str = "") -> str:
        """URL path of a collection, an object or a subresource.

        Parameters
        ----------
        namespace:
            None for all namespaces of a collection.
        """
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        parts = [root]
        if namespace is not None and self.namespaced:
            parts.append(f"namespaces/{namespace}")
        parts.append(self.plural)
        parts.extend(part for part in (name, subresource) if part)
        return "/".join(parts)

    def places(self, namespaces: Sequence[str | None]) -> tuple[str | None, ...]:
        """Of these namespaces, where to look for all objects; a kind without namespaces has one place."""
        return tuple(namespaces) if self.namespaced else (None,)


MODEL_DEPLOYMENTS = Resource("serval.dev", "v1alpha1", "modeldeployments", "ModelDeployment")
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment")
SERVICES = Resource("", "v1", "services", "Service")
PODS = Resource("", "v1", "pods", "Pod")
EVENTS = Resource("", "v1", "events", "Event")
CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
CONTROLLER_REVISIONS = Resource("apps", "v1", "controllerrevisions", "ControllerRevision")
AUTOSCALERS = Resource("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
DISRUPTION_BUDGETS = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
SERVICE_ACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount")
NODES = Resource("", "v1", "nodes", "Node", namespaced=False)
NODE_CLAIMS = Resource("karpenter.sh", "v1", "nodeclaims", "NodeClaim", namespaced=False)
DEVICE_CLASSES = Resource("resource.k8s.io", "v1", "deviceclasses", "DeviceClass", namespaced=False)
ACCESS_REVIEWS = Resource(
    "authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", namespaced=False
)


@dataclass(frozen=True, slots=True)
class Listing:
    """All objects of one LIST (its pages joined) and the resource version they were read at."""

    items: tuple[Object, ...]
    resource_version: str


class KubeApi(Protocol):
    """Calls to the API server. Every call has a time-out; every failure is a `KubeError`.

    The namespace of a kind without namespaces is None, and its manifests name none.
    """

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Object | None:
        """Read one object; None when there is none."""

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> Listing:
        """Read all objects of a kind, in pages."""

    async def apply(self, resource: Resource, manifest: Mapping[str, Any]) -> Object:
        """Server-side apply, forced, by our field manager; returns the object as stored.

        A manifest that carries ``metadata.uid`` is refused with `Conflict` (or 404 as `Conflict`)
        where the stored object is another one or gone.
        """

    async def apply_status(self, resource: Resource, manifest: Mapping[str, Any]) -> Object | None:
        """Server-side apply of the status subresource; None when the object is gone."""

    async def create(self, resource: Resource, manifest: Mapping[str, Any]) -> Object:
        """Create one object."""

    async def update(self, resource: Resource, manifest: Mapping[str, Any]) -> Object:
        """Replace one object; `Conflict` where it is not at the manifest's ``metadata.resourceVersion``."""

    async def merge(
        self, resource: Resource, namespace: str | None, name: str, body: Mapping[str, Any]
    ) -> Object | None:
        """Merge fields into one object; None when there is none.

        A body that carries ``metadata.uid`` is refused with `Conflict` where the stored object has another.
        """

    async def delete(self, resource: Resource, namespace: str | None, name: str, *, uid: str) -> bool:
        """Delete one object if it still has this uid; False when it is gone already."""
