"""A cluster as tests see it: plain objects in, plain objects out, through pykube's HTTP client."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pykube

from support.wait import until

Object = dict[str, Any]

PLURALS = {
    "ModelDeployment": "modeldeployments",
    "AcceleratedModel": "acceleratedmodels",
    "Deployment": "deployments",
    "DaemonSet": "daemonsets",
    "ReplicaSet": "replicasets",
    "Service": "services",
    "Pod": "pods",
    "Job": "jobs",
    "Node": "nodes",
    "Namespace": "namespaces",
    "ConfigMap": "configmaps",
    "PriorityClass": "priorityclasses",
    "Secret": "secrets",
    "ServiceAccount": "serviceaccounts",
    "Event": "events",
    "ResourceQuota": "resourcequotas",
    "EndpointSlice": "endpointslices",
    "PersistentVolume": "persistentvolumes",
    "PersistentVolumeClaim": "persistentvolumeclaims",
    "ControllerRevision": "controllerrevisions",
    "HorizontalPodAutoscaler": "horizontalpodautoscalers",
    "PodDisruptionBudget": "poddisruptionbudgets",
    "CustomResourceDefinition": "customresourcedefinitions",
    "Lease": "leases",
    "Toy": "toys",
    "Note": "notes",
    "ValidatingWebhookConfiguration": "validatingwebhookconfigurations",
}
API_VERSIONS = {
    "ModelDeployment": "serval.dev/v1alpha1",
    "AcceleratedModel": "serval.dev/v1alpha1",
    "Deployment": "apps/v1",
    "DaemonSet": "apps/v1",
    "Job": "batch/v1",
    "ReplicaSet": "apps/v1",
    "EndpointSlice": "discovery.k8s.io/v1",
    "ControllerRevision": "apps/v1",
    "HorizontalPodAutoscaler": "autoscaling/v2",
    "PodDisruptionBudget": "policy/v1",
    "CustomResourceDefinition": "apiextensions.k8s.io/v1",
    "Lease": "coordination.k8s.io/v1",
    "PriorityClass": "scheduling.k8s.io/v1",
    "Toy": "serval.dev/v1alpha1",
    "Note": "serval.dev/v1alpha1",
    "ValidatingWebhookConfiguration": "admissionregistration.k8s.io/v1",
}
TIMEOUT = 10
FIELD_MANAGER = "serval-tests"


class Cluster:
    """One cluster that the tests made.

    Parameters
    ----------
    kubeconfig:
        Its administrator's kubeconfig; the context must be a lab's.
    """

    def __init__(self, kubeconfig: Path) -> None:
        config = pykube.KubeConfig.from_file(str(kubeconfig))
        assert config.current_context.startswith("serval-lab-"), "tests touch only clusters that they made"
        self.kubeconfig = kubeconfig
        self._api = pykube.HTTPClient(config, timeout=TIMEOUT)

    def close(self) -> None:
        """Close the connections."""
        self._api.session.close()

    def get(self, kind: str, namespace: str | None, name: str) -> Object | None:
        """An object, or None."""
        answer = self._api.get(**_at(kind, namespace, name))
        return None if answer.status_code == 404 else _body(answer)

    def list(self, kind: str, namespace: str | None, selector: str = "", fields: str = "") -> list[Object]:
        """Objects of a kind."""
        params = {"labelSelector": selector, "fieldSelector": fields}
        items: list[Object] = _body(self._api.get(**_at(kind, namespace), params=params))["items"]
        return items

    def version(self, kind: str, namespace: str | None) -> str:
        """Resource version of a listing, from which `history` may begin."""
        return str(
            _body(self._api.get(**_at(kind, namespace), params={"limit": "1"}))["metadata"]["resourceVersion"]
        )

    def history(self, kind: str, namespace: str | None, since: str, selector: str = "") -> Iterator[Object]:
        """Watch events since a resource version, none left out, and those of the next two seconds."""
        params = {"watch": "1", "resourceVersion": since, "timeoutSeconds": "2", "labelSelector": selector}
        answer = self._api.get(**_at(kind, namespace), params=params, stream=True)
        answer.raise_for_status()
        for line in answer.iter_lines():
            yield json.loads(line)

    def create(self, manifest: Mapping[str, Any], manager: str = FIELD_MANAGER) -> Object:
        """Create an object."""
        place = _at(manifest["kind"], manifest["metadata"].get("namespace"))
        params = {"fieldManager": manager}
        return _body(self._api.post(**place, data=json.dumps(manifest), params=params))

    def apply(
        self, manifest: Mapping[str, Any], manager: str = FIELD_MANAGER, subresource: str = ""
    ) -> Object:
        """Server-side apply, as `kubectl apply --server-side --force-conflicts`."""
        metadata = manifest["metadata"]
        return self._patch(
            _at(manifest["kind"], metadata.get("namespace"), metadata["name"], subresource),
            manifest,
            "application/apply-patch+yaml",
            {"fieldManager": manager, "force": "true"},
        )

    def patch(self, kind: str, namespace: str | None, name: str, body: Any, subresource: str = "") -> Object:
        """Merge patch of an object or a subresource."""
        return self._patch(_at(kind, namespace, name, subresource), body, "application/merge-patch+json", {})

    def delete(self, kind: str, namespace: str | None, name: str, **options: Any) -> None:
        """Delete an object if it is there."""
        answer = self._api.delete(**_at(kind, namespace, name), data=json.dumps(options) if options else None)
        if answer.status_code != 404:
            _body(answer)

    def until(
        self, what: str, kind: str, namespace: str | None, name: str, check: Any, limit: float = 30.0
    ) -> Object:
        """Wait until an object is there and ``check(object)`` is true; returns the object."""
        last: list[Object | None] = [None]

        def look() -> Object | None:
            last[0] = self.get(kind, namespace, name)
            return last[0] if last[0] is not None and check(last[0]) else None

        try:
            return until(what, look, limit)
        except AssertionError as error:
            shown = json.dumps((last[0] or {}).get("status"), indent=1)[:4000]
            raise AssertionError(f"{error}\nstatus of {kind} {namespace}/{name}:\n{shown}") from None

    def until_gone(self, kind: str, namespace: str | None, name: str, limit: float = 60.0) -> None:
        """Wait until there is no such object."""
        until(f"{kind} {namespace}/{name} gone", lambda: self.get(kind, namespace, name) is None, limit)

    def until_condition(
        self,
        namespace: str,
        name: str,
        kind: str,
        status: str,
        reason: str | None = None,
        limit: float = 60.0,
        *,
        of: str = "ModelDeployment",
    ) -> Object:
        """Wait for a condition of a model, judged for its newest generation."""

        def holds(obj: Object) -> bool:
            found = condition(obj, kind)
            return (
                found.get("status") == status
                and found.get("observedGeneration") == obj["metadata"]["generation"]
                and reason in (None, found.get("reason"))
            )

        what = f"{kind}={status} {reason or ''} of {namespace}/{name}"
        return self.until(what, of, namespace, name, holds, limit)

    def _patch(self, place: dict[str, Any], body: Any, content: str, params: dict[str, str]) -> Object:
        headers = {"Content-Type": content}
        return _body(self._api.patch(**place, data=json.dumps(body), headers=headers, params=params))


def condition(obj: Mapping[str, Any], kind: str) -> Object:
    """A condition of an object; empty where it has none."""
    conditions = (obj.get("status") or {}).get("conditions") or []
    return next((one for one in conditions if one["type"] == kind), {})


def _at(kind: str, namespace: str | None, name: str = "", subresource: str = "") -> dict[str, Any]:
    version = API_VERSIONS.get(kind, "v1")
    base = "/apis" if "/" in version else "/api"
    path = f"namespaces/{namespace}/" if namespace else ""
    tail = "/".join(part for part in (PLURALS[kind], name, subresource) if part)
    return {"base": base, "version": version, "url": f"{path}{tail}"}


def _body(answer: Any) -> Object:
    assert answer.ok, (
        f"{answer.request.method} {answer.request.path_url}: {answer.status_code} {answer.text[:600]}"
    )
    body: Object = answer.json()
    return body
