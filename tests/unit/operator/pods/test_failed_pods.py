"""Which failed pods go, and which stay for a reader."""

from __future__ import annotations

import pytest

from serval_operator.pods.failed_pods import KEPT, surplus_failed
from support import gen
from unit.operator.workload.seeing import seeing

pytestmark = pytest.mark.unit


def evicted(number: int, *options: gen.Option) -> gen.Object:
    """The pod that was evicted as number so and so."""
    words = gen.evicted("low on ephemeral-storage", after=100.0 + number)
    return gen.pod(f"digits-{9 - number}", gen.ready(), words, *options)


def names(*pods: gen.Object) -> list[str]:
    return [pod.name for pod in surplus_failed(seeing(*pods))]


def test_the_oldest_go() -> None:
    assert names(*(evicted(number) for number in range(5))) == ["digits-9", "digits-8"]


def test_a_few_stay() -> None:
    assert names(*(evicted(number) for number in range(KEPT))) == []


def test_pods_that_their_node_stopped_count_too() -> None:
    stopped = [gen.pod(f"stopped-{number}", gen.ready(), gen.stopped(after=number)) for number in range(4)]
    assert names(*stopped, evicted(0)) == ["stopped-0", "stopped-1"]


def test_others_do_not_count() -> None:
    refused = [gen.pod(f"refused-{number}", gen.refused()) for number in range(9)]
    running = [gen.pod(f"running-{number}", gen.ready()) for number in range(9)]
    going = [evicted(number, gen.deleting) for number in range(9)]
    assert names(*refused, *running, *going) == []
