from __future__ import annotations

import ast
from collections.abc import Sized
from itertools import islice
from pathlib import Path

import kopf
import pytest

from serval_operator.informer import event_handlers as objects
from serval_operator.informer.kopf_informer import operator_settings
from serval_operator.informer.login import Login
from serval_operator.informer.no_persistence import NoDiffBase, NoProgress
from serval_operator.runtime.authentication import Connection, Credentials
from serval_operator.runtime.cache import Cache
from serval_operator.runtime.watch_health import WatchMonitor
from serval_operator.settings import Settings
from support.watched import OWNERS, WATCHED, availability

PACKAGE = Path(__file__).resolve().parents[4] / "operator" / "serval_operator"
MOST_LINES = 30


def registry() -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()
    objects.register(registry, Cache(OWNERS), WATCHED, lambda _: None)
    Login(connection(), WatchMonitor(availability(), lambda _: None).trace()).register(registry)
    return registry


def connection() -> Connection:
    return Connection("http://127.0.0.1:1", True, Credentials(lambda: "header", renewable=True))


def test_only_event_handlers_and_one_login_are_registered() -> None:
    ours = registry()
    watched = [str(handler.selector) for handler in ours._watching.get_all_handlers()]
    assert len(watched) == len(WATCHED)
    for other in (ours._changing, ours._spawning, ours._indexing, ours._webhooks):
        assert list(other.get_all_handlers()) == []
    assert [handler.id for handler in ours._activities.get_all_handlers()] == ["login"]


def test_handlers_stay_small() -> None:
    for path in (PACKAGE / "handlers").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.AsyncFunctionDef):
                assert (node.end_lineno or 0) - node.lineno < MOST_LINES, f"{path.name}: {node.name}"


def test_kopf_neither_stores_nor_posts_nor_peers() -> None:
    ours = operator_settings(Settings(watch_timeout_seconds=100, watch_backoffs=(1.0, 2.0)))
    assert isinstance(ours.persistence.progress_storage, NoProgress)
    assert isinstance(ours.persistence.diffbase_storage, NoDiffBase)
    assert ours.posting.enabled is False
    assert ours.peering.standalone is True
    assert ours.scanning.disabled is True
    assert ours.watching.server_timeout == 100
    assert ours.watching.client_timeout == 110
    assert list(islice(ours.networking.error_backoffs, 4)) == [1.0, 2.0, 2.0, 2.0]
    assert not isinstance(ours.networking.error_backoffs, Sized), "kopf would count them, and end"


def test_the_storages_store_nothing() -> None:
    body = kopf.Body({"metadata": {"annotations": {"a": "b"}}, "spec": {"x": 1}})
    patch = kopf.Patch()
    progress, base = NoProgress(), NoDiffBase()
    key = kopf.HandlerId("h")
    progress.store(key=key, record=kopf.ProgressRecord(), body=body, patch=patch)
    progress.purge(key=key, body=body, patch=patch)
    progress.touch(body=body, patch=patch, value="now")
    base.store(body=body, patch=patch, essence=kopf.BodyEssence())
    assert not patch
    assert progress.fetch(key=key, body=body) is None
    assert base.fetch(body=body) is None
    assert base.build(body=body) == {}
    assert progress.clear(essence=kopf.BodyEssence()) == {}


# --- login ----------------------------------------------------------------------------------------------


async def test_each_login_has_a_session_of_its_own() -> None:
    login = Login(connection(), WatchMonitor(availability(), lambda _: None).trace())
    one, other = await login.login(), await login.login()
    assert one.server == "http://127.0.0.1:1"
    assert one.aiohttp_session is not other.aiohttp_session
    await one.aiohttp_session.close()
    await other.aiohttp_session.close()


@pytest.mark.parametrize("folder", ["reconcile", "planning", "builders", "kube", "api"])
def test_kopf_is_known_to_the_handlers_only(folder: str) -> None:
    for path in (PACKAGE / folder).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.split(".")[0] == "kopf"], path
