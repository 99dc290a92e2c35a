"""What a node's programs read: kubelet, containerd, CNI. Pure, but for the size of the machine."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from serval_lab.pki import CLUSTER_DOMAIN
from serval_lab.spec import NodeSpec

MI = 1024 * 1024
CONTROL_PLANE_MI = 1536
"""Memory, in MiB, that is kept for the control plane and never offered to pods."""
CNI_FOLDER = "/run/cni/net.d"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"


@dataclass(frozen=True)
class Machine:
    """Size of the machine.

    Attributes
    ----------
    millicores
        CPU, in thousandths of a core.
    memory
        MiB.
    disk
        MiB of the file system that holds the nodes' images and volumes.
    """

    millicores: int
    memory: int
    disk: int

    @classmethod
    def measure(cls, folder: Path) -> Machine:
        """Measure the machine; `folder` is on the file system that the nodes use."""
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        cores = os.cpu_count() or 1
        return cls(cores * 1000, memory // MI, shutil.disk_usage(folder).total // MI)


def reserved(machine: Machine, nodes: Sequence[NodeSpec], position: int) -> dict[str, str]:
    """Return what a node's kubelet must hold back so that all nodes together offer one machine.

    Every kubelet sees the whole machine. Without this the scheduler would place the machine's CPU and
    memory once per node.

    Parameters
    ----------
    machine
        Size of the machine.
    nodes
        All nodes.
    position
        Which of them.
    """
    node = nodes[position]
    part = node.share / sum(other.share for other in nodes)
    offered_cpu = int(machine.millicores * part) if node.cpu is None else _millicores(node.cpu)
    offered_memory = (
        int(max(machine.memory - CONTROL_PLANE_MI, machine.memory // 2) * part)
        if node.memory is None
        else _mebibytes(node.memory)
    )
    return {
        "cpu": f"{max(machine.millicores - offered_cpu, 0)}m",
        "memory": f"{max(machine.memory - offered_memory, 0)}Mi",
        "ephemeral-storage": f"{machine.disk - int(machine.disk * part)}Mi",
    }


def _millicores(quantity: str) -> int:
    if quantity.endswith("m"):
        return int(quantity[:-1])
    return int(float(quantity) * 1000)


def _mebibytes(quantity: str) -> int:
    units = {"Ki": 1 / 1024, "Mi": 1, "Gi": 1024, "K": 1000 / MI, "M": 1e6 / MI, "G": 1e9 / MI}
    for suffix, factor in units.items():
        if quantity.endswith(suffix):
            return int(float(quantity.removesuffix(suffix)) * factor)
    return int(quantity) // MI


def kubelet(
    *,
    address: str,
    pods: IPv4Network,
    dns: str,
    pki: Path,
    node: NodeSpec,
    cgroup_root: str,
    reserve: dict[str, str],
) -> dict[str, Any]:
    """Return a KubeletConfiguration.

    Parameters
    ----------
    address
        Address of the node.
    pods
        Subnet of its pods.
    dns
        Address of the cluster's DNS.
    pki
        Folder of the certificates.
    node
        The node.
    cgroup_root
        Its own cgroup.
    reserve
        What it holds back of the machine.
    """
    never = dict.fromkeys(
        (
            "memory.available",
            "nodefs.available",
            "nodefs.inodesFree",
            "imagefs.available",
            "imagefs.inodesFree",
        ),
        "0%",
    )
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": address,
        "healthzBindAddress": "127.0.0.1",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(pki / f"node-{node.name}.crt"),
        "tlsPrivateKeyFile": str(pki / f"node-{node.name}.key"),
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup_root,
        "failCgroupV1": False,  # cgroup v1 is refused since Kubernetes 1.35
        "failSwapOn": False,
        "oomScoreAdj": 0,  # lowering it takes CAP_SYS_RESOURCE
        "resolvConf": "",  # the machine's name servers cannot be reached from a pod
        "clusterDNS": [dns],
        "clusterDomain": CLUSTER_DOMAIN,
        "podCIDR": str(pods),
        # The disk is the machine's: how full it is says nothing about the lab.
        "evictionHard": never,
        "imageGCHighThresholdPercent": 100,
        "systemReserved": reserve,
        # Changes of devices and node conditions show within a second; unchanged nodes write rarely.
        "nodeStatusUpdateFrequency": "1s",
        "nodeStatusReportFrequency": "1m",
        "nodeLeaseDurationSeconds": 8,
        "serializeImagePulls": False,
        "maxParallelImagePulls": 4,
    }


def containerd(*, sandbox_image: str, hosts: Path, cni_bins: Sequence[Path], runc: Path) -> str:
    """Return containerd's configuration.

    Parameters
    ----------
    sandbox_image
        Reference of the pause image.
    hosts
        Folder with a ``hosts.toml`` for each registry.
    cni_bins
        Folders of the CNI plugins.
    runc
        Path of runc.
    """
    bins = json.dumps([str(folder) for folder in cni_bins])
    return f"""version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "{CONTAINERD_SOCKET}"
[plugins."io.containerd.internal.v1.opt"]
  path = "/run/containerd/opt"
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "{sandbox_image}"
  [plugins."io.containerd.cri.v1.images".registry]
    config_path = "{hosts}"
[plugins."io.containerd.cri.v1.runtime"]
  # Without CAP_SYS_RESOURCE no score may be lowered, and every sandbox would fail.
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = {bins}
    conf_dir = "{CNI_FOLDER}"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      BinaryName = "{runc}"
      SystemdCgroup = false
"""


def cni(pods: IPv4Network) -> dict[str, Any]:
    """Return the CNI configuration of a node: a bridge with addresses from its subnet.

    Packets are not masqueraded and the node has no default route, so nothing leaves the machine.
    """
    return {
        "cniVersion": "1.0.0",
        "name": "lab",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": True,
                "ipMasq": False,
                "hairpinMode": True,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": str(pods)}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                    "dataDir": "/var/lib/cni",
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def kube_proxy_flags(*, kubeconfig: Path, node: str, address: str, pods: IPv4Network) -> list[str]:
    """Return kube-proxy's arguments. The zeros keep it from writing sysctls that belong to the machine."""
    return [
        f"--kubeconfig={kubeconfig}",
        f"--hostname-override={node}",
        "--proxy-mode=iptables",
        f"--cluster-cidr={pods}",
        f"--bind-address={address}",
        "--healthz-bind-address=127.0.0.1",
        "--metrics-bind-address=127.0.0.1",
        "--oom-score-adj=0",
        "--conntrack-max-per-core=0",
        "--conntrack-tcp-timeout-established=0",
        "--conntrack-tcp-timeout-close-wait=0",
    ]
