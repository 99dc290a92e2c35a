"""The failures that tests make on the lab: what was done, and the reason that has to be said of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SPEC = "tests/e2e/test_spec_failures.py"
MODEL = "tests/e2e/test_model_failures.py"
SCARCITY = "tests/e2e/test_scarcity.py"
FAULTS = "tests/e2e/test_faults.py"


@dataclass(frozen=True)
class Failure:
    """A failure that a test makes: the test, the reason that is to be said, and what was done, in words."""

    test: str
    reason: str
    made: str
    kserve: str = ""
    """What KServe's status said of the same; empty where that was not looked at."""


UNAVAILABLE = (
    "`PredictorReady` and `Ready` False, both `MinimumReplicasUnavailable`: "
    "“Deployment does not have minimum availability.”"
)
NOTHING = f"{UNAVAILABLE} Nothing more came later"
UNKNOWN = "all conditions `Unknown`, no reason, no message"
CODE = f"{UNAVAILABLE} `modelStatus` has the exit code after 2.5 to 10.6 minutes, without a message"
FETCHED = f"{UNAVAILABLE} `modelStatus` has the fetcher's message and exit code"

FAILURES = (
    Failure(
        f"{SPEC}::test_what_the_configuration_lacks",
        "UnknownRuntime",
        "a runtime that does not exist",
        UNKNOWN,
    ),
    Failure(
        f"{SPEC}::test_what_the_configuration_lacks",
        "UnknownProfile",
        "an accelerator profile that does not exist",
    ),
    Failure(
        f"{SPEC}::test_a_framework_that_the_runtime_does_not_serve",
        "UnsupportedSpec",
        "a model that the runtime cannot serve",
        UNKNOWN,
    ),
    Failure(
        f"{SPEC}::TestCredentials::test_a_secret_that_is_missing",
        "CredentialsNotFound",
        "no such Secret with credentials",
    ),
    Failure(
        f"{SPEC}::TestCredentials::test_an_account_that_is_not_meant_for_it",
        "ReferenceNotPermitted",
        "a ServiceAccount whose owner does not offer it",
    ),
    Failure(
        f"{SPEC}::TestChildren::test_a_service_of_the_same_name_that_is_someone_elses",
        "ResourceConflict",
        "a Service of the same name that is someone else's",
    ),
    Failure(
        f"{SPEC}::TestChildren::test_a_policy_that_refuses_what_is_needed",
        "ChildRefused",
        "an admission policy refuses a Service",
    ),
    Failure(
        f"{SCARCITY}::test_the_holder_is_named_and_it_heals_when_it_lets_go",
        "AcceleratorBusy",
        "all GPUs are taken",
    ),
    Failure(
        f"{SCARCITY}::test_what_this_cluster_cannot_give_is_said_at_once",
        "NoNodeOffersResource",
        "a device that no node has",
    ),
    Failure(
        f"{SCARCITY}::test_what_this_cluster_cannot_give_is_said_at_once",
        "SelectorMismatch",
        "labels that no GPU node has",
    ),
    Failure(
        f"{MODEL}::TestScheduling::test_more_gpus_than_a_node_has",
        "RequestExceedsNode",
        "more GPUs than any node has",
        NOTHING,
    ),
    Failure(
        f"{SPEC}::test_a_taint_that_the_pod_does_not_tolerate", "UntoleratedTaint", "the GPU node is tainted"
    ),
    Failure(
        f"{SCARCITY}::TestDevices::test_a_plugin_that_is_gone_and_back",
        "DeviceNotReady",
        "the GPU node's device plugin is gone",
    ),
    Failure(
        f"{FAULTS}::TestNodes::test_a_cordoned_node_is_named_while_its_devices_are_out_of_reach",
        "DeviceNotReady",
        "the GPU node is cordoned",
    ),
    Failure(
        f"{MODEL}::TestDevice::test_refused_allocation", "DeviceAllocationFailed", "the device plugin refuses"
    ),
    Failure(
        f"{FAULTS}::TestNodes::test_the_only_replica_does_not_hold_up_a_drain",
        "Unschedulable",
        "no node takes the pod",
    ),
    Failure(f"{MODEL}::TestScheduling::test_quota", "QuotaExceeded", "the namespace's quota is used up"),
    Failure(
        f"{SPEC}::TestChildren::test_pods_that_may_not_be_created",
        "PodCreateFailed",
        "a PriorityClass that does not exist",
    ),
    Failure(f"{MODEL}::TestNode::test_sandbox", "SandboxFailed", "the node's network is broken"),
    Failure(
        f"{MODEL}::TestNode::test_volume_that_is_missing", "VolumeFailed", "a ConfigMap that does not exist"
    ),
    Failure(
        f"{MODEL}::TestNode::test_image_that_does_not_exist",
        "ImagePullFailed",
        "an image that does not exist",
        NOTHING,
    ),
    Failure(f"{FAULTS}::test_registry_that_is_gone_and_back", "ImagePullFailed", "the registry is gone"),
    Failure(
        f"{MODEL}::TestNode::test_container_that_cannot_be_started",
        "CreateContainerError",
        "a program that may not be run",
    ),
    Failure(f"{MODEL}::TestNode::test_node_lost_and_found", "NodeNotReady", "the node is switched off"),
    Failure(
        f"{FAULTS}::TestNodes::test_a_node_cut_from_the_network_goes_on_and_is_found_again",
        "NodeNotReady",
        "the node is cut from the network",
    ),
    Failure(
        f"{MODEL}::TestFetch::test_what_is_wrong_with_the_archive",
        "ModelNotFound",
        "the address answers 404",
        FETCHED,
    ),
    Failure(
        f"{MODEL}::TestFetch::test_what_is_wrong_with_the_archive",
        "ModelAccessDenied",
        "the address answers 403",
    ),
    Failure(
        f"{MODEL}::TestFetch::test_store_that_does_not_answer",
        "ModelSourceUnavailable",
        "nobody listens at the address",
    ),
    Failure(
        f"{MODEL}::TestFetch::test_certificate_that_is_not_trusted",
        "ModelSourceUnavailable",
        "the store's certificate is not trusted",
    ),
    Failure(f"{MODEL}::TestFetch::test_digest", "ModelDigestMismatch", "another archive than the pinned one"),
    Failure(
        f"{MODEL}::TestFetch::test_what_is_wrong_with_the_archive",
        "ModelArtifactRejected",
        "an archive that writes outside its folder",
    ),
    Failure(
        f"{MODEL}::TestFetch::test_what_is_wrong_with_the_archive",
        "ModelInvalid",
        "an archive without a model",
    ),
    Failure(
        f"{SPEC}::test_a_replica_that_finds_another_model",
        "ModelVersionSkew",
        "the files changed before another replica came",
    ),
    Failure(
        f"{MODEL}::TestServer::test_model_that_cannot_be_loaded",
        "ModelLoadFailed",
        "a model without its variables",
    ),
    Failure(f"{MODEL}::TestServer::test_crash_loop", "CrashLoop", "a server that ends at once", CODE),
    Failure(f"{MODEL}::TestServer::test_out_of_memory", "OutOfMemory", "too little memory"),
    Failure(
        f"{SPEC}::test_a_model_that_does_not_answer_by_the_deadline",
        "StartDeadlineExceeded",
        "no answer by a deadline of 10 s",
    ),
    Failure(
        f"{SCARCITY}::test_a_bad_model_never_takes_the_old_one_down",
        "ModelInvalid",
        "a bad new model, while the old one serves",
    ),
)

PLANNING = "tests/unit/operator/planning"

NOT_MADE: Mapping[str, tuple[str, str]] = {
    "InvalidSpec": (
        "the API server refuses such a spec itself; one gets through where the CRD is another version's",
        "tests/unit/operator/api/test_model.py",
    ),
    "ScaleUpPending": (
        "the lab has no autoscaler; a test plays what they publish",
        "tests/integration/test_growth.py",
    ),
    "ScaleUpBlocked": ("the same", "tests/integration/test_growth.py"),
    "CapacityUnknown": ("the chart's operator may see nodes", f"{PLANNING}/test_capacity.py"),
    "PodRefused": ("the lab's nodes refuse pods for nothing but devices", f"{PLANNING}/pod_rows.py"),
    "PodSecurityViolation": ("the pods meet the strictest level", f"{PLANNING}/readiness_rows.py"),
    "EngineOnCpu": (
        "it takes `Ready` from nobody; `AcceleratorInUse` says it of all devices of the lab, which are fake",
        "tests/e2e/test_model_deployment.py",
    ),
    "DeviceUnknown": ("the same, of a pod that could not be asked", "tests/integration/test_devices.py"),
    "ModelTooLarge": (
        "the cap is the configuration's, the same for all",
        "tests/integration/test_fetch_stores.py",
    ),
    "NamespaceTerminating": (
        "the ModelDeployment goes with its namespace, mostly before anybody reads it",
        "tests/unit/operator/reconcile/test_apply.py",
    ),
}
"""Reasons that no test makes on the lab: why, and what tests them elsewhere."""
