"""The operator killed at random moments, and the operator left in peace."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from support import kubelet as states
from support import whole
from support.cluster import Cluster
from support.kubelet import Kubelet
from support.models import model_deployment
from support.operator import OperatorProcess
from support.wait import until

OPERATOR_USER = "system:serviceaccount:serval-system:"
ROUNDS = 20
SAMPLED_ROUNDS = 6
QUIET_SECONDS, QUIET_RESYNC = 60, 20
SHORT_QUIET_SECONDS, SHORT_QUIET_RESYNC = 25, 10
"""What is watched in a run that is not whole; the operator takes no shorter time between two resyncs."""
Record = Callable[[str, object], None]
Sampled = Callable[[int, int, str], None]
Factory = Callable[..., OperatorProcess]
NAMES = ("one", "two", "three")


def children(cluster: Cluster, namespace: str) -> dict[str, object]:
    """What the operator made, without what the API server counts and dates."""
    kept: dict[str, object] = {}
    for kind in ("Deployment", "Service"):
        for obj in cluster.list(kind, namespace, selector="app.kubernetes.io/managed-by=serval-operator"):
            spec = {
                key: value for key, value in obj["spec"].items() if key not in ("clusterIP", "clusterIPs")
            }
            kept[f"{kind}/{obj['metadata']['name']}"] = [obj["metadata"]["labels"], spec]
    return kept


def expected(names: tuple[str, ...]) -> set[str]:
    """Names of the children of these ModelDeployments."""
    return {
        child
        for name in names
        for child in (f"Deployment/{name}", f"Service/{name}", f"Service/{name}-headless")
    }


def test_killed_at_random_moments_it_always_reaches_the_same_end(
    cluster: Cluster,
    namespace: str,
    operator_factory: Factory,
    record_property: Record,
    sampled: Sampled,
) -> None:
    rounds = whole.amount(SAMPLED_ROUNDS, ROUNDS)
    sampled(rounds, ROUNDS, "kills")
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    record_property("seed", seed)
    stranger = cluster.create(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "theirs", "namespace": namespace},
            "spec": {"ports": [{"port": 1}]},
        }
    )
    process = operator_factory("killed")
    for round_number in range(rounds):
        process.start(wait=rng.random() < 0.5)
        for name in NAMES:
            spec = {
                "replicas": round_number % 3,
                "probes": {"readiness": {"periodSeconds": 1 + round_number}},
            }
            cluster.apply(model_deployment(name, namespace, **spec))
        if round_number % 5 == 4:
            cluster.delete("ModelDeployment", namespace, rng.choice(NAMES))
        cluster.apply(model_deployment("theirs", namespace))
        # The moment of the kill is the input of this test, not a wait for something.
        time.sleep(rng.uniform(0.0, 1.5))
        process.kill()
    process.start()
    last = {"replicas": 2, "probes": {"readiness": {"periodSeconds": 42}}}
    for name in NAMES:
        cluster.apply(model_deployment(name, namespace, **last))
    for name in NAMES:
        cluster.until(
            "the last spec",
            "Deployment",
            namespace,
            name,
            lambda one: (
                one["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]["periodSeconds"] == 42
            ),
        )
    wanted = expected(NAMES) | {"Deployment/theirs", "Service/theirs-headless"}
    until("all children", lambda: wanted <= set(children(cluster, namespace)))
    assert set(children(cluster, namespace)) == wanted
    theirs = cluster.get("Service", namespace, "theirs")
    assert theirs is not None
    assert theirs["metadata"]["resourceVersion"] == stranger["metadata"]["resourceVersion"]
    for name in (*NAMES, "theirs"):
        cluster.delete("ModelDeployment", namespace, name)
    until("nothing left", lambda: not children(cluster, namespace), limit=60)
    process.stop()


def test_twenty_models_at_rest_cost_no_write(
    cluster: Cluster,
    namespace: str,
    kubelet: Kubelet,
    audit_log: Path,
    operator_factory: Factory,
    sampled: Sampled,
) -> None:
    quiet = whole.amount(SHORT_QUIET_SECONDS, QUIET_SECONDS)
    sampled(quiet, QUIET_SECONDS, "seconds")
    # Several resyncs fall into the watched span.
    resync = whole.amount(SHORT_QUIET_RESYNC, QUIET_RESYNC)
    begin = audit_log.stat().st_size
    process = operator_factory("quiet", SERVAL_RESYNC_SECONDS=str(resync)).start()
    names = [f"quiet-{number}" for number in range(20)]
    for name in names:
        cluster.create(model_deployment(name, namespace))
    for name in names:
        (pod,) = until(f"a pod of {name}", lambda name=name: kubelet.pods(name), limit=60)  # type: ignore[misc]
        kubelet.write(pod, states.ready())
    for name in names:
        cluster.until_condition(namespace, name, "Ready", "True", "Serving")
    start = audit_log.stat().st_size
    busy = requests_since(audit_log, begin)
    assert busy["patch deployments"] >= len(names), "the audit log does not tell the operator's requests"
    # Watching that nothing happens is the one thing that takes its time.
    time.sleep(quiet)
    assert requests_since(audit_log, start) == Counter(), "the operator sent requests while nothing changed"
    process.stop()


def requests_since(audit_log: Path, offset: int) -> Counter[str]:
    """The operator's requests in the audit log from an offset on, watches aside, by verb and resource."""
    with audit_log.open("rb") as stream:
        stream.seek(offset)
        events = [json.loads(line) for line in stream.read().splitlines() if line.endswith(b"}")]
    return Counter(
        f"{event['verb']} {event['objectRef']['resource']}"
        for event in events
        if event["user"]["username"].startswith(OPERATOR_USER)
        and event["verb"] != "watch"
        and "objectRef" in event
    )
