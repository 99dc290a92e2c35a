"""What a watching client sees: when each ModelDeployment came, got a Deployment and a pod, and was Ready."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

HOURS = 4 * 3600
LABEL = "serval.dev/name"
"""On everything that the operator makes for a ModelDeployment: its name."""


@dataclass
class Times:
    """When a watching client first saw something of one ModelDeployment, in seconds since 1970; None: never.

    Attributes
    ----------
    created:
        The ModelDeployment itself.
    deployment:
        Its Deployment.
    pod_ready:
        Its pod being Ready.
    available:
        Its Deployment being Available.
    ready:
        The ModelDeployment being Ready, for its newest generation.
    """

    created: float | None = None
    deployment: float | None = None
    pod_ready: float | None = None
    available: float | None = None
    ready: float | None = None

    def note(self, what: str) -> None:
        """Note that something is seen now, if it is seen for the first time."""
        if getattr(self, what) is None:
            setattr(self, what, time.time())


class Observer:
    """Watches the whole cluster. Names of ModelDeployments must differ, whatever their namespaces.

    Parameters
    ----------
    session:
        Of an administrator, with the API server as its base.
    """

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._tasks: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()
        self.times: dict[str, Times] = {}

    async def start(self) -> None:
        """Begin to watch what is there and what comes."""
        watched: Mapping[str, Callable[[dict[str, Any]], None]] = {
            "/apis/serval.dev/v1alpha1/modeldeployments": self._model,
            "/apis/apps/v1/deployments": self._deployment,
            "/api/v1/pods": self._pod,
        }
        for path, note in watched.items():
            self._tasks.append(asyncio.create_task(self._watch(path, note)))

    async def stop(self) -> None:
        """Watch no longer."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def until(self, what: str, count: int, limit: float) -> None:
        """Wait until so many were seen to have this.

        Raises
        ------
        TimeoutError
            It took longer than ``limit`` seconds; says how many are missing.
        """
        try:
            async with asyncio.timeout(limit):
                while self.count(what) < count:
                    self._changed.clear()
                    await self._changed.wait()
                    await asyncio.sleep(0.05)
                    self._broken()
        except TimeoutError:
            missing = count - self.count(what)
            raise TimeoutError(f"{missing} of {count} are not {what} after {limit:.0f} s") from None

    def count(self, what: str) -> int:
        """How many were seen to have this."""
        return sum(getattr(times, what) is not None for times in self.times.values())

    def _broken(self) -> None:
        for task in self._tasks:
            if task.done():
                task.result()

    async def _watch(self, path: str, note: Callable[[dict[str, Any]], None]) -> None:
        version = ""
        while True:  # the API server ends watches whose client does not keep up
            version = await self._read(path, version, note)

    async def _read(self, path: str, version: str, note: Callable[[dict[str, Any]], None]) -> str:
        """Read one watch to its end; the version to go on from, or nothing where that is too old."""
        query = {"watch": "1", "timeoutSeconds": str(HOURS), "resourceVersion": version}
        async with self._session.get(path, params=query) as answer:
            answer.raise_for_status()
            async for line in answer.content:
                event = orjson.loads(line)
                if event["type"] == "ERROR":
                    return ""
                version = event["object"]["metadata"]["resourceVersion"]
                if event["type"] in ("ADDED", "MODIFIED"):
                    note(event["object"])
                    self._changed.set()
        return version

    def _of(self, name: str) -> Times:
        return self.times.setdefault(name, Times())

    def _model(self, obj: dict[str, Any]) -> None:
        times = self._of(obj["metadata"]["name"])
        times.note("created")
        ready = _condition(obj, "Ready")
        if ready.get("status") == "True" and ready.get("observedGeneration") == obj["metadata"]["generation"]:
            times.note("ready")

    def _deployment(self, obj: dict[str, Any]) -> None:
        times = self._of(obj["metadata"]["labels"][LABEL])
        times.note("deployment")
        if _condition(obj, "Available").get("status") == "True":
            times.note("available")

    def _pod(self, obj: dict[str, Any]) -> None:
        if _condition(obj, "Ready").get("status") == "True":
            self._of(obj["metadata"]["labels"][LABEL]).note("pod_ready")


def _condition(obj: dict[str, Any], kind: str) -> dict[str, Any]:
    conditions = (obj.get("status") or {}).get("conditions") or []
    return next((one for one in conditions if one["type"] == kind), {})


def spans(times: Mapping[str, Times], start: str, end: str) -> list[float]:
    """Seconds between two sights of each ModelDeployment that has both, the shortest first.

    What was seen in the other order counts as no time at all: two watches are not in step.
    """
    pairs = [(getattr(one, start), getattr(one, end)) for one in times.values()]
    return sorted(max(0.0, last - first) for first, last in pairs if None not in (first, last))


def percentile(values: list[float], share: float) -> float:
    """The value that this share of the sorted values does not exceed; 0 where there are none."""
    return values[min(len(values) - 1, int(share * len(values)))] if values else 0.0
