"""The measurements themselves."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from benchmarks.operator.audit import Request, requests, tally
from benchmarks.operator.figures import Burst, Calm, Latency, Restart
from benchmarks.operator.processes import Spending, cpu_seconds, memory_mb, until_quiet
from benchmarks.operator.stage import OPERATOR_USER, PER_NAMESPACE, Stage, stage

CALM_COUNT = 60
CALM_EVERY = 1.0
"""Seconds between two that are created while nothing else happens."""
EACH_LIMIT = 0.5
"""Seconds that one ModelDeployment may take while two cores do everything; KServe took 0.14."""
LEAST_LIMIT = 120.0
IDLE_SECONDS = 60.0
QUIET_LIMIT = 300.0
SETTLED_SECONDS = 60.0
"""So long nobody must write anything after copies: controllers come to one after another, for minutes."""


async def calm() -> Calm:
    """Create one ModelDeployment a second."""
    async with stage(CALM_COUNT) as place:
        for number in range(CALM_COUNT):
            # The pace is what is measured, so this is no wait for a condition.
            await asyncio.gather(place.create_one(number), asyncio.sleep(CALM_EVERY))
        await place.observer.until("ready", CALM_COUNT, LEAST_LIMIT)
        times = place.observer.times
        return Calm(
            Latency.of(times, "created", "deployment"),
            Latency.of(times, "pod_ready", "ready"),
            Latency.of(times, "created", "ready"),
        )


async def burst(count: int) -> Burst:
    """Create so many at full speed, look at the peace thereafter, and start a new operator."""
    limit = LEAST_LIMIT + count * EACH_LIMIT
    async with stage(count) as place:
        pid = place.operator.pid
        idle_mb, _ = memory_mb(pid)
        before, spending = sum(place.written().values()), Spending(place.pids())
        began = time.time()
        await place.create(count)
        created = time.time() - began
        print(f"{count} created in {created:.1f} s", flush=True)
        await place.observer.until("ready", count, limit)
        ready = time.time() - began
        print(f"all Ready after {ready:.1f} s", flush=True)
        await asyncio.to_thread(until_quiet, pid, QUIET_LIMIT)
        used, others = spending.so_far()
        memory = memory_mb(pid)
        asked = list(requests(place.plane.audit_log, began, time.time()))
        times = place.observer.times
        return Burst(
            count=count,
            created_seconds=created,
            ready_seconds=ready,
            cpu_ms={name: seconds * 1000 / count for name, seconds in used.items()},
            requests={what: number / count for what, number in tally(asked, _ours).most_common()},
            kept=(_kept(place, asked) - before) / count,
            deployment=Latency.of(times, "created", "deployment"),
            available_ready=Latency.of(times, "available", "ready"),
            pod_ready=Latency.of(times, "pod_ready", "ready"),
            memory_mb=(idle_mb, *memory),
            idle_requests=dict(await idle(place)),
            restart=await restart(place),
            others_cores=others,
        )


async def crowd(count: int) -> Restart:
    """Start an operator where there are so many already, of which only the first namespace's were created.

    The operator before it has made good what no copy can have: the hashes of what was applied.
    """
    made = min(count, PER_NAMESPACE)
    async with stage(count) as place:
        await place.create(made)
        await place.observer.until("ready", made, LEAST_LIMIT + made * EACH_LIMIT)
        await asyncio.to_thread(until_quiet, place.operator.pid, QUIET_LIMIT)
        await asyncio.to_thread(place.operator.stop)
        await place.observer.stop()
        await asyncio.to_thread(place.copy, count)
        print(f"{made} made, and copied to {count}", flush=True)
        await asyncio.to_thread(place.start_operator)
        await _until_settled(place, LEAST_LIMIT + count * EACH_LIMIT)
        print("settled", flush=True)
        return await restart(place)


async def _until_settled(place: Stage, limit: float) -> None:
    """Wait until the operator is quiet, and nobody writes to what it made or watches over."""
    end = time.time() + limit
    known: dict[str, int] = {}
    while (found := await asyncio.to_thread(place.written)) != known:
        await asyncio.to_thread(until_quiet, place.operator.pid, end - time.time(), SETTLED_SECONDS)
        known = found


def _ours(request: Request) -> bool:
    return request.user.startswith(OPERATOR_USER)


def _kept(place: Stage, asked: list[Request]) -> int:
    """Writes of the operator that etcd kept: all that it counted, less those of others.

    What others wrote is all taken for kept, so that the difference is never too large.
    """
    written = place.written()
    kinds = {key.split("/")[-3] for key in written}
    resources = {"specs": "services"}
    names = {resources.get(kind, kind) for kind in kinds}
    others = [
        one for one in asked if not _ours(one) and one.is_write and one.resource.partition("/")[0] in names
    ]
    return sum(written.values()) - len(others)


async def idle(place: Stage) -> Counter[str]:
    """What the operator asks while nothing changes. The span is what is measured, so it is no wait."""
    began = time.time()
    print(f"watching it do nothing for {IDLE_SECONDS:.0f} s", flush=True)
    await asyncio.sleep(IDLE_SECONDS)
    return tally(list(requests(place.plane.audit_log, began, time.time())), _ours)


async def restart(place: Stage) -> Restart:
    """Stop the operator and start a new one."""
    await asyncio.to_thread(place.operator.stop)
    written, pods = place.written(), place.pods()
    began = time.time()
    await asyncio.to_thread(place.start_operator)
    pid = place.operator.pid
    last = await asyncio.to_thread(until_quiet, pid, QUIET_LIMIT)
    used, memory = cpu_seconds(pid), memory_mb(pid)
    asked = [one for one in requests(place.plane.audit_log, began, time.time()) if _ours(one)]
    return Restart(
        cpu_seconds=used,
        quiet_seconds=max([last, *(one.time for one in asked)]) - began,
        requests=dict(tally(asked)),
        writes=sum(one.is_write and "reviews" not in one.resource for one in asked),
        kept=sum(count != written.get(key) for key, count in place.written().items()),
        pods_replaced=len(place.pods() - pods),
        memory_mb=memory,
    )
