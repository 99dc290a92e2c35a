"""Fake nodes by the hundred, beside the real ones: Node objects whose kubelet is kwok.

Pods on them are said to run and never do; what their init containers are to have said stands in the pod's
annotation `SAID`. Fake nodes are tainted, so that only pods which tolerate `TAINT` land there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from serval_lab import control_plane
from serval_lab.context import Context
from serval_lab.kube import KubeClient, is_ready
from serval_lab.wait import wait_for

KWOK = "kwok"
ANNOTATION = "kwok.x-k8s.io/node"
TAINT = {"key": "serval-lab/fake-node", "value": "true", "effect": "NoSchedule"}
LABEL = "serval-lab/fake-node"
SAID = "serval-lab/init-containers-said"
PODS = 110
"""Pods that a node takes by Kubernetes' default."""
READY_LIMIT = 60.0
_PER_NODE = 0.2

_NODE_READY = """{{ $now := Now }}
phase: Running
conditions:
- type: Ready
  status: "True"
  reason: FakeNode
  message: kwok plays this kubelet
  lastHeartbeatTime: {{ $now | Quote }}
  lastTransitionTime: {{ or .metadata.creationTimestamp $now | Quote }}
addresses:
- type: InternalIP
  address: {{ NodeIP | Quote }}
- type: Hostname
  address: {{ NodeName | Quote }}
"""

_TRUE = '{status: "True", lastTransitionTime: {{ $now | Quote }}, type: '
_POD_RUNS = (
    """{{ $now := Now }}
phase: Running
startTime: {{ $now | Quote }}
conditions:
"""
    + "".join(f"- {_TRUE}{kind}}}\n" for kind in ("Initialized", "ContainersReady", "Ready"))
    + """initContainerStatuses:
{{ range .spec.initContainers }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  ready: true
  restartCount: 0
  state:
    terminated:
      exitCode: 0
      reason: Completed
      {{ with $.metadata.annotations }}{{ with index . """
    + f'"{SAID}"'
    + """ }}message: {{ . | Quote }}{{ end }}{{ end }}
      startedAt: {{ $now | Quote }}
      finishedAt: {{ $now | Quote }}
{{ end }}
containerStatuses:
{{ range .spec.containers }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  ready: true
  started: true
  restartCount: 0
  state:
    running: {startedAt: {{ $now | Quote }}}
{{ end }}
{{ range PodIPsWith .spec.nodeName false .metadata.uid .metadata.name .metadata.namespace }}
podIP: {{ . | Quote }}
podIPs:
- ip: {{ . | Quote }}
{{ end }}
"""
)


def _stage(
    name: str, kind: str, expressions: Sequence[tuple[str, str, str | None]], do: Any
) -> dict[str, Any]:
    """Return one kwok Stage: for objects that match the expressions (path, operator, value), `do`."""
    return {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "Stage",
        "metadata": {"name": name},
        "spec": {
            "resourceRef": {"apiGroup": "v1", "kind": kind},
            "selector": {
                "matchExpressions": [
                    {"key": key, "operator": operator} | ({"values": [value]} if value else {})
                    for key, operator, value in expressions
                ]
            },
            "next": do,
        },
    }


def stages() -> list[dict[str, Any]]:
    """Return what kwok does: nodes become Ready, pods run, deleted pods go."""
    ready = '.status.conditions.[] | select( .type == "Ready" ) | .status'
    deleted = ".metadata.deletionTimestamp"
    return [
        _stage("node-ready", "Node", [(ready, "NotIn", "True")], {"statusTemplate": _NODE_READY}),
        _stage(
            "pod-runs",
            "Pod",
            [(deleted, "DoesNotExist", None), (".status.phase", "In", "Pending")],
            {"statusTemplate": _POD_RUNS},
        ),
        _stage("pod-deleted", "Pod", [(deleted, "Exists", None)], {"delete": True}),
    ]


def command(context: Context) -> list[Any]:
    """Return kwok's command line, and write the configuration that it names."""
    config = context.folder.path / "kwok.yaml"
    config.write_text("\n---\n".join(json.dumps(stage, indent=1) for stage in stages()))
    return [
        context.binaries.path(KWOK),
        f"--kubeconfig={context.folder.kubeconfig}",
        f"--config={config}",
        "--manage-all-nodes=false",
        f"--manage-nodes-with-annotation-selector={ANNOTATION}=fake",
        "--node-lease-duration-seconds=40",  # without leases the nodes go NotReady under load
        f"--node-ip={context.host}",
    ]


def add(
    context: Context,
    count: int,
    *,
    prefix: str,
    offers: Mapping[str, str],
    labels: Mapping[str, str],
    pods: int = PODS,
) -> list[str]:
    """Add fake nodes that offer these quantities, wait until they are Ready, and return their names."""
    api = control_plane.client(context)
    names = [f"{prefix}-{number}" for number in range(count)]
    offered = {"pods": str(pods), **offers}
    for name in names:
        body = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": name,
                "annotations": {ANNOTATION: "fake"},
                "labels": {LABEL: "true", "kubernetes.io/hostname": name, **labels},
            },
            "spec": {"taints": [TAINT]},
            "status": {"allocatable": offered, "capacity": offered},
        }
        api.request("POST", "/api/v1/nodes", body)
    wait_for(
        f"{count} fake nodes Ready",
        lambda: _ready(api, names),
        READY_LIMIT + _PER_NODE * count,
        log=context.log(KWOK),
        alive=context.alive(KWOK),
        every=0.2,
    )
    api.close()
    return names


def _ready(api: KubeClient, names: Sequence[str]) -> bool:
    found = api.nodes()
    return all(name in found and is_ready(found[name]) for name in names)
