"""What a kind of custom resource is: a value that the registry lists."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from serval_operator.api.crd import Crd
from serval_operator.api.naming import Key
from serval_operator.api.resources import Resource
from serval_operator.cluster.capacity_reader import ClusterSupplier
from serval_operator.config import Configuration
from serval_operator.runtime.cache import Cache
from serval_operator.runtime.event_recorder import EventRecorder
from serval_operator.runtime.kube_api import KubeApi
from serval_operator.runtime.metrics import Metrics
from serval_operator.runtime.reconciler import Controller
from serval_operator.settings import Settings


@dataclass(frozen=True, slots=True)
class Context:
    """What the controllers of all kinds share.

    Parameters
    ----------
    now:
        Aware UTC time, by the clock that writes the cluster's time stamps.
    clock:
        Monotonic seconds.
    wake:
        Enqueues a key about which there is something new.
    """

    settings: Settings
    configuration: Configuration
    api: KubeApi
    cache: Cache
    metrics: Metrics
    recorder: EventRecorder
    supplier: ClusterSupplier
    now: Callable[[], datetime]
    clock: Callable[[], float]
    wake: Callable[[Key], None]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of custom resource.

    Parameters
    ----------
    resource:
        Where the API server keeps its objects.
    crd:
        Its CustomResourceDefinition, as this operator knows it.
    controller:
        Makes its controller.
    """

    resource: Resource
    crd: Crd
    controller: Callable[[Context], Controller]
