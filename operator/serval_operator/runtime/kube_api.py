"""What the operator asks of an API server. Reconcilers and tests depend on this, not on a client."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from serval_operator.api.resources import Resource

Object = dict[str, Any]
"""A Kubernetes object as plain JSON data."""


_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Listing(Generic[_T]):
    """All objects of one LIST (its pages joined), or what was kept of them, and the version of the LIST."""

    items: tuple[_T, ...]
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
    ) -> Listing[Object]:
        """Read all objects of a kind, in pages."""

    async def list_as(
        self,
        convert: Callable[[Object], _T],
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> Listing[_T]:
        """Read all objects of a kind and keep of each what ``convert`` makes of it, page by page."""

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
