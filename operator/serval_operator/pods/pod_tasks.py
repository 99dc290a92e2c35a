"""Tasks that ask pods something beside the reconciles: one for each pod, which ends with its pod."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from serval_operator.api.naming import Key
from serval_operator.api.snapshots import PodView

TOGETHER = 16
"""Pods that are asked at the same time: after a restart there may be thousands."""

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Asked:
    """A pod that has an answer, or shall be asked.

    Parameters
    ----------
    run:
        What was asked of it. With another number the old answer does not count any more.
    ready:
        Whether it can be asked now. A pod that was asked before keeps its answer.
    model:
        Name of the model, where its status is asked for too; empty elsewhere.
    """

    pod: PodView
    run: int
    ready: bool
    model: str = ""


@dataclass(slots=True)
class _Task(Generic[Answer]):
    run: int
    answer: Answer
    task: asyncio.Task[None]


class PodTasks(Generic[Answer]):
    """The tasks and answers of the pods of custom resources.

    Parameters
    ----------
    empty:
        Makes the answer of a pod that was not asked yet; the task fills it.
    ask:
        What the task of a pod does.

    Attributes
    ----------
    slots:
        Taken by a task while it asks its pod.
    """

    def __init__(
        self,
        empty: Callable[[], Answer],
        ask: Callable[[Key, Asked, Answer], Coroutine[Any, Any, None]],
    ) -> None:
        self._empty = empty
        self._ask = ask
        self._tasks: dict[Key, dict[str, _Task[Answer]]] = {}
        self.slots = asyncio.Semaphore(TOGETHER)

    def follow(self, key: Key, pods: Iterable[Asked]) -> dict[str, Answer]:
        """Answers of these pods by uid; new pods are asked from now on, all others are forgotten."""
        before = self._tasks.pop(key, {})
        now: dict[str, _Task[Answer]] = {}
        for asked in pods:
            uid = asked.pod.uid
            known = before.get(uid)
            if known and known.run == asked.run:
                now[uid] = before.pop(uid)
            elif asked.ready:
                now[uid] = self._start(key, asked)
        for left in before.values():
            left.task.cancel()
        if now:
            self._tasks[key] = now
        return self.answers(key)

    def answers(self, key: Key) -> dict[str, Answer]:
        """Answers of the pods that are followed for a custom resource, by uid."""
        return {uid: one.answer for uid, one in self._tasks.get(key, {}).items()}

    def _start(self, key: Key, asked: Asked) -> _Task[Answer]:
        answer = self._empty()
        task = asyncio.create_task(self._ask(key, asked, answer), name=f"ask {asked.pod.name}")
        return _Task(asked.run, answer, task)
