"""``python -m benchmarks kinds``: many ModelDeployments beside many objects of other kinds.

Notes have no pods and no children, and the Toys are finished. Both kinds exist only in tests. A few are made,
the operator judges them, and the rest are copies in etcd, as `benchmarks.operator.copies` makes them.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
import time
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from benchmarks.operator.measure import EACH_LIMIT, LEAST_LIMIT, QUIET_LIMIT, idle, restart
from benchmarks.operator.processes import memory_mb, until_quiet
from benchmarks.operator.stage import IN_FLIGHT, NAMESPACE, PER_NAMESPACE, Stage, stage
from serval_operator.api.conditions import format_time
from serval_operator.api.parse import parse_block
from serval_operator.constants import READY
from serval_operator.reasons import DONE, SERVING
from support.cluster import Object
from support.note import NOTE_KIND
from support.toy import TOY_KIND
from support.toy.manifests import play_job
from support.toy.plan import ALLOWED, PLAYED
from support.toy.spec import ToySpec

COUNT, BARE, FINISHED = 10_000, 20_000, 5_000
SETTLE_LIMIT = 900.0
SETTLE_CALM = 30.0
"""Seconds. The first operator applies the children of the copies, whose labels hold other uids, and waits for
an API server that now and then takes seconds for an answer."""
_RECONCILES = re.compile(r'^serval_operator_reconcile_seconds_count\{kind="(\w+)",.*\} (\S+)$', re.MULTILINE)


def main(arguments: Sequence[str] = ()) -> None:
    """Measure, and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks kinds", description=__doc__)
    parser.add_argument("--count", type=int, default=COUNT, help="ModelDeployments")
    parser.add_argument("--bare", type=int, default=BARE, help="objects without pods")
    parser.add_argument("--finished", type=int, default=FINISHED, help="finished objects")
    options = parser.parse_args(arguments)
    asyncio.run(measure(options.count, options.bare, options.finished))


async def measure(count: int, bare: int, finished: int) -> None:
    """Start an operator among so many objects, and look at it while nothing happens."""
    made = min(count, PER_NAMESPACE)
    share = made / count
    async with stage(count, (TOY_KIND, NOTE_KIND), "support.toy_operator") as place:
        await place.create(made)
        await _all([place.post("notes", _note(number)) for number in range(round(bare * share))])
        await place.observer.until("ready", made, LEAST_LIMIT + made * EACH_LIMIT)
        await asyncio.to_thread(until_quiet, place.operator.pid, QUIET_LIMIT)
        await asyncio.to_thread(place.operator.stop)
        await place.observer.stop()
        await _all([_finish(place, number) for number in range(round(finished * share))])
        print(f"{made} ModelDeployments made, with their share of the others", flush=True)
        manager = place.plane.context.process("kube-controller-manager")
        assert manager, "the controller manager runs"
        # It needs a quarter of an hour for so many copies, and has nothing to do with what is measured.
        with _halted(manager.pid):
            await asyncio.to_thread(place.copy, count)
            print("copied", flush=True)
            await asyncio.to_thread(place.start_operator)
            await asyncio.to_thread(until_quiet, place.operator.pid, SETTLE_LIMIT, SETTLE_CALM)
            print("settled", flush=True)
            found = await restart(place)
            before, began = _reconciles(place), time.time()
            asked = await idle(place)
            judged = {kind: number - before.get(kind, 0) for kind, number in _reconciles(place).items()}
            memory = memory_mb(place.operator.pid)
    print(f"{count:,} ModelDeployments, {bare:,} without pods, {finished:,} finished")
    print(
        f"start: {found.cpu_seconds:.1f} s of CPU, quiet after {found.quiet_seconds:.0f} s, "
        f"{found.writes} writes, {found.pods_replaced} pods replaced"
    )
    print(f"memory now and at most: {memory[0]:.0f} / {memory[1]:.0f} MB (goal 400)")
    print(f"requests in {time.time() - began:.0f} s at rest: {dict(asked) or 'none'}")
    print(f"judged again meanwhile by the resync: {judged}")


def _note(number: int) -> Object:
    return _manifest("Note", f"note-{number:05}", {"text": f"note {number}"})


def _manifest(kind: str, name: str, spec: Object) -> Object:
    meta = {"name": name, "namespace": f"{NAMESPACE}0"}
    return {"apiVersion": "serval.dev/v1alpha1", "kind": kind, "metadata": meta, "spec": spec}


async def _finish(place: Stage, number: int) -> None:
    """Create a Toy that has been played, as its operator would leave it."""
    toy = _manifest("Toy", f"toy-{number:05}", {"model": {"uri": "pvc://models/digits"}, "steps": 2})
    await place.post("toys", toy)
    now = format_time(datetime.now(UTC))
    spec = parse_block(ToySpec, "spec", {**toy["spec"], "mode": "Forward"})
    inputs = play_job(spec, suspend=False).inputs_digest
    record = {"name": "play", "inputs": inputs, "attempt": 1, "phase": "Succeeded", "result": {"score": 7}}
    said = {READY: (SERVING, "score 7"), ALLOWED: (DONE, ""), PLAYED: (DONE, "score 7")}
    conditions = [
        {
            "type": kind,
            "status": "True",
            "observedGeneration": 1,
            "lastTransitionTime": now,
            "reason": reason,
            "message": message,
        }
        for kind, (reason, message) in said.items()
    ]
    jobs = [{**record, "completionTime": now}]
    status = {"observedGeneration": 1, "watching": 0, "jobs": jobs, "conditions": conditions}
    await place.write_status("toys", {**toy, "status": status})


async def _all(requests: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Send requests, so many at the same time."""
    places = asyncio.Semaphore(IN_FLIGHT)

    async def send(request: Coroutine[Any, Any, None]) -> None:
        async with places:
            await request

    await asyncio.gather(*map(send, requests))


@contextmanager
def _halted(pid: int) -> Iterator[None]:
    """Let a process rest."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _reconciles(place: Stage) -> dict[str, int]:
    """Reconciles so far, by kind."""
    found: dict[str, int] = {}
    for kind, count in _RECONCILES.findall(place.operator.metrics()):
        found[kind] = found.get(kind, 0) + int(float(count))
    return found
