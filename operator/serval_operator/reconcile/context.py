"""What the controllers of all kinds share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from serval_operator.api.conditions import Condition
from serval_operator.api.naming import Key
from serval_operator.api.snapshots import PodView
from serval_operator.cluster.capacity import Supply
from serval_operator.config import Configuration
from serval_operator.jobs.progress_poller import PageReader
from serval_operator.pods.device_prober import Prober
from serval_operator.pods.event_reader import EventReader
from serval_operator.runtime.cache import Cache
from serval_operator.runtime.kube_api import KubeApi
from serval_operator.runtime.publisher import Recorder
from serval_operator.runtime.references import References


class Meter(Protocol):
    """Takes the figures that a reconcile produces."""

    def conditions(self, key: Key, conditions: Sequence[Condition]) -> None:
        """The conditions of an object now; none when it is gone."""

    def pod_ready(self, kind: str, seconds_by_phase: dict[str, float]) -> None:
        """A pod of an object of a kind became ready."""


class PodReader(Prober, PageReader, Protocol):
    """Reads pages of pods."""


class Supplier(Protocol):
    """Reads what there is of nodes and devices."""

    async def supply(
        self, resource_name: str, *, with_holds: bool, waiting: Sequence[PodView] = (), fresh: bool = False
    ) -> Supply:
        """Nodes, and where asked for what pods hold of them and what autoscalers say of waiting pods."""


@dataclass(frozen=True, slots=True)
class Context:
    """What the controllers of all kinds share.

    Parameters
    ----------
    hide_foreign:
        Whether holders of devices in other namespaces are counted only, and not named.
    now:
        Aware UTC time, by the clock that writes the cluster's time stamps.
    clock:
        Monotonic seconds.
    wake:
        Enqueues a key about which there is something new.
    sleep:
        Waits for seconds.
    """

    configuration: Configuration
    api: KubeApi
    cache: Cache
    meter: Meter
    recorder: Recorder
    supplier: Supplier
    events: EventReader
    prober: PodReader
    references: References
    now: Callable[[], datetime]
    clock: Callable[[], float]
    wake: Callable[[Key], None]
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    hide_foreign: bool = False
