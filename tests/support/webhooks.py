"""Admission webhooks that do not answer, as those whose pods are gone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from support.cluster import Cluster, Object
from support.wait import until

KIND = "ValidatingWebhookConfiguration"


@contextmanager
def webhook_down(cluster: Cluster, namespace: str, group: str, resource: str) -> Iterator[None]:
    """Let every create and update of a resource in a namespace fail, because its webhook does not answer."""
    name = f"{namespace}-{resource}.example.com"
    rule = {
        "apiGroups": [group],
        "apiVersions": ["*"],
        "operations": ["CREATE", "UPDATE"],
        "resources": [resource],
    }
    webhook = {
        "name": name,
        "clientConfig": {"url": "https://127.0.0.1:1/"},
        "rules": [rule],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 1,
    }
    cluster.create(
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": KIND,
            "metadata": {"name": name},
            "webhooks": [webhook],
        }
    )
    try:
        probe = _probe(group, resource, namespace)
        until("the webhook to fail", lambda: _refused(cluster, probe))
        yield
    finally:
        cluster.delete(KIND, None, name)


def _probe(group: str, resource: str, namespace: str) -> Object:
    meta = {"name": "probe", "namespace": namespace}
    if resource == "services":
        return {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": [{"port": 1}]}}
    labels = {"app": "probe"}
    containers = [{"name": "probe", "image": "registry.example/probe:1"}]
    return {
        "apiVersion": f"{group}/v1",
        "kind": "Deployment",
        "metadata": meta,
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
        },
    }


def _refused(cluster: Cluster, probe: Object) -> bool:
    try:
        cluster.create(probe)
    except AssertionError as error:
        return "failed calling webhook" in str(error)
    cluster.delete(probe["kind"], probe["metadata"]["namespace"], probe["metadata"]["name"])
    return False
