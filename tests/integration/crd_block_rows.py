"""ModelDeployments that the API server refuses for where they run, how they change and how they scale."""

from __future__ import annotations

from integration.crd_rules_rows import ON_REQUESTS, accelerator, autoscaling, scheduling, toleration
from integration.crd_samples import Document, document

TOLERATION, BUDGET = "spec.scheduling.tolerations[0]", "spec.disruption.maxUnavailable"
METRICS = "spec.autoscaling.metrics"
BAD_BLOCKS: dict[str, tuple[Document, str, str]] = {
    # --- accelerators
    "profile and resource": (
        accelerator(resourceName="nvidia.com/gpu"),
        "spec.accelerator",
        "exactly one of `profile` and `resourceName` must be set",
    ),
    "neither profile nor resource": (
        document(accelerator={"count": 1}),
        "spec.accelerator",
        "exactly one of `profile` and `resourceName` must be set",
    ),
    "no accelerators": (accelerator(count=0), "spec.accelerator.count", "greater than or equal to 1"),
    "too many accelerators": (accelerator(count=65), "spec.accelerator.count", "less than or equal to 64"),
    "half an accelerator": (accelerator(count=1.5), "spec.accelerator.count", "must be of type int32"),
    "resource without domain": (
        document(accelerator={"resourceName": "gpu"}),
        "spec.accelerator.resourceName",
        "must be the name of an extended resource",
    ),
    "Kubernetes' own resource": (
        document(accelerator={"resourceName": "kubernetes.io/gpu"}),
        "spec.accelerator.resourceName",
        "must not be in the domain kubernetes.io",
    ),
    "resource of a quota": (
        document(accelerator={"resourceName": "requests.nvidia.com/gpu"}),
        "spec.accelerator.resourceName",
        "nor start with requests.",
    ),
    # --- scheduling
    "node label name": (
        scheduling(nodeSelector={"a b": "c"}),
        "spec.scheduling.nodeSelector",
        "must have valid label names",
    ),
    "node label value": (
        scheduling(nodeSelector={"a": "b c"}),
        "spec.scheduling.nodeSelector.a",
        "should match",
    ),
    "toleration of nothing": (
        toleration(effect="NoSchedule"),
        TOLERATION,
        "`operator`",
    ),
    "value beside Exists": (
        toleration(key="a", operator="Exists", value="b"),
        TOLERATION,
        "`value` must be absent",
    ),
    "seconds without NoExecute": (
        toleration(key="a", value="b", effect="NoSchedule", tolerationSeconds=3),
        TOLERATION,
        "`effect` must be NoExecute",
    ),
    "unknown operator": (
        toleration(key="a", operator="In"),
        f"{TOLERATION}.operator",
        "Unsupported value",
    ),
    "runtime class in upper case": (
        scheduling(runtimeClassName="NVIDIA"),
        "spec.scheduling.runtimeClassName",
        "should match",
    ),
    "empty runtime class": (
        scheduling(runtimeClassName=""),
        "spec.scheduling.runtimeClassName",
        "at least 1",
    ),
    "scheduler in upper case": (
        scheduling(schedulerName="Volcano"),
        "spec.scheduling.schedulerName",
        "should match",
    ),
    "placement under the accelerator": (
        accelerator(nodeSelector={"a": "b"}),
        "",
        'unknown field "spec.accelerator.nodeSelector"',
    ),
    "unknown policy": (accelerator(whenUnavailable="Queue"), "spec.accelerator.whenUnavailable", '"Refuse"'),
    "unknown answer to busy": (accelerator(whenBusy="Refuse"), "spec.accelerator.whenBusy", '"Replace"'),
    # --- rollouts
    "unknown strategy": (document(rollout={"strategy": "Recreate"}), "spec.rollout.strategy", '"InPlace"'),
    "unknown cure": (document(rollout={"onFailure": "Delete"}), "spec.rollout.onFailure", '"Revert"'),
    "no deadline": (
        document(rollout={"startDeadlineSeconds": 0}),
        "spec.rollout.startDeadlineSeconds",
        "equal to 10",
    ),
    "deadline beyond a day": (
        document(rollout={"startDeadlineSeconds": 86401}),
        "spec.rollout.startDeadlineSeconds",
        "equal to 86400",
    ),
    "ready for too long": (
        document(rollout={"minReadySeconds": 3601}),
        "spec.rollout.minReadySeconds",
        "equal to 3600",
    ),
    "trigger too long": (
        document(rollout={"trigger": "x" * 254}),
        "spec.rollout.trigger",
        "may not be more than 253",
    ),
    # --- autoscaling
    "no most": (document(autoscaling={}), "spec.autoscaling.maxReplicas", "Required value"),
    "most below least": (
        autoscaling(resources={"requests": {"cpu": 1}}, minReplicas=5, maxReplicas=4),
        "spec.autoscaling.maxReplicas",
        "`maxReplicas` must be at least `minReplicas`",
    ),
    "to zero": (autoscaling(minReplicas=0), "spec.autoscaling.minReplicas", "equal to 1"),
    "a thousand million": (autoscaling(maxReplicas=10**9), "spec.autoscaling.maxReplicas", "equal to 1000"),
    "over 100 percent": (
        autoscaling(metrics=[{"type": "CPU", "targetUtilization": 101}]),
        f"{METRICS}[0].targetUtilization",
        "equal to 100",
    ),
    "0 percent": (
        autoscaling(metrics=[{"type": "CPU", "targetUtilization": 0}]),
        f"{METRICS}[0].targetUtilization",
        "equal to 1",
    ),
    "unknown metric": (autoscaling(metrics=[{"type": "Memory"}]), f"{METRICS}[0].type", '"RequestsInFlight"'),
    "metric without a type": (
        autoscaling(metrics=[{"targetUtilization": 50}]),
        f"{METRICS}[0].type",
        "Required value",
    ),
    "no metrics": (autoscaling(metrics=[]), METRICS, "should have at least 1 items"),
    "one metric twice": (
        autoscaling(resources={"requests": {"cpu": 1}}, metrics=[{"type": "CPU"}, {"type": "CPU"}]),
        f"{METRICS}[1]",
        "Duplicate value",
    ),
    "a share of no CPU": (
        autoscaling(resources={"requests": {"memory": "1Gi"}}),
        "spec.autoscaling",
        "`resources.requests.cpu` must be set",
    ),
    "a share of no CPU beside requests": (
        autoscaling(endpoint={"maxConcurrentRequests": 4}, metrics=[ON_REQUESTS, {"type": "CPU"}]),
        "spec.autoscaling",
        "`resources.requests.cpu` must be set",
    ),
    "a share of no requests beside CPU": (
        autoscaling(resources={"requests": {"cpu": 1}}, metrics=[{"type": "CPU"}, ON_REQUESTS]),
        "spec.autoscaling",
        "`endpoint.maxConcurrentRequests` must be set",
    ),
    "a share of no requests": (
        autoscaling(resources={"requests": {"cpu": 1}}, metrics=[ON_REQUESTS]),
        "spec.autoscaling",
        "`endpoint.maxConcurrentRequests` must be set",
    ),
    # --- disruption and spread
    "budget of none": (document(disruption={"maxUnavailable": 0}), BUDGET, "must be a number from 1"),
    "budget of 0 percent": (
        document(disruption={"maxUnavailable": "0%"}),
        BUDGET,
        "would hold up every drain",
    ),
    "budget beyond all": (document(disruption={"maxUnavailable": "101%"}), BUDGET, "must be a number from 1"),
    "budget as a text": (document(disruption={"maxUnavailable": "5"}), BUDGET, "must be a number from 1"),
    "huge budget": (document(disruption={"maxUnavailable": 10**9}), BUDGET, "must be a number from 1"),
    "unknown spread": (scheduling(topologySpread="Zone"), "spec.scheduling.topologySpread", '"Preferred"'),
    "priority of the system": (
        scheduling(priorityClassName="system-node-critical"),
        "spec.scheduling.priorityClassName",
        "must not be one of the cluster's own",
    ),
}
