"""CPU time to parse the spec of a ModelDeployment and to compute its revision key, in microseconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from serval_operator.kinds.model_deployment.spec import parse_spec
from serval_operator.workload.revision_key import revision_key
from support import gen
from unit.operator.kinds.model_deployment.manifests.cases import CASES, FULL

SPECS = {
    "every field": FULL,
    "five fields": CASES["gpu-profile"],
    "uri only": {"model": {"uri": "pvc://a/b"}},
}
ROUNDS, CALLS = 30, 500


def main(_arguments: Sequence[str] = ()) -> None:
    """Measure and print."""
    for name, spec in SPECS.items():
        parsed = parse_spec(gen.MODEL, spec)
        parsing = _microseconds(lambda spec=spec: parse_spec(gen.MODEL, spec))  # type: ignore[misc]
        hashing = _microseconds(lambda parsed=parsed: revision_key(parsed))  # type: ignore[misc]
        print(f"{name}: parse {parsing:.1f}, key {hashing:.1f} microseconds", flush=True)


def _microseconds(call: Callable[[], object]) -> float:
    """Time of one call in the best of several rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.process_time()
        for _ in range(CALLS):
            call()
        best = min(best, time.process_time() - start)
    return best / CALLS * 1e6
