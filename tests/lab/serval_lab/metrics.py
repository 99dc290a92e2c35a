"""What autoscalers read: metrics-server, and Prometheus with its adapter for metrics of an application's own.

All of them run beside the API server and listen on loopback. The API server finds an added API by a Service
of type ExternalName: a Service's endpoints may not lie on loopback.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import urllib3

from serval_lab import control_plane, fake_nodes
from serval_lab.context import Context
from serval_lab.control_plane import ADAPTER, LOOPBACK, METRICS_SERVER
from serval_lab.kube import KubeClient
from serval_lab.wait import wait_for

PROMETHEUS = "prometheus"
START_LIMIT = 60.0
PUBLISH_LIMIT = 60.0
RESOLUTION = 10
"""Seconds between two looks of metrics-server; it takes no less."""
SCRAPE_EVERY = 2
"""Seconds between two looks of Prometheus."""

POD_SELECTOR = "app.kubernetes.io/managed-by=serval-operator"
PORT_NAME = "http"
METRICS_PATH = "/monitoring/prometheus/metrics"
"""Pods that Prometheus scrapes: where model servers have their metrics."""

_GROUPS = {METRICS_SERVER: ("metrics.k8s.io", "v1beta1"), ADAPTER: ("custom.metrics.k8s.io", "v1beta2")}


def start_metrics_server(context: Context) -> None:
    """Start metrics-server and wait until the API server passes requests on to it.

    It has figures of a node after two looks.
    """
    command = [
        *_added_api(context, METRICS_SERVER),
        f"--kubeconfig={context.folder.kubeconfig}",
        f"--kubelet-certificate-authority={context.folder.pki / 'ca.crt'}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--node-selector=!{fake_nodes.LABEL}",  # nobody answers there
        f"--metric-resolution={RESOLUTION}s",
        "--kubelet-request-timeout=5s",  # it must be below the resolution
    ]
    context.start(METRICS_SERVER, command)
    _publish(context, METRICS_SERVER)


def start_prometheus(context: Context) -> None:
    """Start Prometheus, which finds the pods of model servers by itself, and wait until it answers."""
    config = context.folder.path / "prometheus.json"
    config.write_text(json.dumps(prometheus_config(context.folder.kubeconfig), indent=1))
    command: list[str | Path] = [
        context.binaries.path(PROMETHEUS),
        f"--config.file={config}",
        f"--storage.tsdb.path={context.folder.path / PROMETHEUS}",
        f"--web.listen-address={LOOPBACK}:{context.state.ports[PROMETHEUS]}",
        "--log.level=warn",
    ]
    context.start(PROMETHEUS, command)
    wait_for(
        "Prometheus",
        lambda: _answers(f"{prometheus_url(context)}/-/ready"),
        START_LIMIT,
        log=context.log(PROMETHEUS),
        alive=context.alive(PROMETHEUS),
    )


def start_adapter(context: Context) -> None:
    """Start Prometheus' adapter and wait until the API server passes requests on to it."""
    config = context.folder.path / "adapter.json"
    config.write_text(json.dumps(adapter_config(), indent=1))
    command = [
        *_added_api(context, ADAPTER),
        f"--lister-kubeconfig={context.folder.kubeconfig}",
        f"--prometheus-url={prometheus_url(context)}",
        f"--config={config}",
        # By default a new metric is found after ten minutes.
        f"--metrics-relist-interval={2 * SCRAPE_EVERY}s",
        "--metrics-max-age=1m",
    ]
    context.start(ADAPTER, command)
    _publish(context, ADAPTER)


def prometheus_url(context: Context) -> str:
    """Return the URL of the lab's Prometheus."""
    return f"http://{LOOPBACK}:{context.state.ports[PROMETHEUS]}"


def prometheus_config(kubeconfig: Path) -> dict[str, Any]:
    """Return Prometheus' configuration: the pods to scrape, and the labels that the adapter needs."""
    source = {
        "role": "pod",
        "kubeconfig_file": str(kubeconfig),
        "selectors": [{"role": "pod", "label": POD_SELECTOR}],
    }
    port = {"source_labels": ["__meta_kubernetes_pod_container_port_name"], "regex": PORT_NAME}
    labels = {"namespace": "namespace", "pod": "pod_name", "node": "pod_node_name"}
    job = {
        "job_name": "model-servers",
        "metrics_path": METRICS_PATH,
        "scrape_interval": f"{SCRAPE_EVERY}s",
        "scrape_timeout": f"{SCRAPE_EVERY}s",
        "kubernetes_sd_configs": [source],
        "relabel_configs": [
            {**port, "action": "keep"},
            *(
                {"source_labels": [f"__meta_kubernetes_{found}"], "target_label": label}
                for label, found in labels.items()
            ),
        ],
    }
    return {"scrape_configs": [job]}


def adapter_config() -> dict[str, Any]:
    """Return the adapter's configuration: each metric of a pod, under its own name."""
    rule = {
        "seriesQuery": '{__name__=~"^serval_.*",namespace!="",pod!=""}',
        "resources": {"overrides": {kind: {"resource": kind} for kind in ("namespace", "pod")}},
        "metricsQuery": "sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)",
    }
    return {"rules": [rule]}


def added_api(server: str, port: int, ca: bytes) -> list[dict[str, Any]]:
    """Return the objects that make the API server pass requests for a server's API on to it.

    Parameters
    ----------
    server
        Name of the server.
    port
        Its port on loopback.
    ca
        Certificate of the authority that signed the server's certificate, as PEM.
    """
    group, version = _GROUPS[server]
    where = {"name": server, "namespace": "kube-system"}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": where,
            "spec": {
                "type": "ExternalName",
                "externalName": LOOPBACK,
                "ports": [{"port": port, "protocol": "TCP"}],
            },
        },
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": f"{version}.{group}"},
            "spec": {
                "group": group,
                "version": version,
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
                "caBundle": base64.b64encode(ca).decode(),
                "service": {**where, "port": port},
            },
        },
    ]


def _added_api(context: Context, server: str) -> Sequence[str | Path]:
    """Return the program and the arguments that servers of added APIs have in common."""
    pki, kubeconfig = context.folder.pki, context.folder.kubeconfig
    return [
        context.binaries.path(server),
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        f"--bind-address={LOOPBACK}",
        f"--secure-port={context.state.ports[server]}",
        f"--tls-cert-file={pki / server}.crt",
        f"--tls-private-key-file={pki / server}.key",
    ]


def _publish(context: Context, server: str) -> None:
    """Wait until a server of an added API is healthy, say where it is, and wait until it is passed on to."""

    def wait(what: str, check: Any, limit: float) -> None:
        wait_for(what, check, limit, log=context.log(server), alive=context.alive(server), every=0.1)

    wait(f"{server}'s health", lambda: control_plane.healthy(context, server), START_LIMIT)
    ca = (context.folder.pki / "ca.crt").read_bytes()
    service, api_service = added_api(server, context.state.ports[server], ca)
    api, name = control_plane.client(context), api_service["metadata"]["name"]
    api.apply(f"/api/v1/namespaces/kube-system/services/{server}", service)
    api.apply(f"/apis/apiregistration.k8s.io/v1/apiservices/{name}", api_service)
    wait(f"the API {name}", lambda: _available(api, name), PUBLISH_LIMIT)
    api.close()


def _available(api: KubeClient, name: str) -> bool:
    found = api.get(f"/apis/apiregistration.k8s.io/v1/apiservices/{name}") or {}
    conditions = found.get("status", {}).get("conditions", [])
    return any(c["type"] == "Available" and c["status"] == "True" for c in conditions)


def _answers(url: str) -> bool:
    try:
        return urllib3.request("GET", url, timeout=2.0, retries=False).status == 200
    except (urllib3.exceptions.HTTPError, OSError):
        return False
