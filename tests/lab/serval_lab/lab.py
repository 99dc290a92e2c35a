"""The lab, as fixtures and the command line use it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from serval_lab import cleanup, control_plane, etcd, fake_nodes, lifecycle, nodes, services, tools
from serval_lab.binaries import ensure
from serval_lab.context import Context
from serval_lab.errors import LabError
from serval_lab.faults import EtcdServer, Server
from serval_lab.handles import Device, Node
from serval_lab.kube import KubeClient
from serval_lab.pins import ALL
from serval_lab.push_registry import PushRegistry
from serval_lab.settings import Settings
from serval_lab.shell import run
from serval_lab.spec import DEFAULT_NODES, NodeSpec, check_nodes
from serval_lab.state import HPA_PERIOD, Options, StateFolder
from serval_lab.status import LabStatus, read_status

DEFAULT_NAME = "serval"
COMMAND_LIMIT = 120.0

Progress = Callable[[str], None]


class Lab:
    """A real Kubernetes on this machine.

    An object is a handle: it may bring a lab up, or use one that another process brought up.

    Parameters
    ----------
    name
        Name of the lab: small letters, digits and '-', at most 40. One lab per name.
    nodes
        The nodes; `DEFAULT_NODES` where the lab is not up yet, or those it has. ``()`` is a control
        plane alone, on loopback, without root.
    settings
        Folders; from the environment by default.
    controllers, scheduler, fast, kwok, node_grace, metrics, prometheus, hpa_period
        See `serval_lab.state.Options`.
    registry_data
        Folder of the registry's data; by default one per name in the cache, which outlives the lab.
    """

    def __init__(
        self,
        name: str = DEFAULT_NAME,
        nodes: Sequence[NodeSpec] | None = None,
        *,
        settings: Settings | None = None,
        controllers: bool = True,
        scheduler: bool = True,
        fast: bool = False,
        kwok: bool = False,
        node_grace: float = 16.0,
        registry_data: Path | None = None,
        metrics: bool = False,
        prometheus: bool = False,
        hpa_period: float = HPA_PERIOD,
    ) -> None:
        self.settings = settings or Settings.from_environment()
        self.name = name
        self.folder = StateFolder(self.settings.state, name)
        self._wanted = None if nodes is None else tuple(nodes)
        check_nodes(self._wanted or ())
        data = registry_data or self.settings.cache / "registry" / name
        self._options = Options(
            controllers, scheduler, fast, kwok, node_grace, str(data), metrics, prometheus, hpa_period
        )
        self._context: Context | None = None

    # --- life

    def up(self, progress: Progress | None = None) -> Self:
        """Bring the lab up; where it is up, see that it answers and start again what has ended.

        Parameters
        ----------
        progress
            Receives one line for each step.

        Raises
        ------
        LabError
            If it cannot be, with the end of the log that explains it; then nothing of the lab is left.
            Also if a lab of this name is up with other nodes.
        """
        say = progress or _silent
        wanted = DEFAULT_NODES if self._wanted is None else self._wanted
        lacking = lifecycle.missing_for_nodes() if wanted else None
        if lacking:
            raise LabError(lacking)
        known = self.folder.load()
        options = known.options.plus(self._options) if known else self._options
        binaries = ensure(lifecycle.required(bool(wanted), options), self.settings, say)
        with self.folder.locked(say):
            state = self.folder.load()
            if state is not None:
                context = Context(self.folder, state, binaries, self.settings.python, say)
                if lifecycle.answers(context):
                    return self._keep(context, options)
            if self.folder.path.exists():
                say("removing the remains of an earlier lab")
            self._sweep()
            try:
                state = lifecycle.claim(self.folder, wanted, self._options)
                context = Context(self.folder, state, binaries, self.settings.python, say)
                lifecycle.bring_up(context)
            except BaseException:
                self._give_up(say)
                raise
        self._context = context
        return self

    def _keep(self, context: Context, options: Options) -> Self:
        if self._wanted is not None and list(self._wanted) != list(context.state.nodes):
            names = ", ".join(node.name for node in context.state.nodes) or "none"
            raise LabError(f"lab {self.name} is up with other nodes ({names}); take it down first")
        context.state.options = options
        context.folder.save(context.state)
        mended = lifecycle.mend(context)
        context.say(f"lab {self.name} is up" + (f"; started again: {', '.join(mended)}" if mended else ""))
        self._context = context
        return self

    def _give_up(self, say: Progress) -> None:
        """Keep the logs of a start that failed, remove the rest."""
        kept = self.settings.cache / "failed" / self.name
        shutil.rmtree(kept, ignore_errors=True)
        if self.folder.logs.is_dir():
            shutil.copytree(self.folder.logs, kept, ignore_dangling_symlinks=True)
            say(f"all logs of the failed start: {kept}")
        self._sweep()

    def _sweep(self) -> None:
        self._context = None
        cleanup.sweep(self.folder, root_user=nodes.is_root())

    def down(self, *, purge: bool = False) -> None:
        """Take the lab down; whatever state it is in, nothing of it is left. Nothing happens where it is not.

        Parameters
        ----------
        purge
            Delete the registry's data too.

        Raises
        ------
        LabError
            If something cannot be removed; it says what.
        """
        with self.folder.locked():
            self._sweep()
        if purge:
            services.purge(Path(self._options.registry_data))

    def __enter__(self) -> Self:
        return self.up()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    def status(self) -> LabStatus:
        """Return what is up."""
        if self.folder.load() is None:
            return LabStatus("broken" if self.folder.path.exists() else "down")
        return read_status(self.context)

    # --- what it offers

    @property
    def context(self) -> Context:
        """The running lab's folder, state and binaries.

        Raises
        ------
        LabError
            If it is not up.
        """
        if self._context is None:
            state = self.folder.load()
            if state is None:
                raise LabError(f"lab {self.name} is not up; run: python -m serval_lab up --name {self.name}")
            binaries = ensure(lifecycle.required(bool(state.nodes), state.options), self.settings, _silent)
            self._context = Context(self.folder, state, binaries, self.settings.python, _silent)
        return self._context

    @property
    def kubeconfig(self) -> Path:
        """Kubeconfig of the administrator; its context is called ``serval-lab-NAME``."""
        return self.context.folder.kubeconfig

    @property
    def kube_context(self) -> str:
        """Name of the kubeconfig's context."""
        return control_plane.context_name(self.name)

    @property
    def host(self) -> str:
        """Address of this machine as nodes and pods see it: the bridge's, or loopback without nodes."""
        return self.context.host

    @property
    def url(self) -> str:
        """URL of the API server."""
        return self.context.apiserver

    @property
    def registry(self) -> str:
        """HOST:PORT of the lab's registry (plain HTTP), the prefix of images that pods pull."""
        return services.registry_address(self.context)

    @property
    def ca(self) -> Path:
        """Certificate of the authority that signed the API server's certificate."""
        return self.context.folder.pki / "ca.crt"

    @property
    def audit_log(self) -> Path:
        """The API server's audit log: a JSON event per line and request, level Metadata."""
        return control_plane.audit_log(self.context)

    def log(self, component: str) -> Path:
        """Return the log of a component, such as ``kube-apiserver`` or ``gpu-0-kubelet``."""
        return self.context.log(component)

    def client(self) -> KubeClient:
        """Return a small client of the API server, as administrator; close it after use."""
        return control_plane.client(self.context)

    def kubectl(
        self, *arguments: str, stdin: str | None = None, limit: float = COMMAND_LIMIT, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl against this lab and return what it printed.

        Raises
        ------
        LabError
            If it fails while `check` is set, or takes longer than `limit` seconds.
        """
        return self._command("kubectl", arguments, stdin, limit, check=check)

    def helm(
        self, *arguments: str, stdin: str | None = None, limit: float = 600.0, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run Helm against this lab; its caches are the lab's own. Otherwise as `kubectl`."""
        return self._command("helm", arguments, stdin, limit, check=check)

    def _command(
        self, name: str, arguments: Sequence[str], stdin: str | None, limit: float, *, check: bool
    ) -> subprocess.CompletedProcess[str]:
        binaries = ensure([binary for binary in ALL if binary.name == name], self.settings, _silent)
        return run(
            [binaries.path(name), *arguments], limit=limit, stdin=stdin, env=self.environment(), check=check
        )

    def environment(self) -> dict[str, str]:
        """Return an environment in which kubectl, Helm and clients use this lab."""
        return tools.environment(self.context)

    def load_image(self, image: Path, repository: str) -> str:
        """Push an image to the lab's registry, unless the tag there is this image already.

        Parameters
        ----------
        image
            OCI layout of one image: a folder or a tar archive (``buildah push NAME oci-archive:FILE``).
        repository
            NAME:TAG in the registry.

        Returns
        -------
        str
            The reference for pods: ``HOST:5000/NAME:TAG``.
        """
        return services.push(self.context, image, repository)

    def node(self, name: str) -> Node:
        """Return a handle of one node."""
        return Node(self.context, name)

    def device(self, node: str, resource: str) -> Device:
        """Return a handle of one node's fake device plugin; it may be a new resource."""
        return Device(self.context, node, resource)

    def server(self, name: str) -> Server:
        """Return a handle of one program of the control plane, such as ``kube-scheduler``."""
        return Server(self.context, name)

    @property
    def apiserver(self) -> Server:
        """A handle of kube-apiserver."""
        return self.server(control_plane.APISERVER)

    @property
    def etcd(self) -> EtcdServer:
        """A handle of etcd."""
        return EtcdServer(self.context)

    @property
    def registry_server(self) -> Server:
        """A handle of the registry."""
        return self.server(services.REGISTRY)

    def push_registry(self, *, tls: bool = True) -> PushRegistry:
        """Return the registry to push to, started unless it runs; for a lab with nodes."""
        registry = PushRegistry(self.context, tls=tls)
        registry.start()
        return registry

    def add_fake_nodes(
        self,
        count: int,
        *,
        prefix: str = "fake",
        devices: Mapping[str, int] | None = None,
        labels: Mapping[str, str] | None = None,
        cpu: str = "32",
        memory: str = "256Gi",
        pods: int = fake_nodes.PODS,
    ) -> list[str]:
        """Add nodes that kwok plays (needs ``kwok=True``) and wait until they are Ready.

        They are tainted ``serval-lab/fake-node=true:NoSchedule`` and labelled ``serval-lab/fake-node=true``.
        Init containers on them end at once, with the message that the pod's annotation
        ``serval-lab/init-containers-said`` holds.

        Returns
        -------
        list[str]
            Their names: PREFIX-0, PREFIX-1, ...
        """
        if not self.context.state.options.kwok:
            raise LabError("fake nodes need a lab that was brought up with kwok=True (--kwok)")
        offers = {
            "cpu": cpu,
            "memory": memory,
            **{name: str(units) for name, units in (devices or {}).items()},
        }
        return fake_nodes.add(
            self.context, count, prefix=prefix, offers=offers, labels=labels or {}, pods=pods
        )

    def mark(self) -> None:
        """Note what is there now as what `reset` goes back to; `up` does so too."""
        store = etcd.Etcd(control_plane.etcd_url(self.context))
        etcd.mark(store, lifecycle.baseline(self.context))
        store.close()

    def reset(self) -> int:
        """Delete all objects made since `mark`, behind the API server's back; return how many.

        Finalizers and grace periods are passed over, watchers see DELETED events. For control planes
        without nodes: a kubelet may still write the status of a pod that it has not yet missed.
        """
        store = etcd.Etcd(control_plane.etcd_url(self.context))
        try:
            return etcd.reset(store, lifecycle.baseline(self.context))
        finally:
            store.close()


class ControlPlane(Lab):
    """A control plane alone, bound to loopback on free ports: needs no root.

    Parameters
    ----------
    name
        Name of the lab.
    settings
        Folders; from the environment by default.
    controllers
        Run kube-controller-manager. Without it nothing is garbage collected, no Deployment makes pods and
        no namespace is ever deleted whole; it starts quicker and is quieter.
    scheduler
        Run kube-scheduler.
    """

    def __init__(
        self,
        name: str = "serval-control-plane",
        *,
        settings: Settings | None = None,
        controllers: bool = True,
        scheduler: bool = False,
        fast: bool = True,
        kwok: bool = False,
    ) -> None:
        super().__init__(
            name, (), settings=settings, controllers=controllers, scheduler=scheduler, fast=fast, kwok=kwok
        )


def _silent(_text: str) -> None:
    """Say nothing."""
