"""What an operator of a release left in a cluster: written to files once, and put back under later operators.

Putting back goes through the API server, field manager by field manager, so that every object has the owners
of fields that it had: server-side apply removes what its manager owned and no longer sends. Only the UIDs of
the custom resources are written into etcd, since the pods' labels hold them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from serval_lab.etcd import PREFIX, Etcd
from serval_operator.constants import FIELD_MANAGER
from support.cluster import API_VERSIONS, Cluster, Object

RELEASES = Path(__file__).resolve().parents[1] / "data"
"""A folder for each release, `release-VERSION`."""
CHILDREN = (
    *("ConfigMap", "ControllerRevision", "Service", "Deployment"),
    *("HorizontalPodAutoscaler", "PodDisruptionBudget"),
)
"""What the operator writes, in the order of putting back."""
_NEVER_PUT_BACK = ("managedFields", "resourceVersion", "uid", "creationTimestamp", "generation")
_PLACES = ("podIP", "podIPs", "hostIP", "hostIPs", "startTime")
"""Of a pod's status: what another cluster cannot have."""


@dataclass(frozen=True)
class Release:
    """Objects of one namespace and the configuration that the operator had.

    Attributes
    ----------
    models, children, pods:
        As the API server showed them.
    configuration:
        Text of the operator's configuration file.
    """

    models: list[Object]
    children: list[Object]
    pods: list[Object]
    configuration: str

    @property
    def namespace(self) -> str:
        """Where everything was, and is put back: names and addresses in the objects hold it."""
        namespace: str = self.models[0]["metadata"]["namespace"]
        return namespace

    def pods_of(self, model: str) -> list[Object]:
        """Pods that a ModelDeployment had, without those that were being deleted."""
        return [
            pod
            for pod in self.pods
            if pod["metadata"]["labels"]["serval.dev/name"] == model
            and "deletionTimestamp" not in pod["metadata"]
        ]

    def save(self, folder: Path) -> None:
        """Write it as YAML."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("models", "children", "pods"):
            text = yaml.safe_dump_all(getattr(self, name), sort_keys=True)
            (folder / f"{name}.yaml").write_text(text)
        (folder / "configuration.yaml").write_text(self.configuration)


def load(folder: Path) -> Release:
    """Read what `Release.save` wrote."""
    kinds = {name: list(_documents(folder / f"{name}.yaml")) for name in ("models", "children", "pods")}
    return Release(**kinds, configuration=(folder / "configuration.yaml").read_text())


def dump(cluster: Cluster, namespace: str, configuration: str) -> Release:
    """Take what the operator has in a namespace."""
    selector = "serval.dev/name"
    children = [_typed(kind, one) for kind in CHILDREN for one in cluster.list(kind, namespace, selector)]
    models = [_typed("ModelDeployment", one) for one in cluster.list("ModelDeployment", namespace)]
    pods = [_typed("Pod", one) for one in cluster.list("Pod", namespace, selector)]
    return Release(models, children, pods, configuration)


def put_back(cluster: Cluster, store: Etcd, release: Release) -> None:
    """Create everything but pods again, with the owners of fields and the UIDs of owners that it had.

    Controllers of Kubernetes make ReplicaSets and pods.

    Parameters
    ----------
    store:
        Where the API server keeps its objects.
    """
    for model in release.models:
        _give_uid(store, cluster.create(_bare(model)), model["metadata"]["uid"])
        for entry in _entries(model, "status"):
            cluster.apply(_owned_object(model, entry), FIELD_MANAGER, "status")
    for child in release.children:
        for entry in _entries(child, ""):
            manifest = _owned_object(child, entry)
            if entry["operation"] == "Apply":
                cluster.apply(manifest, FIELD_MANAGER)
            else:
                cluster.create(manifest, FIELD_MANAGER)


def _give_uid(store: Etcd, model: Object, uid: str) -> None:
    """Let a custom resource, which is stored as JSON, have the UID that another one had."""
    metadata = model["metadata"]
    key = f"{PREFIX}serval.dev/modeldeployments/{metadata['namespace']}/{metadata['name']}"
    (stored,) = store.values(key).values()
    store.put({key: stored.replace(metadata["uid"].encode(), uid.encode())})


def state_of(pod: Object) -> Object:
    """Return a pod's status without what belongs to the machine that it ran on."""
    return {name: value for name, value in pod["status"].items() if name not in _PLACES}


def _typed(kind: str, item: Object) -> Object:
    """Return an item of a list, which carries neither its kind nor its version."""
    return {"apiVersion": API_VERSIONS.get(kind, "v1"), "kind": kind, **item}


def _documents(path: Path) -> Iterator[Object]:
    yield from yaml.safe_load_all(path.read_text())


def _bare(model: Object) -> Object:
    """Return a custom resource as its user wrote it."""
    metadata = {name: value for name, value in model["metadata"].items() if name not in _NEVER_PUT_BACK}
    return {
        "apiVersion": model["apiVersion"],
        "kind": model["kind"],
        "metadata": metadata,
        "spec": model["spec"],
    }


def _entries(obj: Object, subresource: str) -> list[Object]:
    """Return what the operator owns of an object; what it created comes before what it applied."""
    entries = [
        one
        for one in obj["metadata"]["managedFields"]
        if one["manager"] == FIELD_MANAGER and one.get("subresource", "") == subresource
    ]
    return sorted(entries, key=lambda one: bool(one["operation"] == "Apply"))


def _owned_object(obj: Object, entry: Object) -> Object:
    owned = _owned(obj, entry["fieldsV1"])
    identity = {name: obj["metadata"][name] for name in ("name", "namespace")}
    metadata = {**owned.get("metadata", {}), **identity}
    return {**owned, "apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": metadata}


def _owned(value: Any, fields: Mapping[str, Any]) -> Any:
    """Return the part of a value that ``fieldsV1`` lists.

    Its steps are ``f:NAME`` for a field, ``k:{KEY}`` for the item of a list with that key, ``v:VALUE`` for a
    member of a set, and ``.`` for the value itself, without what is in it.
    """
    steps = {step: inner for step, inner in fields.items() if step != "."}
    if not steps:
        return type(value)() if "." in fields else value
    if isinstance(value, list):
        return [part for item in value for part in _owned_items(item, steps)]
    return {step[2:]: _owned(value[step[2:]], inner) for step, inner in steps.items() if step[2:] in value}


def _owned_items(item: Any, steps: Mapping[str, Any]) -> Iterator[Any]:
    for step, inner in steps.items():
        key = json.loads(step[2:])
        if step.startswith("v:") and item == key:
            yield item
        elif step.startswith("k:") and key.items() <= item.items():
            yield {**key, **_owned(item, inner)}
