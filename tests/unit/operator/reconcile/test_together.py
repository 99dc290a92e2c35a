"""Requests side by side: one that fails keeps no other away."""

from __future__ import annotations

import pytest

from serval_operator.api.conditions import Blocked
from serval_operator.errors import Fenced, KubeError, Transient
from serval_operator.reconcile.together import Failed, Request, together

pytestmark = pytest.mark.unit

FIRST, SECOND = Blocked("A", "a"), Blocked("B", "b")
BUSY, LATE = Transient(503, "", "busy"), KubeError(0, "Timeout", "late")


class Sent:
    """Requests, and which of them ended."""

    def __init__(self, *results: Blocked | Exception | None) -> None:
        self.ended: list[str] = []
        self.requests = [
            Request(f"Kind/{number}", self._work(str(number), result))
            for number, result in enumerate(results)
        ]

    async def _work(self, name: str, result: Blocked | Exception | None) -> Blocked | None:
        self.ended.append(name)
        if isinstance(result, Exception):
            raise result
        return result


@pytest.mark.parametrize(
    ("results", "blocked", "failed"),
    [
        ((), None, None),
        ((None,), None, None),
        ((None, FIRST, SECOND), FIRST, None),
        ((FIRST, BUSY, LATE), FIRST, Failed("Kind/1", BUSY)),
        ((BUSY, None), None, Failed("Kind/0", BUSY)),
    ],
)
async def test_gives_the_first_of_each(
    results: tuple[Blocked | Exception | None, ...], blocked: Blocked | None, failed: Failed | None
) -> None:
    sent = Sent(*results)
    assert await together(sent.requests) == (blocked, failed)
    assert len(sent.ended) == len(results)


@pytest.mark.parametrize("error", [Fenced("not sent"), RuntimeError("a fault of ours")])
async def test_what_is_no_answer_is_raised_once_all_have_ended(error: Exception) -> None:
    sent = Sent(error, FIRST, None)
    with pytest.raises(type(error)):
        await together(sent.requests)
    assert len(sent.ended) == 3
