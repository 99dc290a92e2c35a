"""What a program of a pod needs of the machine: clock and network."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from serval_serving.fetch.progress import Clock
from serval_serving.fetch.safety.address_policy import AddressPolicy, Resolve, system_resolve


@dataclass(frozen=True, slots=True)
class Environment:
    """Clock, name resolution and address policy.

    Attributes
    ----------
    clock:
        Monotonic clock, seconds.
    sleep:
        Waits for a number of seconds.
    resolve:
        Name resolution.
    policy:
        Addresses that may be connected to.
    """

    clock: Clock = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    resolve: Resolve = system_resolve
    policy: AddressPolicy = field(default_factory=AddressPolicy)
