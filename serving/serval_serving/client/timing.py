"""Where the time of a request went, as far as the server tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from serval_serving.wire.timing import ENGINE, QUEUE, TOTAL, read_times


@dataclass(frozen=True, slots=True)
class Timing:
    """Where the time of one request went, in seconds. The four parts add up to the total, but for rounding.

    Attributes
    ----------
    total:
        From sending the request until the reply was there, as the client saw it; all tries and the pauses
        between them included.
    network:
        The part of it that no server accounts for: the way there and back, the protocol's work at both ends,
        and tries that failed.
    queue:
        Waiting in the server: for one of its threads, for a batch, for the engine.
    engine:
        Running the model.
    server:
        What else the server did: checking the request, reading and writing tensors.

    All but the total are None where the server does not tell.
    """

    total: float
    network: float | None = None
    queue: float | None = None
    engine: float | None = None
    server: float | None = None


OnTiming = Callable[[Timing], object]
"""What a client calls with the timing of a request that was answered."""


def timing_of(total: float, told: str) -> Timing:
    """Split what a request took, in seconds, by what the server told with the reply."""
    times = read_times(told)
    if not times.keys() >= {TOTAL, QUEUE, ENGINE}:
        return Timing(total)
    queue, engine = times[QUEUE], times[ENGINE]
    # Two clocks are compared, and the words of one are rounded.
    network = max(0.0, total - times[TOTAL])
    return Timing(total, network, queue, engine, max(0.0, times[TOTAL] - queue - engine))
