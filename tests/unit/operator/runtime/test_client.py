from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from serval_operator.api.resources import (
    DEPLOYMENTS,
    EVENTS,
    LEASES,
    MODEL_DEPLOYMENTS,
    NODES,
    PODS,
    Resource,
)
from serval_operator.errors import Conflict, Fenced, Forbidden, Gone, Invalid, KubeError, Transient
from serval_operator.runtime.authentication import Connection, Credentials
from serval_operator.runtime.client import PAGE, READ_PAUSES, KubeClient, go_json
from support.apiserver import Answer, Script, cut, hang, objects, raw, refusal

DEPLOYMENT = "/apis/apps/v1/namespaces/vision/deployments/resnet"
MANIFEST = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"namespace": "vision", "name": "resnet"},
}


class Meter:
    def __init__(self) -> None:
        self.requests: list[tuple[str, str, str]] = []

    def request(self, verb: str, resource: str, code: str, seconds: float) -> None:
        assert seconds >= 0
        self.requests.append((verb, resource, code))


@pytest.fixture
def meter() -> Meter:
    return Meter()


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
async def client(connection: Connection, meter: Meter, pauses: list[float]) -> AsyncIterator[KubeClient]:
    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async with KubeClient(connection, meter, timeout=5, in_flight=2, sleep=sleep) as client:
        yield client


def with_uid(uid: str = "u-1") -> dict[str, Any]:
    return {**MANIFEST, "metadata": {**MANIFEST["metadata"], "uid": uid}}  # type: ignore[dict-item]


# --- what is asked --------------------------------------------------------------------------------------


async def test_get(client: KubeClient, script: Script, meter: Meter) -> None:
    script.says({"kind": "Deployment"})
    assert await client.get(DEPLOYMENTS, "vision", "resnet") == {"kind": "Deployment"}
    asked = script.asked[0]
    assert (asked.method, asked.path, asked.query) == ("GET", DEPLOYMENT, {})
    assert asked.headers["Authorization"] == "Bearer abc"
    assert asked.headers["User-Agent"] == "serval-operator"
    assert meter.requests == [("get", "deployments", "200")]


async def test_apply_is_server_side_forced_and_ours(client: KubeClient, script: Script) -> None:
    script.says({"stored": True})
    assert await client.apply(DEPLOYMENTS, MANIFEST) == {"stored": True}
    asked = script.asked[0]
    assert (asked.method, asked.path) == ("PATCH", DEPLOYMENT)
    assert asked.query == {"fieldManager": "serval-operator", "force": "true"}
    assert asked.headers["Content-Type"] == "application/apply-patch+yaml"
    assert asked.body == MANIFEST


async def test_apply_status_goes_to_the_subresource(client: KubeClient, script: Script) -> None:
    script.says({"metadata": {"uid": "u-1"}})
    manifest = {"metadata": {"namespace": "vision", "name": "resnet"}, "status": {}}
    await client.apply_status(MODEL_DEPLOYMENTS, manifest)
    path = "/apis/serval.dev/v1alpha1/namespaces/vision/modeldeployments/resnet/status"
    assert script.asked[0].path == path
    assert script.asked[0].query["force"] == "true"


async def test_the_status_of_another_object_is_a_conflict(client: KubeClient, script: Script) -> None:
    manifest = {"metadata": {"namespace": "vision", "name": "resnet", "uid": "u-1"}, "status": {}}
    script.says({"metadata": {"uid": "u-1"}})
    assert await client.apply_status(MODEL_DEPLOYMENTS, manifest) == {"metadata": {"uid": "u-1"}}
    script.says({"metadata": {"uid": "u-2"}})
    with pytest.raises(Conflict, match="another object"):
        await client.apply_status(MODEL_DEPLOYMENTS, manifest)


async def test_a_foreign_uid_is_a_conflict(client: KubeClient, script: Script) -> None:
    """The real API server says so with 422 and a cause."""
    script.says(refusal(422, "Invalid", causes=[{"field": "metadata.uid", "reason": "FieldValueInvalid"}]))
    with pytest.raises(Conflict):
        await client.apply(DEPLOYMENTS, with_uid())


async def test_create(client: KubeClient, script: Script) -> None:
    script.says({})
    await client.create(EVENTS, {"metadata": {"namespace": "vision", "name": "e"}})
    asked = script.asked[0]
    assert (asked.method, asked.path) == ("POST", "/api/v1/namespaces/vision/events")
    assert asked.headers["Content-Type"] == "application/json"


async def test_update_replaces_what_it_was_made_from(client: KubeClient, script: Script) -> None:
    lease = {"metadata": {"namespace": "serval-system", "name": "one", "resourceVersion": "7"}, "spec": {}}
    script.says({"stored": True})
    assert await client.update(LEASES, lease) == {"stored": True}
    asked = script.asked[0]
    path = "/apis/coordination.k8s.io/v1/namespaces/serval-system/leases/one"
    assert (asked.method, asked.path, asked.body) == ("PUT", path, lease)
    script.says(refusal(409, "Conflict"))
    with pytest.raises(Conflict):
        await client.update(LEASES, lease)


async def test_merge_sends_what_changes(client: KubeClient, script: Script, meter: Meter) -> None:
    body = {"metadata": {"annotations": {"a": "b"}}}
    script.says({"stored": True})
    assert await client.merge(DEPLOYMENTS, "vision", "resnet", body) == {"stored": True}
    asked = script.asked[0]
    assert (asked.method, asked.path, asked.body) == ("PATCH", DEPLOYMENT, body)
    assert asked.query == {"fieldManager": "serval-operator"}
    assert asked.headers["Content-Type"] == "application/merge-patch+json"
    assert meter.requests == [("merge", "deployments", "200")]


async def test_what_has_no_namespace(client: KubeClient, script: Script) -> None:
    script.says(objects())
    await client.get(NODES, None, "gpu-0")
    await client.list(NODES, "vision")
    await client.create(Resource("g", "v1", "reviews", "Review", namespaced=False), {"spec": {}})
    paths = [asked.path for asked in script.asked]
    assert paths == ["/api/v1/nodes/gpu-0", "/api/v1/nodes", "/apis/g/v1/reviews"]


async def test_delete_names_the_uid(client: KubeClient, script: Script) -> None:
    script.says({})
    assert await client.delete(PODS, "vision", "p", uid="u-1") is True
    asked = script.asked[0]
    assert (asked.method, asked.path) == ("DELETE", "/api/v1/namespaces/vision/pods/p")
    assert asked.body["preconditions"] == {"uid": "u-1"}


# --- what comes back ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (400, Invalid),
        (413, Invalid),
        (422, Invalid),
        (403, Forbidden),
        (409, Conflict),
        (410, Gone),
        (401, Transient),
        (408, Transient),
        (429, Transient),
        (500, Transient),
        (503, Transient),
        (504, Transient),
        (405, KubeError),
    ],
)
async def test_codes_become_errors(
    client: KubeClient, script: Script, code: int, error: type[KubeError]
) -> None:
    script.says(refusal(code, "Reason", "what was wrong"))
    with pytest.raises(KubeError) as caught:
        await client.apply(DEPLOYMENTS, MANIFEST)
    assert type(caught.value) is error
    assert (caught.value.status, caught.value.reason) == (code, "Reason")
    assert caught.value.message == "what was wrong"
    assert len(script.asked) == 1, "a write is never sent twice"


async def test_what_is_not_there(client: KubeClient, script: Script) -> None:
    script.says(refusal(404, "NotFound"))
    assert await client.get(PODS, "vision", "p") is None
    assert await client.delete(PODS, "vision", "p", uid="u") is False
    assert await client.apply_status(MODEL_DEPLOYMENTS, MANIFEST) is None
    assert await client.merge(PODS, "vision", "p", {}) is None
    with pytest.raises(Conflict):
        await client.apply(DEPLOYMENTS, with_uid())
    with pytest.raises(KubeError) as caught:
        await client.apply(DEPLOYMENTS, MANIFEST)
    assert type(caught.value) is KubeError
    with pytest.raises(KubeError):
        await client.list(MODEL_DEPLOYMENTS)


async def test_deleting_another_uid_says_gone(client: KubeClient, script: Script) -> None:
    script.says(refusal(409, "Conflict"))
    assert await client.delete(PODS, "vision", "p", uid="u") is False


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        (raw("{}", 429, {"Retry-After": "7"}), 7.0),
        (refusal(429, retryAfterSeconds=3), 3.0),
        (refusal(500), None),
        (raw("Bad gateway", 502, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}), None),
    ],
)
async def test_the_pause_that_the_server_asks_for(
    client: KubeClient, script: Script, answer: Answer, seconds: float | None
) -> None:
    script.says(answer)
    with pytest.raises(Transient) as caught:
        await client.apply(DEPLOYMENTS, MANIFEST)
    assert caught.value.retry_after == seconds


async def test_an_answer_of_something_else_than_an_api_server(client: KubeClient, script: Script) -> None:
    script.says(raw("<html>", 502))
    with pytest.raises(Transient, match="<html>"):
        await client.apply(DEPLOYMENTS, MANIFEST)
    script.says(raw("<html>", 200))
    with pytest.raises(Transient, match="no JSON"):
        await client.apply(DEPLOYMENTS, MANIFEST)


async def test_a_broken_connection_is_transient(client: KubeClient, script: Script, meter: Meter) -> None:
    script.says(cut)
    with pytest.raises(Transient):
        await client.apply(DEPLOYMENTS, MANIFEST)
    assert meter.requests == [("apply", "deployments", "200")]


async def test_nobody_there_is_transient(meter: Meter, unused_tcp_port: int) -> None:
    nobody = Connection(
        f"http://127.0.0.1:{unused_tcp_port}", True, Credentials(lambda: None, renewable=False)
    )
    async with KubeClient(nobody, meter, timeout=5) as client:
        with pytest.raises(Transient, match="Unreachable"):
            await client.apply(DEPLOYMENTS, MANIFEST)
    assert meter.requests == [("apply", "deployments", "none")]


async def test_no_answer_in_time_is_transient(connection: Connection, script: Script, meter: Meter) -> None:
    script.says(hang)
    async with KubeClient(connection, meter, timeout=0.05) as client:
        with pytest.raises(Transient, match="no answer in time"):
            await client.apply(DEPLOYMENTS, MANIFEST)


# --- reads are tried again ------------------------------------------------------------------------------


async def test_a_read_survives_passing_failures(
    client: KubeClient, script: Script, pauses: list[float]
) -> None:
    script.says(refusal(500), cut, {"kind": "Pod"})
    assert await client.get(PODS, "vision", "p") == {"kind": "Pod"}
    assert [round(pause / least) for pause, least in zip(pauses, READ_PAUSES, strict=True)] == [1, 1]


async def test_a_read_gives_up(client: KubeClient, script: Script) -> None:
    script.says(refusal(503))
    with pytest.raises(Transient):
        await client.list(PODS)
    assert len(script.asked) == len(READ_PAUSES) + 1


async def test_a_read_waits_as_asked_but_not_for_long(
    client: KubeClient, script: Script, pauses: list[float]
) -> None:
    script.says(refusal(429, retryAfterSeconds=1), refusal(429, retryAfterSeconds=30))
    with pytest.raises(Transient) as caught:
        await client.get(PODS, "vision", "p")
    assert caught.value.retry_after == 30
    assert len(pauses) == 1
    assert 1.0 <= pauses[0] <= 1.25


@pytest.mark.parametrize("code", [403, 404, 422])
async def test_a_refused_read_is_not_repeated(client: KubeClient, script: Script, code: int) -> None:
    script.says(refusal(code))
    with pytest.raises(KubeError):
        await client.list(PODS)
    assert len(script.asked) == 1


# --- listings -------------------------------------------------------------------------------------------


async def test_a_list_joins_its_pages(client: KubeClient, script: Script) -> None:
    script.says(objects({"n": 1}, {"n": 2}, version="7", more="t1"), objects({"n": 3}, version="7"))
    listing = await client.list(PODS, label_selector="a=b", field_selector="c=d")
    assert listing.items == ({"n": 1}, {"n": 2}, {"n": 3})
    assert listing.resource_version == "7"
    first, second = script.asked
    assert first.path == "/api/v1/pods"
    assert first.query == {"labelSelector": "a=b", "fieldSelector": "c=d", "limit": str(PAGE)}
    assert second.query == {**first.query, "continue": "t1"}


@pytest.mark.parametrize(
    "answer", [{}, {"metadata": None}, {"metadata": {}, "items": "x"}, {"metadata": {}, "items": [None]}]
)
async def test_an_answer_that_is_no_list_may_pass(
    client: KubeClient, script: Script, answer: dict[str, Any]
) -> None:
    script.says(answer)
    with pytest.raises(Transient, match="no list of objects"):
        await client.list(PODS)


async def test_schemas_of_a_version(client: KubeClient, script: Script) -> None:
    script.says({"components": {"schemas": {"a": {"type": "object"}}}}, {})
    assert await client.schemas("serval.dev", "v1alpha1") == {"a": {"type": "object"}}
    assert script.asked[0].path == "/openapi/v3/apis/serval.dev/v1alpha1"
    assert await client.schemas("serval.dev", "v1alpha1") == {}


async def test_a_list_of_one_namespace(client: KubeClient, script: Script) -> None:
    script.says(objects())
    assert (await client.list(PODS, "vision")).items == ()
    assert script.asked[0].path == "/api/v1/namespaces/vision/pods"


async def test_a_list_keeps_what_it_is_asked_to_keep(client: KubeClient, script: Script) -> None:
    script.says(objects({"n": 1}, more="t"), objects({"n": 2}))
    found = await client.list_as(lambda item: item["n"] * 10, PODS)
    assert found.items == (10, 20)


async def test_a_list_whose_continuation_expired_starts_anew(client: KubeClient, script: Script) -> None:
    script.says(objects({"n": 1}, more="t"), refusal(410, "Expired"), objects({"n": 5}, version="9"))
    listing = await client.list(PODS)
    assert listing.items == ({"n": 5},)
    assert listing.resource_version == "9"
    assert "continue" not in script.asked[2].query


async def test_a_list_that_expires_again_and_again_is_read_whole(client: KubeClient, script: Script) -> None:
    pages: list[Answer] = [objects({"n": 1}, more="t"), refusal(410, "Expired")] * 3
    script.says(*pages, objects({"n": 1}, {"n": 2}))
    assert len((await client.list(PODS)).items) == 2
    assert "limit" not in script.asked[-1].query


# --- who may write --------------------------------------------------------------------------------------


async def test_who_may_not_write_sends_nothing_but_reads(
    connection: Connection, script: Script, meter: Meter
) -> None:
    script.says({"metadata": {}})
    allowed = False
    async with KubeClient(connection, meter, write_seconds=lambda: 60.0 * allowed) as client:
        named = {"metadata": {"namespace": "vision", "name": "resnet"}, "status": {}}
        for attempt in (
            client.apply(DEPLOYMENTS, named),
            client.apply_status(MODEL_DEPLOYMENTS, named),
            client.create(EVENTS, named),
            client.update(LEASES, named),
            client.merge(DEPLOYMENTS, "vision", "resnet", {}),
            client.delete(PODS, "vision", "p", uid="u"),
        ):
            with pytest.raises(Fenced):
                await attempt
        assert script.asked == []
        await client.get(PODS, "vision", "p")
        await client.list(PODS)
        allowed = True
        await client.apply(DEPLOYMENTS, named)
        assert [asked.method for asked in script.asked] == ["GET", "GET", "PATCH"]


async def test_who_may_write_is_asked_after_the_wait_for_a_place(
    connection: Connection, script: Script, meter: Meter
) -> None:
    allowed, gate = True, asyncio.Event()

    async def slow(_: web.Request) -> web.Response:
        await gate.wait()
        return web.json_response({})

    script.says(slow)
    async with KubeClient(connection, meter, in_flight=1, write_seconds=lambda: 60.0 * allowed) as client:
        first = asyncio.ensure_future(client.get(PODS, "vision", "p"))
        second = asyncio.ensure_future(client.apply(DEPLOYMENTS, MANIFEST))
        while not script.asked:  # noqa: ASYNC110 - the server sets no event
            await asyncio.sleep(0.001)
        allowed = False
        gate.set()
        await first
        with pytest.raises(Fenced):
            await second


async def test_a_write_under_way_ends_with_the_lease_and_a_read_does_not(
    connection: Connection, script: Script, meter: Meter
) -> None:
    came, gate, closed = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow(request: web.Request) -> web.Response:
        if request.method == "PATCH":
            came.set()
        try:
            await gate.wait()
        except asyncio.CancelledError:
            closed.set()
            raise
        return web.json_response({})

    def seconds() -> float:
        return 0.0 if came.is_set() else 0.01

    script.says(slow)
    async with KubeClient(connection, meter, write_seconds=seconds) as client, asyncio.timeout(5):
        read = asyncio.ensure_future(client.get(PODS, "vision", "p"))
        with pytest.raises(Fenced, match="cut off"):
            await client.apply(DEPLOYMENTS, MANIFEST)
        await closed.wait()
        gate.set()
        assert await read == {}
    assert meter.requests == [("apply", "deployments", "none"), ("get", "pods", "200")]


async def test_a_write_whose_credentials_come_late_is_not_sent(script: Script, meter: Meter) -> None:
    """An exec plugin may take longer than the Lease lasts."""
    asked, gate = threading.Event(), threading.Event()

    def read() -> str:
        asked.set()
        gate.wait(5)
        return "Bearer late"

    left = [0.01, 0.0]
    connection = Connection(script.url, True, Credentials(read, renewable=True))
    async with KubeClient(connection, meter, write_seconds=lambda: left.pop(0)) as client:
        with pytest.raises(Fenced):
            await client.apply(DEPLOYMENTS, MANIFEST)
    gate.set()
    assert asked.is_set()
    assert script.asked == []


# --- bounds and credentials -----------------------------------------------------------------------------


async def test_requests_in_flight_are_bounded(client: KubeClient, script: Script) -> None:
    running = most = 0
    full = asyncio.Event()

    async def slow(_: web.Request) -> web.Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 2:
            full.set()
        await full.wait()
        running -= 1
        return web.json_response({})

    script.says(slow)
    await asyncio.gather(*(client.get(PODS, "vision", str(number)) for number in range(8)))
    assert most == 2


async def test_a_refused_token_is_read_again(script: Script, meter: Meter) -> None:
    tokens = iter(["Bearer old", "Bearer new", "Bearer unused"])
    connection = Connection(script.url, True, Credentials(lambda: next(tokens), renewable=True))
    script.says(refusal(401, "Unauthorized"), {"kind": "Pod"})

    async def sleep(_: float) -> None:
        return None

    async with KubeClient(connection, meter, sleep=sleep) as client:
        assert await client.get(PODS, "vision", "p") == {"kind": "Pod"}
    assert [asked.headers["Authorization"] for asked in script.asked] == ["Bearer old", "Bearer new"]


async def test_credentials_that_cannot_be_read_are_transient(script: Script, meter: Meter) -> None:
    answers = iter([OSError("no token"), "Bearer abc"])

    def read() -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    script.says({})
    connection = Connection(script.url, True, Credentials(read, renewable=True))
    async with KubeClient(connection, meter) as client:
        with pytest.raises(Transient, match="credentials cannot be read: no token"):
            await client.apply(DEPLOYMENTS, MANIFEST)
        assert await client.apply(DEPLOYMENTS, MANIFEST) == {}


async def test_a_server_behind_a_path(script: Script, meter: Meter) -> None:
    script.says({"metadata": {}}, objects())
    connection = Connection(
        f"{script.url}/k8s/clusters/c-1", True, Credentials(lambda: None, renewable=False)
    )
    async with KubeClient(connection, meter) as client:
        await client.apply(DEPLOYMENTS, MANIFEST)
        await client.list(PODS)
    paths = [f"/k8s/clusters/c-1{DEPLOYMENT}", "/k8s/clusters/c-1/api/v1/pods"]
    assert [asked.path for asked in script.asked] == paths


async def test_errors_tell_no_secrets(script: Script, connection: Connection, meter: Meter) -> None:
    script.says(cut)
    async with KubeClient(connection, meter) as client:
        with pytest.raises(Transient) as caught:
            await client.apply(DEPLOYMENTS, MANIFEST)
    assert "abc" not in repr(caught.value)
    assert "abc" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ({"b": 1, "a": {"d": [], "c": None}}, '{"a":{"c":null,"d":[]},"b":1}'),
        ({"a": "1 < 2 && 3 > 2"}, r'{"a":"1 \u003c 2 \u0026\u0026 3 \u003e 2"}'),
        ({"<": "\u2028\u2029"}, r'{"\u003c":"\u2028\u2029"}'),
        ({"a": 'quote " and \\ and ä'}, '{"a":"quote \\" and \\\\ and ä"}'),
    ],
)
def test_bodies_are_written_as_go_writes_them(value: dict[str, Any], written: str) -> None:
    assert go_json(value).decode() == written
    assert json.loads(written) == value
