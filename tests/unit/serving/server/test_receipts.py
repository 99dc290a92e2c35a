"""Messages that are arriving: their number, their time, and what happens while memory is short."""

from __future__ import annotations

from contextlib import ExitStack

import grpc
import pytest

from serval_serving.server.memory import MemoryGuard
from serval_serving.server.receipts import (
    DRAIN_PARTS,
    LONGEST_SECONDS,
    PATIENCE_SECONDS,
    STEP_SECONDS,
    Receipts,
)
from serval_serving.wire.status import StatusError
from support.clock import FakeClock


class Arriving:
    """Messages that arrive at a server with little room."""

    def __init__(self, rooms: int = 2) -> None:
        self.clock = FakeClock()
        self.used = 0
        self.ended: list[str] = []
        guard = MemoryGuard(1000, lambda: self.used, lambda: False, self.clock)
        self.receipts = Receipts(guard, rooms, self.clock)

    def begin(self, stack: ExitStack, name: str, **more: bool) -> object:
        return stack.enter_context(self.receipts.receiving(lambda: self.ended.append(name), **more))


def code(stack: ExitStack, arriving: Arriving) -> grpc.StatusCode:
    with pytest.raises(StatusError) as caught:
        arriving.begin(stack, "late")
    return caught.value.code


def test_there_are_so_many_rooms_and_each_is_free_again() -> None:
    arriving = Arriving()
    with ExitStack() as stack:
        for name in "ab":
            arriving.begin(stack, name)
        assert code(stack, arriving) is grpc.StatusCode.RESOURCE_EXHAUSTED
    with ExitStack() as stack:
        for name in "cd":
            arriving.begin(stack, name)
    assert arriving.ended == []


def test_who_is_silent_for_long_loses_his_room_to_the_next() -> None:
    arriving = Arriving()
    with ExitStack() as stack:
        first = arriving.begin(stack, "first")
        arriving.begin(stack, "second")
        arriving.clock.now += PATIENCE_SECONDS
        arriving.receipts.heard(first)  # type: ignore[arg-type]
        code(stack, arriving)
        assert arriving.ended == ["second"], "the first was heard a moment ago"
        arriving.begin(stack, "third")
        code(stack, arriving)
    assert arriving.ended == ["second"], "nobody was silent for long"


def test_nobody_is_cut_off_while_there_is_room() -> None:
    arriving = Arriving()
    with ExitStack() as stack:
        arriving.begin(stack, "a")
        arriving.clock.now += LONGEST_SECONDS
        arriving.receipts.look()
        assert arriving.ended == []
        arriving.clock.now += 1
        arriving.receipts.look()
        assert arriving.ended == ["a"], "a message must be complete at some time"


def test_who_needs_no_key_gives_way_to_others_without_one() -> None:
    arriving = Arriving(rooms=4)
    with ExitStack() as stack:
        arriving.begin(stack, "with a key")
        for name in "ab":
            arriving.begin(stack, name, keyless=True)
        arriving.clock.now += PATIENCE_SECONDS
        with pytest.raises(StatusError, match="limit is 2"):
            arriving.begin(stack, "c", keyless=True)
        assert arriving.ended == ["a"], "the first of all has a key"
        arriving.begin(stack, "d", keyless=True)
        arriving.begin(stack, "another with a key")
        assert code(stack, arriving) is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_server_that_drains_waits_for_those_who_are_sending() -> None:
    arriving = Arriving(rooms=4)
    with ExitStack() as stack:
        sending = arriving.begin(stack, "sending", parts=True)
        arriving.begin(stack, "silent", parts=True)
        arriving.begin(stack, "whole")
        arriving.clock.now += PATIENCE_SECONDS + 1
        arriving.receipts.heard(sending)  # type: ignore[arg-type]
        arriving.receipts.look()
        assert arriving.ended == []
        arriving.receipts.drain(3.0 * DRAIN_PARTS)
        arriving.receipts.look()
        assert arriving.ended == ["silent"]
        arriving.clock.now += 3.0
        arriving.receipts.heard(sending)  # type: ignore[arg-type]
        arriving.receipts.look()
    assert set(arriving.ended) == {"silent", "sending", "whole"}


def test_long_messages_wait_for_memory() -> None:
    arriving = Arriving(rooms=10)
    with ExitStack() as stack:
        for name in "abcde":
            arriving.begin(stack, name)
            arriving.clock.now += 0.01
        arriving.clock.now += STEP_SECONDS
        arriving.receipts.look()
        assert arriving.ended == []
        arriving.used = 900
        arriving.clock.now += STEP_SECONDS
        arriving.receipts.look()
        assert arriving.ended == ["d", "e"], "the newest ones, and three may go on"
        arriving.begin(stack, "f")
        arriving.receipts.look()
        assert arriving.ended == ["d", "e"], "a message that has just begun may be a small one"


def test_complete_messages_take_a_quarter_of_the_memory() -> None:
    receipts = Receipts(MemoryGuard(40 << 20, lambda: 0))
    with receipts.holding(6 << 20):
        with pytest.raises(StatusError) as caught, receipts.holding(5 << 20):
            raise AssertionError
        assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        with receipts.holding(1000), receipts.holding(4 << 20):
            pass
    with receipts.holding(30 << 20):
        pass
    unlimited = Receipts(MemoryGuard(0))
    with unlimited.holding(1 << 40), unlimited.holding(1 << 40):
        pass


def test_short_messages_do_not_wait_for_memory() -> None:
    arriving = Arriving(rooms=10)
    arriving.used = 900
    with ExitStack() as stack:
        for name in "abcdef":
            arriving.begin(stack, name)
        arriving.receipts.look()
    assert arriving.ended == []
