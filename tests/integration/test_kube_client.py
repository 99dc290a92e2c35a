"""The API client against the real API server: what it relies on, and what it makes of refusals."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from serval_lab import Lab
from serval_operator.api.resources import MODEL_DEPLOYMENTS, SERVICES, Resource
from serval_operator.api.snapshots import parse_owner
from serval_operator.errors import Conflict, Forbidden, Invalid, KubeError
from serval_operator.runtime import client as client_module
from serval_operator.runtime.authentication import load_connection
from serval_operator.runtime.client import KubeClient
from serval_operator.runtime.event_recorder import EventRecorder
from serval_operator.runtime.kube_api import Object
from serval_operator.runtime.metrics import Metrics
from serval_operator.runtime.server_clock import ServerClock
from support.cluster import Cluster
from support.models import model_deployment

CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
SECRETS = Resource("", "v1", "secrets", "Secret")
NOWHERE = Resource("serval.dev", "v1alpha1", "nowheres", "Nowhere")
OTHER_UID = "11111111-2222-3333-4444-555555555555"


@pytest.fixture
async def client(control_plane: Lab, cluster: Cluster) -> AsyncIterator[KubeClient]:
    async with KubeClient(load_connection(str(control_plane.kubeconfig)), Metrics()) as client:
        yield client


def config_map(namespace: str, name: str = "one", uid: str = "", **data: str) -> Object:
    meta: dict[str, Any] = {"namespace": namespace, "name": name, "labels": {"made-by": "test"}}
    if uid:
        meta["uid"] = uid
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def service(namespace: str, *ports: int) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": namespace, "name": "one"},
        "spec": {"ports": [{"name": f"p{port}", "port": port} for port in ports]},
    }


# --- server-side apply ----------------------------------------------------------------------------------


async def test_apply_creates_changes_and_leaves_alone(client: KubeClient, namespace: str) -> None:
    created = await client.apply(CONFIG_MAPS, config_map(namespace, a="1"))
    assert [(one["manager"], one["operation"]) for one in created["metadata"]["managedFields"]] == [
        ("serval-operator", "Apply")
    ]
    again = await client.apply(CONFIG_MAPS, config_map(namespace, a="1"))
    assert again["metadata"]["resourceVersion"] == created["metadata"]["resourceVersion"]
    changed = await client.apply(CONFIG_MAPS, config_map(namespace, b="2"))
    assert changed["data"] == {"b": "2"}
    assert int(changed["metadata"]["resourceVersion"]) > int(created["metadata"]["resourceVersion"])


async def test_apply_takes_back_what_somebody_changed(
    client: KubeClient, cluster: Cluster, namespace: str
) -> None:
    wanted = config_map(namespace, a="1", b="2")
    await client.apply(CONFIG_MAPS, wanted)
    cluster.patch("ConfigMap", namespace, "one", {"data": {"a": "theirs", "b": None, "c": "3"}})
    taken = await client.apply(CONFIG_MAPS, wanted)
    assert taken["data"] == {"a": "1", "b": "2", "c": "3"}, "what others own stays"


async def test_a_uid_is_a_precondition_of_apply(client: KubeClient, namespace: str) -> None:
    created = await client.apply(CONFIG_MAPS, config_map(namespace, a="1"))
    uid = created["metadata"]["uid"]
    assert (await client.apply(CONFIG_MAPS, config_map(namespace, uid=uid, a="2")))["data"] == {"a": "2"}
    with pytest.raises(Conflict):
        await client.apply(CONFIG_MAPS, config_map(namespace, uid=OTHER_UID, a="3"))
    stored = await client.get(CONFIG_MAPS, namespace, "one")
    assert stored is not None
    assert stored["data"] == {"a": "2"}


async def test_apply_with_a_uid_never_brings_back_what_is_gone(client: KubeClient, namespace: str) -> None:
    created = await client.apply(CONFIG_MAPS, config_map(namespace, a="1"))
    uid = created["metadata"]["uid"]
    assert await client.delete(CONFIG_MAPS, namespace, "one", uid=uid) is True
    with pytest.raises(Conflict):
        await client.apply(CONFIG_MAPS, config_map(namespace, uid=uid, a="1"))
    assert await client.get(CONFIG_MAPS, namespace, "one") is None


async def test_the_status_of_a_model(client: KubeClient, cluster: Cluster, namespace: str) -> None:
    made = cluster.create(model_deployment("resnet", namespace))
    manifest: dict[str, Any] = {
        "apiVersion": "serval.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"namespace": namespace, "name": "resnet", "uid": made["metadata"]["uid"]},
        "status": {"observedGeneration": 1, "replicas": 2},
    }
    stored = await client.apply_status(MODEL_DEPLOYMENTS, manifest)
    assert stored is not None
    assert stored["status"] == {"observedGeneration": 1, "replicas": 2}
    assert stored["metadata"]["generation"] == made["metadata"]["generation"]
    again = await client.apply_status(MODEL_DEPLOYMENTS, manifest)
    assert again is not None
    assert again["metadata"]["resourceVersion"] == stored["metadata"]["resourceVersion"]
    stale = {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": "1"}}
    with pytest.raises(Conflict, match="modified"):
        await client.apply_status(MODEL_DEPLOYMENTS, stale)
    stranger = {**manifest, "metadata": {**manifest["metadata"], "uid": OTHER_UID}}
    with pytest.raises(Conflict, match="another object"):
        await client.apply_status(MODEL_DEPLOYMENTS, stranger)
    cluster.delete("ModelDeployment", namespace, "resnet")
    assert await client.apply_status(MODEL_DEPLOYMENTS, manifest) is None


# --- reading and deleting -------------------------------------------------------------------------------


async def test_what_is_not_there(client: KubeClient, namespace: str) -> None:
    assert await client.get(CONFIG_MAPS, namespace, "none") is None
    assert await client.delete(CONFIG_MAPS, namespace, "none", uid=OTHER_UID) is False


async def test_delete_spares_another_uid(client: KubeClient, namespace: str) -> None:
    await client.apply(CONFIG_MAPS, config_map(namespace))
    assert await client.delete(CONFIG_MAPS, namespace, "one", uid=OTHER_UID) is False
    assert await client.get(CONFIG_MAPS, namespace, "one") is not None


async def test_a_list_in_pages(client: KubeClient, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"map-{number}" for number in range(7)]
    await asyncio.gather(*(client.apply(CONFIG_MAPS, config_map(namespace, name)) for name in names))
    monkeypatch.setattr(client_module, "PAGE", 3)
    listing = await client.list(CONFIG_MAPS, namespace, label_selector="made-by=test")
    assert sorted(item["metadata"]["name"] for item in listing.items) == names
    newest = max(int(item["metadata"]["resourceVersion"]) for item in listing.items)
    assert int(listing.resource_version) >= newest, "versions of a listing and its objects compare"
    one = await client.list(CONFIG_MAPS, namespace, field_selector="metadata.name=map-3")
    assert [item["metadata"]["name"] for item in one.items] == ["map-3"]
    everywhere = await client.list(CONFIG_MAPS, label_selector="made-by=test")
    assert len(everywhere.items) >= len(names)


# --- refusals -------------------------------------------------------------------------------------------


async def test_refusals_have_their_types(client: KubeClient, namespace: str) -> None:
    with pytest.raises(Invalid, match=r"spec\.ports"):
        await client.apply(SERVICES, service(namespace))
    with pytest.raises(KubeError) as caught:
        await client.list(NOWHERE)
    assert (type(caught.value), caught.value.status) == (KubeError, 404)
    with pytest.raises(KubeError) as caught:
        await client.apply(CONFIG_MAPS, config_map("no-such-namespace"))
    assert (type(caught.value), caught.value.status) == (KubeError, 404)
    await client.create(CONFIG_MAPS, config_map(namespace))
    with pytest.raises(Conflict) as conflict:
        await client.create(CONFIG_MAPS, config_map(namespace))
    assert conflict.value.reason == "AlreadyExists"


async def test_what_the_chart_does_not_allow_is_forbidden(operator_identity: Path, namespace: str) -> None:
    async with KubeClient(load_connection(str(operator_identity)), Metrics()) as client:
        with pytest.raises(Forbidden, match="cannot list resource"):
            await client.list(SECRETS, namespace)
        assert (await client.list(MODEL_DEPLOYMENTS)).resource_version


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


# --- who we are -----------------------------------------------------------------------------------------


async def test_a_service_account_as_in_a_pod(
    control_plane: Lab, operator_identity: Path, tmp_path: Path, namespace: str
) -> None:
    """Address from the environment, authority and token from files."""
    config = loaded(control_plane.kubeconfig)
    authority = base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"])
    token = loaded(operator_identity)["users"][0]["user"]["token"]
    (tmp_path / "ca.crt").write_bytes(authority)
    (tmp_path / "token").write_text("not.a.token")
    host, _, port = config["clusters"][0]["cluster"]["server"].removeprefix("https://").rpartition(":")
    env = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
    connection = load_connection(env=env, service_account=tmp_path)
    async with KubeClient(connection, Metrics()) as client:
        with pytest.raises(KubeError) as caught:
            await client.get(SERVICES, namespace, "none")
        assert caught.value.status == 401
    (tmp_path / "token").write_text(token)
    connection = load_connection(env=env, service_account=tmp_path)
    async with KubeClient(connection, Metrics()) as client:
        assert await client.get(SERVICES, namespace, "none") is None


async def test_an_event_is_accepted_and_shown(client: KubeClient, cluster: Cluster, namespace: str) -> None:
    model = parse_owner(cluster.create(model_deployment("resnet", namespace)))
    metrics, now = Metrics(), ServerClock().now
    recorder = EventRecorder(client, metrics, now=now)
    await recorder.event(model, "Warning", "CrashLoop", "x" * 5000)
    await EventRecorder(client, metrics, now=now).event(model, "Warning", "CrashLoop", "x" * 5000)
    posted = cluster.list("Event", namespace, fields=f"involvedObject.uid={model.uid}")
    assert [(one["type"], one["reason"], len(one["message"])) for one in posted] == [
        ("Warning", "CrashLoop", 1024)
    ]
    assert metrics.registry.get_sample_value("serval_operator_events_failed_total") == 0
