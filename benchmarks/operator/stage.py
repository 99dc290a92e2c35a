"""Where the measuring takes place: a control plane with quick controllers, fake nodes and one operator."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from tools.crds import crd_text

from benchmarks.operator.copies import copy_namespace
from benchmarks.operator.observer import Observer
from serval_lab import Lab
from serval_lab.control_plane import admin_pair, etcd_url
from serval_lab.etcd import Etcd
from serval_lab.fake_nodes import SAID
from serval_operator.api.crd import Crd
from serval_operator.reconcile.kind import Kind
from serval_operator.registry import KINDS
from support.chart import CHART, operator_kubeconfig
from support.cluster import Object
from support.generated_chart import generated_for
from support.kubelet import fetch_report
from support.models import model_deployment
from support.operator import OperatorProcess
from support.plane import CRD
from support.wait import until

NAMESPACE = "bench-"
"""Prefix of the namespaces."""
PER_NAMESPACE = 1000
"""ModelDeployments in one namespace. For each Service that changes, Kubernetes' own controllers look through
all pods of its namespace, so that more would measure them."""
OPERATOR_USER = "system:serviceaccount:serval-system:"
NODES = 20
PODS_PER_NODE = 100
"""With more than these nodes take, there are more nodes."""
START_LIMIT = 600.0
"""Seconds that an operator may take to begin: an API server that is behind etcd answers no listing."""
IN_FLIGHT = 32
"""Requests that create ModelDeployments, sent at the same time."""
COMPONENTS = ("kube-apiserver", "kube-controller-manager", "etcd", "kube-scheduler", "kwok")
WRITTEN = (
    *("serval.dev/modeldeployments", "deployments", "services/specs", "controllerrevisions", "configmaps"),
    *("poddisruptionbudgets", "horizontalpodautoscalers", "events"),
)
"""Where etcd keeps what the operator writes."""
COPIED = (
    *("/apis/serval.dev/v1alpha1/modeldeployments", "/apis/apps/v1/deployments", "/api/v1/services"),
    *("/apis/apps/v1/controllerrevisions", "/api/v1/pods"),
)
"""Of what is copied in etcd, what a new operator lists."""
CATCH_UP_LIMIT = 600.0
"""Seconds that the API server may take to read what etcd holds."""
_READ_BUFFER = 2**22
"""Bytes; a line of a watch is one object."""


@dataclass
class Stage:
    """What a measurement works with.

    Attributes
    ----------
    plane:
        The control plane.
    identity:
        Kubeconfig of the operator, with the permissions that the chart gives it.
    folder:
        For files of the operator.
    session:
        Of an administrator, with the API server as its base.
    observer:
        Watches the namespace.
    module:
        What runs: the operator, or one with kinds of tests.
    operator:
        The operator that runs.
    """

    plane: Lab
    identity: Path
    folder: Path
    session: aiohttp.ClientSession
    observer: Observer
    module: str = "serval_operator"
    operator: OperatorProcess = field(init=False)
    _runs: int = 0

    def start_operator(self, *, wait: bool = True) -> None:
        """Start an operator in place of the last one."""
        self._runs += 1
        patient = {"SERVAL_START_SECONDS": f"{START_LIMIT:.0f}"}
        folder = self.folder / f"operator-{self._runs}"
        self.operator = OperatorProcess(self.identity, folder, module=self.module, **patient)
        self.operator.start(wait=wait, limit=START_LIMIT)

    async def create(self, count: int) -> None:
        """Create ModelDeployments as quickly as the API server takes them."""
        places = asyncio.Semaphore(IN_FLIGHT)

        async def create(number: int) -> None:
            async with places:
                await self.create_one(number)

        await asyncio.gather(*(create(number) for number in range(count)))

    async def create_one(self, number: int) -> None:
        """Create a ModelDeployment of one replica."""
        # The fake kubelet lets the fetch container say what a real one would.
        said = {"podMetadata": {"annotations": {SAID: fetch_report()}}}
        namespace = _namespace(number)
        await self.post("modeldeployments", model_deployment(f"model-{number}", namespace, **said))

    async def post(self, plural: str, manifest: Object) -> None:
        """Create a custom resource."""
        await self._send("POST", _path(plural, manifest), manifest, "application/json")

    async def write_status(self, plural: str, manifest: Object) -> None:
        """Write the status of a custom resource."""
        path = f"{_path(plural, manifest)}/{manifest['metadata']['name']}/status"
        body = {"status": manifest["status"]}
        await self._send("PATCH", path, body, "application/merge-patch+json")

    async def _send(self, method: str, path: str, body: Object, content: str) -> None:
        async with self.session.request(
            method, path, data=json.dumps(body), headers={"Content-Type": content}
        ) as answer:
            assert answer.status in (200, 201), await answer.text()
            await answer.read()

    def copy(self, count: int) -> None:
        """Bring those of the first namespace to so many, by copies in all others."""
        store = Etcd(etcd_url(self.plane.context))
        try:
            for first in range(PER_NAMESPACE, count, PER_NAMESPACE):
                copy_namespace(store, _namespace(0), _namespace(first))
        finally:
            store.close()
        for path in COPIED:
            listing = ("get", "--raw", f"{path}?limit=1")
            until(
                f"the API server to have seen all of {path}",
                lambda listing=listing: self.plane.kubectl(*listing, check=False).returncode == 0,
                limit=CATCH_UP_LIMIT,
            )

    def written(self) -> dict[str, int]:
        """How often each object was written that is of a kind that the operator writes, by key."""
        store = Etcd(etcd_url(self.plane.context))
        try:
            kinds = [store.versions(f"/registry/{kind}/{NAMESPACE}") for kind in WRITTEN]
            return {key: count for kind in kinds for key, count in kind.items()}
        finally:
            store.close()

    def pods(self) -> set[str]:
        """Keys of all pods; a pod that is made anew has another."""
        store = Etcd(etcd_url(self.plane.context))
        try:
            return set(store.versions(f"/registry/pods/{NAMESPACE}"))
        finally:
            store.close()

    def pids(self) -> dict[str, int]:
        """Process ids of the operator, of the control plane's parts and of this program."""
        found = {name: self.plane.context.process(name) for name in COMPONENTS}
        parts = {name: process.pid for name, process in found.items() if process}
        return {"operator": self.operator.pid, "benchmark": os.getpid(), **parts}


@asynccontextmanager
async def stage(
    count: int, kinds: Sequence[Kind] = (), module: str = "serval_operator"
) -> AsyncIterator[Stage]:
    """Set everything up for so many ModelDeployments; nothing is left at the end.

    The operator runs and has nothing to do.

    Parameters
    ----------
    kinds:
        Kinds of tests beside the operator's own.
    module:
        The operator that reconciles them.
    """
    # kwok may be late with leases while two cores are busy, and no node is to be missed for that.
    plane = Lab("serval-bench-operator", (), fast=True, kwok=True, node_grace=86400.0)
    with plane, tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _prepare(plane, count, [kind.crd for kind in kinds])
        chart = generated_for([*KINDS, *kinds], folder) if kinds else CHART
        identity = operator_kubeconfig(plane, folder, chart=chart)
        async with _session(plane) as session:
            made = Stage(plane, identity, folder, session, Observer(session), module)
            made.start_operator()
            await made.observer.start()
            try:
                yield made
            finally:
                made.operator.kill()
                await made.observer.stop()


def _prepare(plane: Lab, count: int, crds: Sequence[Crd]) -> None:
    plane.kubectl("apply", "--server-side", "-f", str(CRD))
    for crd in crds:
        plane.kubectl("apply", "--server-side", "-f", "-", stdin=crd_text(crd))
    for plural in ("modeldeployments", *(crd.plural for crd in crds)):
        listing = ("get", plural, "-A")
        until(
            "the new kind",
            lambda listing=listing: plane.kubectl(*listing, check=False).returncode == 0,
        )
    nodes = max(NODES, count // PODS_PER_NODE)
    plane.add_fake_nodes(nodes, cpu="10000", memory="100Ti", pods=2 * count // nodes + 100)
    plane.kubectl("taint", "nodes", "--all", "serval-lab/fake-node-")  # there are no others to be spared
    for first in range(0, count, PER_NAMESPACE):
        namespace = _namespace(first)
        plane.kubectl("create", "namespace", namespace)
        account = ("get", "serviceaccount", "default", "-n", namespace)
        until(
            "the ServiceAccount",
            lambda account=account: plane.kubectl(*account, check=False).returncode == 0,
        )


def _path(plural: str, manifest: Object) -> str:
    return f"/apis/serval.dev/v1alpha1/namespaces/{manifest['metadata']['namespace']}/{plural}"


def _namespace(number: int) -> str:
    """Namespace of the ModelDeployment of that number."""
    return f"{NAMESPACE}{number // PER_NAMESPACE}"


@asynccontextmanager
async def _session(plane: Lab) -> AsyncIterator[aiohttp.ClientSession]:
    pair = admin_pair(plane.context)
    tls = ssl.create_default_context(cafile=str(plane.ca))
    tls.load_cert_chain(pair.cert, pair.key)
    async with aiohttp.ClientSession(
        plane.url,
        connector=aiohttp.TCPConnector(ssl=tls, limit=0),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
        read_bufsize=_READ_BUFFER,
    ) as session:
        yield session
