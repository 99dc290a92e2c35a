"""Gathering Jobs and their pods, apart from the pods that serve."""

from __future__ import annotations

from datetime import datetime

import pytest

from serval_operator.api.naming import Key
from serval_operator.api.resources import EVENTS, JOBS, MODEL_DEPLOYMENTS, PODS
from serval_operator.api.snapshots import parse_owner
from serval_operator.pods.event_reader import EventReader
from serval_operator.pods.observation import Observed
from serval_operator.reconcile.gatherer import Gatherer
from serval_operator.runtime.cache import Cache
from support import gen
from support.fakes import FakeKubeApi

pytestmark = pytest.mark.unit

MODEL = parse_owner(gen.model())


def of_a_job(obj: gen.Object) -> None:
    """The pod belongs to a Job of ours."""
    labels = obj["metadata"]["labels"]
    labels["serval.dev/owner-name"] = labels.pop("serval.dev/name")
    labels |= {"serval.dev/job": "convert", "batch.kubernetes.io/job-name": "digits-convert"}


@pytest.fixture
def cache() -> Cache:
    return Cache((MODEL_DEPLOYMENTS,))


def now() -> datetime:
    return gen.moment(60.0)


def gatherer(cache: Cache, api: FakeKubeApi) -> Gatherer:
    return Gatherer(EventReader(api, now), cache, (), now)


def observed(cache: Cache) -> Observed:
    return gatherer(cache, FakeKubeApi()).observe(MODEL, {})


def test_pods_of_jobs_are_apart(cache: Cache) -> None:
    cache.remember(PODS, gen.pod("digits-1"))
    cache.remember(PODS, gen.pod("digits-2", of_a_job))
    cache.remember(PODS, gen.pod("digits-3", of_a_job, uid="of a predecessor"))
    found = observed(cache)
    assert [pod.name for pod in found.pods] == ["digits-1"]
    assert [pod.name for pod in found.job_pods] == ["digits-2"]
    assert found.job_pods[0].owner == Key("ModelDeployment", gen.NAMESPACE, gen.MODEL)


def test_jobs_are_those_of_this_very_object(cache: Cache) -> None:
    for name, uid in (("a", gen.MODEL_UID), ("b", "of a predecessor")):
        job = gen.service(name=name)
        job["metadata"]["ownerReferences"] = [gen.owner_reference(gen.MODEL, uid)]
        cache.remember(JOBS, job)
    assert [one.name for one in observed(cache).jobs] == ["a"]


async def test_the_events_of_silent_pods_of_jobs_are_read_too(cache: Cache) -> None:
    api = FakeKubeApi()
    cache.remember(PODS, gen.pod("digits-1", gen.starting(), of_a_job))
    api.put(EVENTS, gen.warning("FailedMount", "no such claim"))
    warnings, again = await gatherer(cache, api).warnings(MODEL)
    assert [one.message for one in warnings["uid-digits-1"]] == ["no such claim"]
    assert again is not None
