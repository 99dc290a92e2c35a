"""What the end-to-end tests of the operator stand on: one namespace, its model store, short ways to act."""

from __future__ import annotations

import io
import tarfile
from typing import Any

from serval_lab import Lab
from support.cluster import Cluster, Object
from support.ledger import Ledger
from support.models import model_deployment
from support.store import ModelStore

CA_CONFIG_MAP = "store-ca"
CA_KEY = "ca.crt"
OPERATOR_NODE = "fpga-0"
"""Where the operator runs: no test takes this node away."""
PULLS_ALWAYS = "pulls-always"
"""Runtime whose image is asked of the registry for each pod."""
LIKE_OFFICIAL = "like-official"
"""Runtime that stands for TensorFlow's official image, which cannot be had here: our own without extras."""
ARCHIVE = "digits.tar.gz"
"""In the store: the digits as an ONNX model, which a server loads within a second."""
TENSORFLOW_ARCHIVE = "digits-tensorflow.tar.gz"
"""The digits as a SavedModel, for tests of what only TensorFlow does: it takes seconds to import."""
BOTH = ["TensorFlow", "ONNX"]
"""Frameworks of runtimes that are to fail, or serve, whatever the model is."""
RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}


class Stand:
    """One namespace of a test.

    Parameters
    ----------
    lab:
        Whose cluster it is.
    namespace:
        Pod Security "restricted" is enforced in it.
    store:
        Serves `ARCHIVE` and `TENSORFLOW_ARCHIVE`.
    """

    def __init__(self, lab: Lab, cluster: Cluster, namespace: str, store: ModelStore) -> None:
        self.lab = lab
        self.cluster = cluster
        self.namespace = namespace
        self.store = store
        self.ledger = Ledger()

    @property
    def model(self) -> dict[str, Any]:
        """The good model, in ONNX."""
        return {**self.tensorflow(ARCHIVE), "framework": "ONNX"}

    def tensorflow(self, archive: str = TENSORFLOW_ARCHIVE) -> dict[str, Any]:
        """A model in TensorFlow: the good one, or what another archive of the store holds."""
        return {"uri": self.uri(archive), "caConfigMapRef": {"name": CA_CONFIG_MAP, "key": CA_KEY}}

    def uri(self, path: str, **where: int) -> str:
        """Address of a path in the store."""
        return self.store.uri(path, **where)

    def create(self, name: str, **spec: Any) -> Object:
        """Create a ModelDeployment, of the good model unless told otherwise."""
        self.ledger.act()
        return self.cluster.create(model_deployment(name, self.namespace, **{"model": self.model, **spec}))

    def patch(self, name: str, **spec: Any) -> Object:
        """Merge fields into a ModelDeployment's spec."""
        self.ledger.act()
        return self.cluster.patch("ModelDeployment", self.namespace, name, {"spec": spec})

    def failing(self, name: str, reason: str, limit: float = 90.0) -> Object:
        """Wait until a ModelDeployment is not ready for this reason."""
        found = self.cluster.until_condition(self.namespace, name, "Ready", "False", reason, limit)
        self.ledger.note(found)
        return found

    def serving(self, name: str, limit: float = 240.0) -> Object:
        """Wait until a ModelDeployment serves."""
        return self.cluster.until_condition(self.namespace, name, "Ready", "True", "Serving", limit)

    def pods(self, name: str) -> list[Object]:
        """Pods of a ModelDeployment that are not being deleted."""
        pods = self.cluster.list("Pod", self.namespace, selector=f"serval.dev/name={name}")
        return [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]

    def on_node(self, node: str) -> dict[str, Any]:
        """Fields that keep the pods on one node."""
        return {"scheduling": {"nodeSelector": {"kubernetes.io/hostname": node}}}

    def copy_ca(self, name: str) -> None:
        """Make the ConfigMap with the store's authority, under this name."""
        self.cluster.create(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": name, "namespace": self.namespace},
                "data": {CA_KEY: self.store.certificate.authority},
            }
        )


def without(archive: bytes, part: str) -> bytes:
    """An archive without the members whose path holds ``part``."""
    return _repack(archive, lambda member: part not in member.name)


def empty_archive() -> bytes:
    """An archive that holds no model."""
    return _archive({"1/README": b"nothing here"})


def evil_archive() -> bytes:
    """An archive that tries to write beside its folder."""
    return _archive({"../../escaped": b"x"})


def _archive(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def _repack(archive: bytes, keep: Any) -> bytes:
    packed = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as old,
        tarfile.open(fileobj=packed, mode="w:gz") as new,
    ):
        for member in old.getmembers():
            if keep(member):
                new.addfile(member, old.extractfile(member) if member.isfile() else None)
    return packed.getvalue()
