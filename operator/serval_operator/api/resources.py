"""Kinds of objects that the operator reads or writes, and where the API server keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from serval_operator.api.naming import Manifest


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
ACCELERATED_MODELS = Resource("serval.dev", "v1alpha1", "acceleratedmodels", "AcceleratedModel")
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment")
SERVICES = Resource("", "v1", "services", "Service")
PODS = Resource("", "v1", "pods", "Pod")
EVENTS = Resource("", "v1", "events", "Event")
CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
CONTROLLER_REVISIONS = Resource("apps", "v1", "controllerrevisions", "ControllerRevision")
AUTOSCALERS = Resource("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
DISRUPTION_BUDGETS = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
JOBS = Resource("batch", "v1", "jobs", "Job")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
SERVICE_ACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount")
NODES = Resource("", "v1", "nodes", "Node", namespaced=False)
NODE_CLAIMS = Resource("karpenter.sh", "v1", "nodeclaims", "NodeClaim", namespaced=False)
DEVICE_CLASSES = Resource("resource.k8s.io", "v1", "deviceclasses", "DeviceClass", namespaced=False)
PRIORITY_CLASSES = Resource("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", namespaced=False)
ACCESS_REVIEWS = Resource(
    "authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", namespaced=False
)

Children = Sequence[tuple[Resource, Manifest]]
"""Whole manifests of children, each with its resource, in the order of their making."""
