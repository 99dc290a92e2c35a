"""An API server in memory, for tests of what stands on `KubeApi`.

It knows what the operator relies on: uids, resource versions that grow with every change and only then,
generations, preconditions, selectors, owners of fields. Server-side apply is approximated: labels and
annotations are merged, every other field sent replaces what was there. It has no schemas and no admission.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from serval_operator.api.resources import Resource
from serval_operator.constants import FIELD_MANAGER
from serval_operator.errors import Conflict, KubeError
from serval_operator.runtime.kube_api import Listing, Object

ADDED, MODIFIED, DELETED = "ADDED", "MODIFIED", "DELETED"
CREATED_AT = "2026-01-01T00:00:00Z"
_Place = tuple[str, str, str]
_T = TypeVar("_T")


@dataclass(frozen=True)
class Call:
    """One call that the fake got."""

    verb: str
    resource: Resource
    namespace: str
    name: str
    body: Object | None = None


class FakeKubeApi:
    """`KubeApi` over a dictionary.

    Attributes
    ----------
    calls:
        All calls, in order.
    on_call:
        Called with each call before anything happens; what it raises is what the caller gets.
    on_answer:
        Called with each call after it took effect and before its answer is given: raising here is a write
        that succeeded though its answer was lost.
    on_event:
        Called with resource, type and object of each change, as a watch would report it.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.on_call: Callable[[Call], None] = lambda _: None
        self.on_answer: Callable[[Call], None] = lambda _: None
        self.on_event: Callable[[Resource, str, Object], None] = lambda *_: None
        self._objects: dict[_Place, Object] = {}
        self._version = 1000
        self._uids = 0

    # --- what tests do behind the operator's back -----------------------------------------------------

    def put(self, resource: Resource, obj: Mapping[str, Any], manager: str = "somebody") -> Object:
        """Create an object, or replace what is there but for its identity; returns it as stored."""
        wanted = copy.deepcopy(dict(obj))
        meta = wanted.setdefault("metadata", {})
        known = self._objects.get(_of(resource, meta))
        if known is not None:
            for field in ("uid", "creationTimestamp", "generation", "managedFields"):
                meta.setdefault(field, known["metadata"].get(field))
        _own(wanted, manager, "Update", obj)
        return self._store(resource, wanted)

    def edit(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        change: Callable[[Object], object],
        manager: str = "somebody",
    ) -> Object:
        """Change an object in place, as another client would; returns it as stored."""
        wanted = copy.deepcopy(self._objects[_place(resource, namespace, name)])
        change(wanted)
        _own(wanted, manager, "Update", {f"edit-{self._version}": {}})
        return self._store(resource, wanted)

    def set_status(
        self, resource: Resource, namespace: str | None, name: str, status: Mapping[str, Any]
    ) -> Object:
        """Replace an object's status, as its controller would: nobody's ownership outside it changes."""
        wanted = copy.deepcopy(self._objects[_place(resource, namespace, name)])
        wanted["status"] = copy.deepcopy(dict(status))
        return self._store(resource, wanted)

    def remove(self, resource: Resource, namespace: str | None, name: str) -> None:
        """Delete an object."""
        gone = self._objects.pop(_place(resource, namespace, name))
        self._version += 1
        gone["metadata"]["resourceVersion"] = str(self._version)
        self.on_event(resource, DELETED, copy.deepcopy(gone))

    def stored(self, resource: Resource, namespace: str | None, name: str) -> Object | None:
        """An object as stored, without a call."""
        return copy.deepcopy(self._objects.get(_place(resource, namespace, name)))

    def objects(self, resource: Resource) -> list[Object]:
        """All objects of a kind as stored, without a call."""
        return [copy.deepcopy(obj) for place, obj in self._objects.items() if place[0] == resource.plural]

    def objects_of(self, kind: str) -> list[Object]:
        """All objects whose kind has this name, without a call."""
        return [copy.deepcopy(obj) for obj in self._objects.values() if obj["kind"] == kind]

    def writes(self) -> list[Call]:
        """The calls that could change something, Events aside."""
        return [
            call
            for call in self.calls
            if call.verb not in {"get", "list"} and call.resource.plural != "events"
        ]

    # --- KubeApi --------------------------------------------------------------------------------------

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Object | None:
        """Read one object; None when there is none."""
        call = self._called("get", resource, namespace, name)
        found = self.stored(resource, namespace, name)
        self.on_answer(call)
        return found

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> Listing:
        """Read all objects of a kind."""
        call = self._called("list", resource, namespace or "", "")
        items = tuple(
            copy.deepcopy(obj)
            for (plural, place, _), obj in sorted(self._objects.items())
            if plural == resource.plural
            and namespace in (None, place)
            and _matches(obj["metadata"].get("labels") or {}, label_selector, flat=True)
            and _matches(obj, field_selector, flat=False)
        )
        self.on_answer(call)
        return Listing(items, str(self._version))

    async def list_as(
        self,
        convert: Callable[[Object], _T],
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> Listing[_T]:
        """Read all objects of a kind and keep of each what ``convert`` makes of it."""
        listing = await self.list(
            resource, namespace, label_selector=label_selector, field_selector=field_selector
        )
        return Listing(tuple(convert(item) for item in listing.items), listing.resource_version)

    async def apply(self, resource: Resource, manifest: Mapping[str, Any]) -> Object:
        """Server-side apply, forced."""
        meta = manifest["metadata"]
        call = self._called("apply", resource, meta.get("namespace"), meta["name"], manifest)
        known = self._objects.get(_of(resource, meta))
        self._check_uid(meta, known)
        wanted = _merged(known or {}, manifest)
        _own(wanted, FIELD_MANAGER, "Apply", manifest)
        stored = self._store(resource, wanted)
        self.on_answer(call)
        return stored

    async def apply_status(self, resource: Resource, manifest: Mapping[str, Any]) -> Object | None:
        """Server-side apply of the status; None when the object is gone."""
        meta = manifest["metadata"]
        call = self._called("apply_status", resource, meta["namespace"], meta["name"], manifest)
        known = self._objects.get(_of(resource, meta))
        if known is None:
            return None
        sent = meta.get("resourceVersion")
        if sent and sent != known["metadata"]["resourceVersion"]:
            raise Conflict(409, "Conflict", "the object has been modified")
        stored = self._store(resource, {**copy.deepcopy(known), "status": copy.deepcopy(manifest["status"])})
        self.on_answer(call)
        # The status subresource takes a foreign uid and writes; only the answer tells.
        self._check_uid(meta, stored)
        return stored

    async def create(self, resource: Resource, manifest: Mapping[str, Any]) -> Object:
        """Create one object."""
        meta = manifest["metadata"]
        call = self._called("create", resource, meta.get("namespace"), meta["name"], manifest)
        if _of(resource, meta) in self._objects:
            raise Conflict(409, "AlreadyExists", f"{resource.plural} {meta['name']} already exists")
        wanted = copy.deepcopy(dict(manifest))
        _own(wanted, FIELD_MANAGER, "Update", manifest)
        stored = self._store(resource, wanted)
        self.on_answer(call)
        return stored

    async def update(self, resource: Resource, manifest: Mapping[str, Any]) -> Object:
        """Replace one object, if it is still at the manifest's resource version."""
        meta = manifest["metadata"]
        call = self._called("update", resource, meta.get("namespace"), meta["name"], manifest)
        known = self._objects.get(_of(resource, meta))
        if known is None:
            raise not_found(resource, meta["name"])
        self._check_uid(meta, known)
        sent = meta.get("resourceVersion")
        if sent and sent != known["metadata"]["resourceVersion"]:
            raise Conflict(409, "Conflict", "the object has been modified")
        wanted = copy.deepcopy(dict(manifest))
        for field in ("uid", "creationTimestamp", "generation"):
            wanted["metadata"][field] = known["metadata"].get(field)
        _own(wanted, FIELD_MANAGER, "Update", manifest)
        stored = self._store(resource, wanted)
        self.on_answer(call)
        return stored

    async def merge(
        self, resource: Resource, namespace: str | None, name: str, body: Mapping[str, Any]
    ) -> Object | None:
        """Merge fields into one object (RFC 7386); None when there is none."""
        call = self._called("merge", resource, namespace, name, body)
        known = self._objects.get(_place(resource, namespace, name))
        if known is None:
            return None
        self._check_uid(body.get("metadata") or {}, known)
        wanted: Object = _merge(known, body)
        _own(wanted, FIELD_MANAGER, "Update", body)
        stored = self._store(resource, wanted)
        self.on_answer(call)
        return stored

    async def delete(self, resource: Resource, namespace: str | None, name: str, *, uid: str) -> bool:
        """Delete one object if it still has this uid."""
        call = self._called("delete", resource, namespace, name)
        known = self._objects.get(_place(resource, namespace, name))
        if known is None or known["metadata"]["uid"] != uid:
            return False
        self.remove(resource, namespace, name)
        self.on_answer(call)
        return True

    # --- inside ---------------------------------------------------------------------------------------

    def _called(
        self,
        verb: str,
        resource: Resource,
        namespace: str | None,
        name: str,
        body: Mapping[str, Any] | None = None,
    ) -> Call:
        kept = copy.deepcopy(dict(body)) if body is not None else None
        call = Call(verb, resource, namespace or "", name, kept)
        self.calls.append(call)
        self.on_call(call)
        return call

    @staticmethod
    def _check_uid(meta: Mapping[str, Any], known: Object | None) -> None:
        sent = meta.get("uid")
        if sent and known is None:
            raise Conflict(409, "Conflict", f"uid mismatch: {sent} was sent, and there is no such object")
        if sent and known is not None and known["metadata"]["uid"] != sent:
            raise Conflict(409, "Conflict", f"uid mismatch: {sent} was sent")

    def _store(self, resource: Resource, wanted: Object) -> Object:
        """Store an object; like an API server, a change of nothing changes nothing."""
        meta = wanted["metadata"]
        place = _of(resource, meta)
        known = self._objects.get(place)
        wanted.setdefault("apiVersion", resource.api_version)
        wanted.setdefault("kind", resource.kind)
        if not meta.get("uid"):
            self._uids += 1
            meta["uid"] = f"00000000-0000-0000-0000-{self._uids:012d}"
        meta.setdefault("creationTimestamp", CREATED_AT)
        meta["generation"] = _generation(known, wanted)
        meta["resourceVersion"] = known["metadata"]["resourceVersion"] if known else ""
        if wanted == known:
            return copy.deepcopy(wanted)
        self._version += 1
        meta["resourceVersion"] = str(self._version)
        self._objects[place] = copy.deepcopy(wanted)
        self.on_event(resource, MODIFIED if known else ADDED, copy.deepcopy(wanted))
        return copy.deepcopy(wanted)


def not_found(resource: Resource, name: str) -> KubeError:
    """The error of an API server that does not serve what is asked for."""
    return KubeError(404, "NotFound", f'{resource.plural} "{name}" not found')


def _place(resource: Resource, namespace: str | None, name: str) -> _Place:
    return (resource.plural, namespace or "", name)


def _of(resource: Resource, meta: Mapping[str, Any]) -> _Place:
    return _place(resource, meta.get("namespace"), meta["name"])


def _generation(known: Object | None, wanted: Object) -> int:
    if known is None:
        return 1
    changed = known.get("spec") != wanted.get("spec")
    return int(known["metadata"]["generation"]) + int(changed)


def _merged(known: Object, manifest: Mapping[str, Any]) -> Object:
    wanted = copy.deepcopy(known)
    for field, value in manifest.items():
        if field != "metadata":
            wanted[field] = copy.deepcopy(value)
    meta = wanted.setdefault("metadata", {})
    for field, value in manifest["metadata"].items():
        if field in {"labels", "annotations"}:
            meta[field] = {**(meta.get(field) or {}), **value}
        else:
            meta[field] = copy.deepcopy(value)
    return wanted


def _merge(known: Any, body: Any) -> Any:
    """What a merge patch makes of a value."""
    if not isinstance(body, Mapping):
        return copy.deepcopy(body)
    wanted = copy.deepcopy(dict(known)) if isinstance(known, Mapping) else {}
    for field, value in body.items():
        if value is None:
            wanted.pop(field, None)
        else:
            wanted[field] = _merge(wanted.get(field), value)
    return wanted


def _own(obj: Object, manager: str, operation: str, fields: Mapping[str, Any]) -> None:
    """Note in ``managedFields`` who owns which fields."""
    entry = {"manager": manager, "operation": operation, "fieldsV1": _fields(fields)}
    meta = obj["metadata"]
    others = [
        one
        for one in meta.get("managedFields") or []
        if (one["manager"], one["operation"]) != (manager, operation)
    ]
    meta["managedFields"] = [*others, entry]


def _fields(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {}
    ignored = ("apiVersion", "kind", "uid", "name", "namespace", "managedFields", "resourceVersion")
    return {f"f:{name}": _fields(inner) for name, inner in sorted(value.items()) if name not in ignored}


def _matches(obj: Mapping[str, Any], selector: str, *, flat: bool) -> bool:
    """Whether ``a=b,c!=d`` holds, of labels (flat) or of dotted fields."""
    for requirement in filter(None, selector.split(",")):
        name, _, wanted = requirement.partition("=")
        unlike = name.endswith("!")
        found: Any = obj
        for part in [name] if flat else name.removesuffix("!").split("."):
            found = found.get(part, "") if isinstance(found, Mapping) else ""
        if (str(found) == wanted) == unlike:
            return False
    return True
