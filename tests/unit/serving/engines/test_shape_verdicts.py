"""Verdicts on shapes: remembered, inferred once, and limited in what they cost."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from serval_serving.engines import shape_verdicts
from serval_serving.engines.shape_verdicts import Feed, InferenceBudget, Question, ShapeVerdicts
from serval_serving.wire.dtypes import DataType
from serval_serving.wire.status import MAX_GRPC_MESSAGE, StatusError

LIMIT = 20.0


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Inference:
    """Refuses odd first dimensions, and takes `cost` CPU seconds for it."""

    def __init__(self, cost: float = 0.0, burst: float = 1.0) -> None:
        self.clock = Clock()
        self.cpu = Clock()
        self.cost = cost
        self.asked: list[Question] = []
        self.budget = InferenceBudget(burst, 0.1, self.clock, self.cpu)

    def __call__(self, question: Question) -> str:
        self.asked.append(question)
        self.cpu.now += self.cost
        size = question.feeds[0].shape[0]
        return f"{size} is odd" if size is not None and size % 2 else ""


def question(size: int) -> Question:
    return Question((Feed("x:0", DataType.DT_FLOAT, (size,)),), ("y:0",))


def refusal(verdicts: ShapeVerdicts, size: int, seconds: float | None = None) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(StatusError) as caught:
        verdicts.check(question(size), seconds)
    return caught.value.code, caught.value.message


def test_each_question_is_asked_once() -> None:
    inference = Inference()
    verdicts = ShapeVerdicts(inference, inference.budget)
    for _ in range(3):
        verdicts.check(question(2))
        assert refusal(verdicts, 3) == (grpc.StatusCode.INVALID_ARGUMENT, "3 is odd")
    assert inference.asked == [question(2), question(3)]


def test_the_verdict_that_was_not_used_for_longest_is_forgotten() -> None:
    inference = Inference()
    verdicts = ShapeVerdicts(inference, inference.budget, size=2)
    for size in (2, 4, 2, 6, 2, 4):
        verdicts.check(question(size))
    assert inference.asked == [question(size) for size in (2, 4, 6, 4)]


def test_long_refusals_are_cut() -> None:
    inference = Inference()
    verdicts = ShapeVerdicts(lambda _: "x" * 100_000, inference.budget)
    assert len(refusal(verdicts, 1)[1]) < MAX_GRPC_MESSAGE + 20


def test_new_shapes_cost_no_more_than_the_budget() -> None:
    inference = Inference(cost=0.4)
    verdicts = ShapeVerdicts(inference, inference.budget)
    for size in (2, 4, 6):
        verdicts.check(question(size))
    assert refusal(verdicts, 8)[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    verdicts.check(question(2))
    assert len(inference.asked) == 3, "what is known costs nothing"
    inference.clock.now += 1.9
    assert refusal(verdicts, 8)[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    inference.clock.now += 0.2
    verdicts.check(question(8))
    assert refusal(verdicts, 10)[0] is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_the_budget_does_not_grow_beyond_its_burst() -> None:
    inference = Inference(cost=0.6)
    verdicts = ShapeVerdicts(inference, inference.budget)
    inference.clock.now += 1e6
    verdicts.check(question(2))
    verdicts.check(question(4))
    assert refusal(verdicts, 6)[0] is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_models_share_the_budget() -> None:
    inference = Inference(cost=2.0)
    ShapeVerdicts(inference, inference.budget).check(question(2))
    assert refusal(ShapeVerdicts(inference, inference.budget), 2)[0] is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_requests_of_one_shape_wait_for_one_verdict() -> None:
    entered, go = threading.Event(), threading.Event()
    calls: list[Question] = []

    def infer(asked: Question) -> str:
        calls.append(asked)
        entered.set()
        assert go.wait(LIMIT)
        return ""

    verdicts = ShapeVerdicts(infer, InferenceBudget())
    threads = [threading.Thread(target=verdicts.check, args=(question(2),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert entered.wait(LIMIT)
    code, _ = refusal(verdicts, 4, seconds=0.0)
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED, "it has no time to wait for others"
    go.set()
    for thread in threads:
        thread.join(LIMIT)
    assert calls == [question(2)]


def test_who_asks_the_same_waits_longer_than_for_other_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shape_verdicts, "MAX_WAIT_SECONDS", 0.0)
    asking, go = threading.Semaphore(0), threading.Event()

    class Watched(ShapeVerdicts):
        def _find(self, question: Question) -> str | None:
            asking.release()
            return super()._find(question)

    def infer(_question: Question) -> str:
        assert go.wait(LIMIT)
        return ""

    verdicts = Watched(infer, InferenceBudget())
    with ThreadPoolExecutor(4) as pool:
        checks = [pool.submit(verdicts.check, question(2), LIMIT) for _ in range(4)]
        try:
            # Each looks once when it comes, and the first one again in its turn.
            for _ in range(5):
                assert asking.acquire(timeout=LIMIT)
        finally:
            go.set()
        for check in checks:
            check.result(LIMIT)


def test_an_inference_that_fails_leaves_the_turn_to_others() -> None:
    def fail(_question: Question) -> str:
        raise MemoryError

    budget = InferenceBudget()
    with pytest.raises(MemoryError):
        ShapeVerdicts(fail, budget).check(question(2))
    ShapeVerdicts(lambda _: "", budget).check(question(2), 0.0)
