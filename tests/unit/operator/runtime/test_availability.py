"""What follows from what was listed, watched and refused: tables."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import pytest

from serval_operator.api.naming import Key
from serval_operator.api.resources import MODEL_DEPLOYMENTS, NODES, PODS, SERVICES
from serval_operator.runtime.availability import LASTING_REFUSALS, LONGEST_PAUSE, Availability, Source
from support.clock import settle
from support.watched import availability

pytestmark = pytest.mark.unit

MODELS, CHILD = Source(MODEL_DEPLOYMENTS, "vision"), Source(SERVICES, "vision")
KEY, ELSEWHERE = Key("ModelDeployment", "vision", "a"), Key("ModelDeployment", "speech", "a")
OLD = "the CustomResourceDefinition is older than the operator and lacks spec.new, status.new"
Steps = tuple[Callable[[Availability], None], ...]


def refuse(source: Source, times: int = LASTING_REFUSALS) -> Callable[[Availability], None]:
    def act(at: Availability) -> None:
        for _ in range(times):
            at.refused(source, "no role")

    return act


def refuse_watch(source: Source, times: int = LASTING_REFUSALS) -> Callable[[Availability], None]:
    def act(at: Availability) -> None:
        for _ in range(times):
            at.watch_refused(source, "no watching")
            at.listed(source)

    return act


def lists(source: Source) -> Callable[[Availability], None]:
    return lambda at: at.listed(source)


def outdated(*fields: str) -> Callable[[Availability], None]:
    return lambda at: at.schema(MODEL_DEPLOYMENTS, fields)


def ready(*namespaces: str) -> Availability:
    """All of two namespaces is listed."""
    at = availability(*(namespaces or ("vision", "speech")))
    for source in at.sources:
        at.listed(source)
    return at


@pytest.mark.parametrize(
    ("steps", "served"),
    [
        ((), True),
        ((refuse(MODELS),), False),
        ((refuse(CHILD),), False),
        ((refuse(CHILD, LASTING_REFUSALS - 1),), True),
        ((refuse(CHILD), lists(CHILD)), True),
        ((refuse(Source(NODES, None)),), True),
        ((refuse_watch(CHILD),), False),
        ((refuse_watch(CHILD, 2),), True),
        ((refuse_watch(CHILD), lambda at: at.watch_accepted(CHILD)), True),
        ((outdated("spec.new"),), False),
        ((outdated("spec.new"), outdated()), True),
        ((outdated("spec.new"), refuse(MODELS), lists(MODELS)), False),
        ((lambda at: at.failed(CHILD, "503"),), True),
    ],
)
def test_who_is_served(steps: Steps, *, served: bool) -> None:
    at = ready()
    for step in steps:
        step(at)
    assert at.serves(KEY) is served
    assert at.serves(ELSEWHERE) is (served or not any("CustomResource" in one for one in at.off().values()))


def test_a_namespace_is_served_only_once_everything_that_it_needs_was_listed() -> None:
    at = availability()
    for source in at.sources:
        if source.resource != NODES:
            assert not at.serves(KEY)
            at.listed(source)
    assert at.serves(KEY)
    assert at.serves_any()


@pytest.mark.parametrize(
    ("steps", "begins"),
    [
        ((), False),
        ((lists(MODELS),), False),
        ((lists(MODELS), refuse(Source(PODS, "vision"))), True),
        ((lists(MODELS), refuse(Source(PODS, "vision"), LASTING_REFUSALS - 1)), False),
        ((lists(MODELS), lists(Source(PODS, "vision"))), True),
        ((refuse(MODELS), lists(Source(PODS, "vision"))), False),
        ((lists(MODELS), lambda at: at.unwanted(Source(PODS, "vision"))), True),
        ((lists(MODELS), lambda at: at.failed(Source(PODS, "vision"), "503")), False),
    ],
)
def test_when_work_can_begin(steps: Steps, *, begins: bool) -> None:
    at = availability("vision", kinds=(MODEL_DEPLOYMENTS, PODS))
    for step in steps:
        step(at)
    assert at.can_begin() is begins


def test_what_is_off_is_named_with_its_reason() -> None:
    at = ready()
    refuse(CHILD)(at)
    at.schema(MODEL_DEPLOYMENTS, ["spec.new", "status.new"])
    assert {str(source): problem for source, problem in at.off().items()} == {
        "services in namespace vision": "no role",
        "modeldeployments in namespace vision": OLD,
        "modeldeployments in namespace speech": OLD,
    }
    assert at.up()["services", "vision"] == 0.0
    assert at.up()["services", "speech"] == 1.0
    assert at.up()["nodes", ""] == 1.0


def test_what_is_not_wanted_is_no_news() -> None:
    at = availability()
    at.unwanted(Source(NODES, None))
    assert Source(NODES, None) not in at.off()
    assert ("nodes", "") not in at.up()
    at.wanted(Source(NODES, None))
    assert at.off()[Source(NODES, None)] == "not listed yet"


def test_changes_are_told_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    changes: list[Source] = []
    at = availability("vision", on_change=changes.append)
    at.listed(CHILD)
    refuse(CHILD, 10)(at)
    for _ in range(3):
        at.listed(CHILD)
    assert changes == [CHILD] * 3
    assert caplog.messages == [
        "services in namespace vision cannot be served, will try again: no role",
        "services in namespace vision can be served again",
    ]


def test_an_outdated_kind_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    at = ready("vision")
    for _ in range(3):
        at.schema(MODEL_DEPLOYMENTS, ["spec.new", "status.new"])
    assert caplog.messages == [f"{MODELS} cannot be served, will try again: {OLD}"]


def test_pauses_grow_until_it_is_on_again() -> None:
    at = availability("vision")
    assert at.pause(CHILD) == 0
    pauses = []
    for _ in range(12):
        at.refused(CHILD, "no role")
        pauses.append(at.pause(CHILD))
    assert 0.4 <= pauses[0] <= 0.5
    assert all(later > earlier for earlier, later in pairwise(pauses[:7]))
    assert 0.8 * LONGEST_PAUSE <= pauses[-1] <= LONGEST_PAUSE
    at.listed(CHILD)
    assert at.pause(CHILD) == 0


async def test_waiting_ends_when_it_holds() -> None:
    at = availability("vision")
    waiting = [asyncio.create_task(at.until(partial(at.is_listed, one))) for one in (CHILD, MODELS)]
    at.refused(CHILD, "no role")
    await settle()
    assert not waiting[0].done()
    at.listed(CHILD)
    await settle()
    assert [one.done() for one in waiting] == [True, False]
    waiting[1].cancel()
