"""What the controllers of all kinds share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from serval_operator.api.naming import Key
from serval_operator.cluster.capacity_reader import ClusterSupplier
from serval_operator.config import Configuration
from serval_operator.pods.event_reader import EventReader
from serval_operator.reconcile.contest import Contest
from serval_operator.runtime.cache import Cache
from serval_operator.runtime.event_recorder import EventRecorder
from serval_operator.runtime.kube_api import KubeApi
from serval_operator.runtime.metrics import Metrics
from serval_operator.runtime.pod_metrics import HttpProber
from serval_operator.runtime.references import References


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
    meter: Metrics
    recorder: EventRecorder
    supplier: ClusterSupplier
    events: EventReader
    prober: HttpProber
    references: References
    contest: Contest
    now: Callable[[], datetime]
    clock: Callable[[], float]
    wake: Callable[[Key], None]
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    hide_foreign: bool = False
