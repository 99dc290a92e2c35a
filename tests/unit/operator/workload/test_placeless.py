"""Replicas without a place: which count, since when, and that the count does not change with each pod."""

from __future__ import annotations

from dataclasses import replace

import pytest

from serval_operator.api.resources import DEPLOYMENTS
from serval_operator.pods.observation import Observed
from serval_operator.workload.placeless import LASTS, count_placeless
from support import gen
from unit.operator.workload.rolling import NEW, NO_DEVICE, OLD
from unit.operator.workload.seeing import seeing

pytestmark = pytest.mark.unit

LONG = LASTS.total_seconds()
WAITS = gen.unschedulable(NO_DEVICE)
READY = gen.pod("r", gen.ready(), revision=NEW)


def waiting(name: str = "w", *options: gen.Option, revision: str = NEW, made: float = 0.0) -> gen.Object:
    return gen.pod(name, WAITS, *options, revision=revision, created=made)


def count(
    *pods: gen.Object, now: float = LONG, known: int = 0, refused: str = "", making_room: bool = False
) -> int:
    """Count for two replicas."""
    seen = seeing(*pods, carried=NEW, now=now, making_room=making_room)
    return count_placeless(failing(seen, refused), replicas=2, known=known)


def failing(seen: Observed, words: str) -> Observed:
    """The same, where the cluster refuses to create pods."""
    assert seen.deployment is not None
    deployment = replace(seen.deployment, create_failure=words)
    return replace(seen, children={DEPLOYMENTS: {gen.MODEL: deployment}})


@pytest.mark.parametrize(
    ("pods", "counted"),
    [
        ((), 0),
        ((READY,), 0),
        ((READY, waiting()), 1),
        ((waiting("v"), waiting("w")), 2),
        # It waits for no long time yet, or for nothing but the scheduler's look.
        ((READY, waiting(made=1)), 0),
        ((READY, gen.pod("w", revision=NEW)), 0),
        ((READY, waiting("w", gen.placed())), 0),
        ((READY, waiting("w", gen.deleting)), 0),
        # Of whatever revision.
        ((READY, waiting(revision=OLD)), 1),
        # One more than wanted, beside those that have a place.
        ((READY, gen.pod("s", gen.ready(), revision=OLD), waiting()), 0),
        ((READY, gen.pod("s", gen.loading(), revision=OLD), waiting()), 0),
        # What failed as a whole has no place any more, and its successor waits.
        ((READY, gen.pod("f", gen.refused(), revision=NEW), waiting()), 1),
        ((READY, gen.pod("f", gen.placed(), gen.stopped(), revision=NEW), waiting()), 1),
    ],
)
def test_table(pods: tuple[gen.Object, ...], counted: int) -> None:
    assert count(*pods) == counted


def test_pods_that_the_cluster_refuses_to_create() -> None:
    assert count(READY, refused="exceeded quota") == 1
    assert count(READY) == 0
    assert count(READY, READY, refused="exceeded quota") == 0


@pytest.mark.parametrize(("known", "counted"), [(0, 0), (1, 1), (2, 1)])
def test_while_a_pod_is_being_stopped_there_are_not_more(known: int, counted: int) -> None:
    assert count(READY, waiting(), known=known, making_room=True) == counted
