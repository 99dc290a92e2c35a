"""Twenty ModelDeployments at rest for five minutes: what the operator sends, by the audit log."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from benchmarks.bench_plane import NAMESPACE, OPERATOR_USER, bench
from support import kubelet as states
from support.models import model_deployment
from support.wait import until

MODELS = 20
SECONDS = 300
WRITES = {"create", "update", "patch", "delete"}


def main(_arguments: Sequence[str] = ()) -> None:
    """Measure and print."""
    with bench(SERVAL_RESYNC_SECONDS="60") as stand:
        names = [f"rest-{number}" for number in range(MODELS)]
        for name in names:
            stand.cluster.create(model_deployment(name, NAMESPACE))
        for name in names:
            (pod,) = until(f"a pod of {name}", lambda name=name: stand.kubelet.pods(name))  # type: ignore[misc]
            stand.kubelet.write(pod, states.ready())
        for name in names:
            stand.cluster.until_condition(NAMESPACE, name, "Ready", "True", "Serving")
        start = stand.audit_size()
        print(f"{MODELS} ModelDeployments are Ready; watching the audit log for {SECONDS} s", flush=True)
        time.sleep(SECONDS)
        sent = Counter(
            f"{event['verb']} {event.get('objectRef', {}).get('resource', event['requestURI'])}"
            for event in stand.audit(start)
            if event["user"]["username"].startswith(OPERATOR_USER)
        )
    writes = sum(count for what, count in sent.items() if what.split()[0] in WRITES)
    print(f"in {SECONDS} s the operator sent: {dict(sent) or 'nothing'}; writes: {writes}")
