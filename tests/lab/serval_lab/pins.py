"""What the lab is made of: every binary, its version and how Go builds it.

Kubernetes and etcd are pinned by ``tests/lab/binaries/go.mod`` and ``go.sum``. The others cannot share
one module with them (their requirements contradict each other), so they are installed by
``path@version``, or built in a module that requires nothing else; Go checks those against its checksum
database.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

GO = "1.26.8"
KUBERNETES = "1.36.3"
MODULE_DIR = Path(__file__).resolve().parents[1] / "binaries"

_VERSION_PACKAGES = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")


def _version_flags(version: str) -> str:
    """Return the linker flags that write `version` into a Kubernetes binary.

    Without them it calls itself v0.0.0-master+$Format:%H$, and the version checks of Helm and kubectl
    go wrong.
    """
    major, minor, _ = version.split(".")
    values = {"gitVersion": f"v{version}", "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    return " ".join(
        f"-X {package}.{key}={value}" for package in _VERSION_PACKAGES for key, value in values.items()
    )


@dataclass(frozen=True)
class Binary:
    """One program of the lab.

    Attributes
    ----------
    name
        File name of the program.
    package
        Go package of its ``main``.
    version
        Version of its module; empty when the lab's own go.mod pins it.
    tags
        Go build tags, separated by commas.
    cgo
        Whether C code is linked in (needs a C compiler).
    ldflags
        Linker flags beyond ``-s -w``.
    debian
        Debian packages that the build needs.
    module
        Go module of `package`, where ``go install`` refuses it: its go.mod replaces modules, or has no list
        of versions at the proxy. It is then built as the one requirement of an empty module.
    """

    name: str
    package: str
    version: str = ""
    tags: str = ""
    cgo: bool = False
    ldflags: str = ""
    debian: tuple[str, ...] = ()
    module: str = ""

    @property
    def target(self) -> str:
        """What ``go build`` or ``go install`` is told to build."""
        return f"{self.package}@{self.version}" if self.version and not self.module else self.package


def _kubernetes(name: str) -> Binary:
    return Binary(
        name,
        f"k8s.io/kubernetes/cmd/{name}",
        tags="selinux,notest,grpcnotrace",
        ldflags=_version_flags(KUBERNETES),
    )


_CONTAINERD = "github.com/containerd/containerd/v2/cmd"
_CONTAINERD_TAGS = "no_btrfs,no_devmapper,no_zfs,no_aufs"
_CNI = "github.com/containernetworking/plugins/plugins"

CONTROL_PLANE: tuple[Binary, ...] = (
    _kubernetes("kube-apiserver"),
    _kubernetes("kube-controller-manager"),
    _kubernetes("kube-scheduler"),
    _kubernetes("kubectl"),
    Binary("etcd", "go.etcd.io/etcd/server/v3"),
)
"""What a control plane on loopback, without root, is made of."""

HELM = Binary("helm", "helm.sh/helm/v4/cmd/helm", "v4.2.4")
KWOK = Binary("kwok", "sigs.k8s.io/kwok/cmd/kwok", "v0.8.0")

METRICS_SERVER = Binary("metrics-server", "sigs.k8s.io/metrics-server/cmd/metrics-server", "v0.9.0")
PROMETHEUS: tuple[Binary, ...] = (
    Binary(
        "prometheus",
        "github.com/prometheus/prometheus/cmd/prometheus",
        "v0.315.0",
        # Of all that it can find targets by, Kubernetes alone; without its pages for browsers.
        "netgo,remove_all_sd,enable_kubernetes_sd",
        module="github.com/prometheus/prometheus",
    ),
    Binary(
        "prometheus-adapter",
        "sigs.k8s.io/prometheus-adapter/cmd/adapter",
        "v0.12.0",
        module="sigs.k8s.io/prometheus-adapter",
    ),
)
"""Metrics of an application's own, for autoscalers."""

NODES: tuple[Binary, ...] = (
    _kubernetes("kubelet"),
    _kubernetes("kube-proxy"),
    Binary("containerd", f"{_CONTAINERD}/containerd", "v2.4.2", _CONTAINERD_TAGS),
    Binary("containerd-shim-runc-v2", f"{_CONTAINERD}/containerd-shim-runc-v2", "v2.4.2", _CONTAINERD_TAGS),
    Binary("ctr", f"{_CONTAINERD}/ctr", "v2.4.2", _CONTAINERD_TAGS),
    # Without the seccomp tag every pod fails with "seccomp not supported".
    Binary(
        "runc",
        "github.com/opencontainers/runc",
        "v1.5.2",
        "seccomp",
        cgo=True,
        debian=("gcc", "libc6-dev", "libseccomp-dev", "pkg-config"),
    ),
    Binary("bridge", f"{_CNI}/main/bridge", "v1.9.1"),
    Binary("loopback", f"{_CNI}/main/loopback", "v1.9.1"),
    Binary("host-local", f"{_CNI}/ipam/host-local", "v1.9.1"),
    Binary("portmap", f"{_CNI}/meta/portmap", "v1.9.1"),
    Binary("pause", "serval.dev/lab/pause"),
    Binary("crane", "github.com/google/go-containerregistry/cmd/crane", "v0.22.1"),
    Binary("registry", "github.com/distribution/distribution/v3/cmd/registry", "v3.1.2"),
    Binary("coredns", "github.com/coredns/coredns", "v1.14.7"),
)
"""What real nodes, their registry and their DNS add; needs root to run."""

ALL: tuple[Binary, ...] = (*CONTROL_PLANE, *NODES, HELM, KWOK, METRICS_SERVER, *PROMETHEUS)


def pins_hash(module_dir: Path = MODULE_DIR) -> str:
    """Return the name of the cache folder: a hash of everything that shapes a binary.

    Parameters
    ----------
    module_dir
        Folder of go.mod, go.sum and the pause program.
    """
    digest = hashlib.sha256()
    for path in (module_dir / "go.mod", module_dir / "go.sum", module_dir / "pause" / "main.go"):
        digest.update(path.read_bytes())
    for binary in ALL:
        digest.update(repr(binary).encode())
    return digest.hexdigest()[:16]
