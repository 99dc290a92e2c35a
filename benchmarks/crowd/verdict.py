"""CPU time of one capacity verdict. It runs by itself, with the operator of the path.

``python verdict.py NODES DEVICES`` prints milliseconds.
"""

from __future__ import annotations

import sys
import time

from serval_operator.api.device_holders import PodHold
from serval_operator.api.nodes import NodeView, parse_node
from serval_operator.api.placement import Placement
from serval_operator.cluster.capacity import Supply, judge_capacity

GPU = "nvidia.com/gpu"
UNRELATED = "vpc.amazonaws.com/pod-eni"
ROUNDS, CALLS = 20, 10


def main(nodes: int, devices: int) -> float:
    """Milliseconds of a verdict on busy devices, in the best of several rounds."""
    offered = [{UNRELATED: "38"} | ({GPU: "1"} if number < devices else {}) for number in range(nodes)]
    seen = tuple(_node(f"node-{number:05}", amounts) for number, amounts in enumerate(offered))
    holds = tuple(PodHold("other", f"pod-{at}", f"node-{at:05}", None, {GPU: 1}) for at in range(devices))
    request, supply = Placement(resource_name=GPU, count=1), Supply(seen, holds)
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.process_time()
        for _ in range(CALLS):
            judge_capacity(request, supply, namespace="crowd", hide_foreign=False)
        best = min(best, time.process_time() - start)
    return best / CALLS * 1000


def _node(name: str, amounts: dict[str, str]) -> NodeView:
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/os": "linux",
        "node.kubernetes.io/instance-type": "m5.8xlarge",
        "topology.kubernetes.io/region": "eu-central-1",
        "topology.kubernetes.io/zone": "eu-central-1a",
        "eks.amazonaws.com/nodegroup": "general",
    }
    conditions = [{"type": "Ready", "status": "True"}]
    status = {"allocatable": amounts, "capacity": amounts, "conditions": conditions}
    return parse_node({"metadata": {"name": name, "labels": labels}, "status": status})


if __name__ == "__main__":
    print(main(int(sys.argv[1]), int(sys.argv[2])))
