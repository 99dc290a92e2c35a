"""``serval replay``: sends recorded requests to two models and compares what they answer."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from serval_serving.cli import times
from serval_serving.cli.comparison import OutputComparison, Outputs, compare
from serval_serving.cli.errors import DIFFERENT, NOT_FOUND, OK, USAGE, CliError
from serval_serving.cli.extra import cluster_of
from serval_serving.cli.recorded import METHODS, Recorded, outputs_of, read
from serval_serving.cli.tables import table
from serval_serving.client.calls import Connection, typed_errors
from serval_serving.client.errors import DeadlineExceededError, ServingError, UnavailableError
from serval_serving.wire import rpc

RECORDED: Final = "recorded replies"


@dataclass(slots=True)
class Side:
    """One of the two models.

    Attributes
    ----------
    name:
        What the result calls it.
    model, version:
        What to ask for; empty and None for what each record asks for, and for the newest.
    connection:
        The way to its server; None for the replies in the records.
    seconds:
        Duration of each request that succeeded.
    failures:
        Number of requests that failed, by the name of the status.
    """

    name: str
    model: str = ""
    version: int | None = None
    connection: Connection | None = None
    seconds: list[float] = field(default_factory=list)
    failures: dict[str, int] = field(default_factory=dict)

    def ask(self, recorded: Recorded, *, measured: bool = True) -> Outputs | str:
        """Send a request; the answer is the outputs, or the name of the status.

        Raises
        ------
        UnavailableError, DeadlineExceededError
            The server does not answer: more requests would not help. A measured request that is late only
            counts as failed.
        """
        if self.connection is None:
            return recorded.outputs if recorded.outputs is not None else "NO_REPLY"
        request = self._request(recorded)
        call = rpc.multicallable(self.connection.channel, recorded.method)
        started = time.monotonic()
        try:
            with typed_errors():
                reply = call(request, **self.connection.arguments(None))
            seconds = time.monotonic() - started
            outputs = outputs_of(recorded.method, reply)
        except ServingError as error:
            silent = (UnavailableError,) if measured else (UnavailableError, DeadlineExceededError)
            if isinstance(error, silent):
                raise
            if not measured:
                return error.code
            self.failures[error.code] = self.failures.get(error.code, 0) + 1
            return error.code
        if measured:
            self.seconds.append(seconds)
        return outputs

    def _request(self, recorded: Recorded) -> Any:
        """Return the request for this model."""
        request = recorded.method.request.FromString(recorded.request.SerializeToString())
        if self.model:
            request.model_spec.name = self.model
        if self.version is not None:
            request.model_spec.version.value = self.version
        return request


@dataclass(slots=True)
class Result:
    """What came of all records.

    Attributes
    ----------
    requests:
        How many were sent to both.
    compared:
        To how many of them both replied.
    equal:
        How many replies were equal in all outputs.
    unlike:
        How many requests only one of both answered, or both refused with different statuses.
    outputs:
        The comparison of each output.
    """

    requests: int = 0
    compared: int = 0
    equal: int = 0
    unlike: int = 0
    outputs: dict[str, OutputComparison] = field(default_factory=dict)

    def add(self, name: str, first: Outputs | str, second: Outputs | str) -> None:
        """Add what both said to one record."""
        self.requests += 1
        if isinstance(first, str) or isinstance(second, str):
            self.unlike += first != second if isinstance(first, str) and isinstance(second, str) else 1
            return
        self.compared += 1
        before = sum(output.equal for output in self.outputs.values())
        compare(self.outputs, name, first, second)
        equal = sum(output.equal for output in self.outputs.values()) - before
        self.equal += equal == len({*first, *second})


def run(options: argparse.Namespace) -> int:
    """Compare and print the result.

    Raises
    ------
    CliError
        If a file or a target is not there.
    UnavailableError, DeadlineExceededError
        If a server does not answer.
    """
    if options.limit < 1:
        raise CliError("--limit must be at least 1", USAGE)
    with ExitStack() as stack:
        sides = [stack.enter_context(_side(target, options)) for target in options.targets]
        if len(sides) > 2:
            raise CliError("one or two targets are compared", USAGE)
        first, second = sides if len(sides) == 2 else (Side(RECORDED), sides[0])
        result = _replay(read(options.records, options.limit), first, second, options.max_seconds)
    if not result.requests:
        raise CliError(f"the files have no record of {' or '.join(METHODS)}", NOT_FOUND)
    print(_as_json(result, first, second) if options.json else _as_text(result, first, second))
    alike = all(output.within(options.tolerance) for output in result.outputs.values())
    return OK if alike and not result.unlike and result.compared else DIFFERENT


def _replay(records: Iterator[Recorded], first: Side, second: Side, max_seconds: float) -> Result:
    """Send the requests to both in turns, so that both meet the same conditions."""
    result = Result()
    end = time.monotonic() + max_seconds
    for number, recorded in enumerate(records):
        if number == 0:
            # The first request of a connection opens it.
            for side in (first, second):
                side.ask(recorded, measured=False)
        if time.monotonic() >= end:
            break
        if number % 2:
            answer = second.ask(recorded)
            result.add(recorded.name, first.ask(recorded), answer)
        else:
            result.add(recorded.name, first.ask(recorded), second.ask(recorded))
    return result


@contextmanager
def _side(target: str, options: argparse.Namespace) -> Iterator[Side]:
    """Yield the model that a target names: ``HOST:PORT[/MODEL[/VERSION]]`` or ``NAME[/VERSION]``."""
    place, *rest = target.split("/")
    if not place or len(rest) > 2 or target.startswith(("http:", "https:")):
        raise CliError(f"{target}: HOST:PORT[/MODEL[/VERSION]] or NAME[/VERSION] is wanted", USAGE)
    with ExitStack() as stack:
        if ":" in place:
            address, model, digits = place, *rest, *[""] * (2 - len(rest))
        else:
            cluster = cluster_of(options)
            found = cluster.model_deployment(place)
            model, digits = found["spec"].get("model", {}).get("name") or place, "".join(rest[:1])
            address = stack.enter_context(cluster.address(place, "grpc"))
        if digits and not (digits.isascii() and digits.isdecimal()):
            raise CliError(f"{target}: {digits} is no version", USAGE)
        connection = Connection(address, None, None, options.timeout)
        stack.callback(connection.channel.close)
        yield Side(target, model, int(digits) if digits else None, connection)


def _as_text(result: Result, first: Side, second: Side) -> str:
    counts = (
        f"{result.requests} requests, {result.compared} answered by both, {result.equal} equal,"
        f" {result.unlike} answered by only one or refused differently"
    )
    rows = [
        (name, f"{one.equal}/{one.compared}", f"{one.largest:.6g}", _reasons(one), one.worst or times.UNKNOWN)
        for name, one in result.outputs.items()
    ]
    header = ("OUTPUT", "EQUAL", "MAX DIFFERENCE", "NOT COMPARABLE", "WORST RECORD")
    sides = [
        (side.name, *(_shown(value) for value in _percentiles(side.seconds)), _counts(side.failures))
        for side in (first, second)
    ]
    latency = table(("TARGET", "P50 MS", "P99 MS", "FAILED"), sides)
    return "\n\n".join((counts, *([table(header, rows)] if rows else []), latency))


def _as_json(result: Result, first: Side, second: Side) -> str:
    outputs = {
        name: {
            "compared": one.compared,
            "equal": one.equal,
            # JSON has no infinity.
            "maxDifference": one.largest if one.largest < float("inf") else "Infinity",
            "notComparable": one.other,
            "worst": one.worst,
        }
        for name, one in result.outputs.items()
    }
    sides = []
    for side in (first, second):
        p50, p99 = _percentiles(side.seconds)
        sides.append({"target": side.name, "p50Ms": p50, "p99Ms": p99, "failed": side.failures})
    counts = {name: getattr(result, name) for name in ("requests", "compared", "equal", "unlike")}
    return json.dumps({**counts, "outputs": outputs, "targets": sides})


def _percentiles(seconds: Sequence[float]) -> tuple[float | None, float | None]:
    """Return p50 and p99 in milliseconds; None if there was no reply."""
    return times.percentile(seconds, 50), times.percentile(seconds, 99)


def _shown(milliseconds: float | None) -> str:
    return times.UNKNOWN if milliseconds is None else f"{milliseconds:.2f}"


def _counts(found: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in found.items()) or "0"


def _reasons(one: OutputComparison) -> str:
    return _counts(one.other)
