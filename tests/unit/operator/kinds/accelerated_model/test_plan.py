"""What an AcceleratedModel is planned to be: the Job first, then the pods; and what stays meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from serval_contract.conversion_key import CONVERTER
from serval_operator.constants import LABEL_ALLOWED
from serval_operator.kinds.accelerated_model.conversion import DEADLINE_SECONDS
from support import gen
from unit.operator.kinds.accelerated_model.world import (
    ARTIFACT,
    FEATURIZER,
    MADE,
    NAME,
    RESOURCE,
    World,
    configured,
    converted,
    document,
    node,
    served,
)

pytestmark = pytest.mark.unit

VGG = {**FEATURIZER, "featurizer": "VGG16"}
ELSEWHERE = {"artifact": {"uri": f"oci://{ARTIFACT}"}}


def template(world: World) -> gen.Object:
    found: gen.Object = world.deployment["spec"]["template"]
    return found


def sources(world: World) -> list[str]:
    """Addresses that the pods of the Deployment fetch their model from."""
    (fetch,) = template(world)["spec"]["initContainers"]
    return [one.removeprefix("--uri=") for one in fetch["args"] if one.startswith("--uri=")]


def args(world: World) -> list[str]:
    (server,) = template(world)["spec"]["containers"]
    found: list[str] = server["args"]
    return found


class TestFirst:
    def test_the_job_comes_before_everything_else(self) -> None:
        world = World()
        world.look()
        assert world.jobs
        assert not world.children
        assert not world.revisions
        assert world.stages() == ["fetch", "build", "convert", "push"]
        assert world.job["spec"]["activeDeadlineSeconds"] == DEADLINE_SECONDS
        assert world.condition("Converted")[:2] == ("Unknown", "Progressing")
        assert world.condition("Ready")[:2] == ("False", "Progressing")

    def test_the_pods_come_when_the_result_is_stored(self) -> None:
        world = World()
        world.look()
        world.end_job(result=MADE)
        world.look()
        assert not world.children, "the result is not stored before this look"
        world.look()
        assert sources(world) == [f"oci://{ARTIFACT}"]
        assert {"--device_engine=emulator", f"--device_resource={RESOURCE}"} <= set(args(world))
        (container,) = template(world)["spec"]["containers"]
        assert container["resources"]["limits"] == {RESOURCE: "1"}
        assert world.deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}

    def test_the_services_lead_clients_of_azure_to_grpc(self) -> None:
        world = converted(World())
        ports = {one["port"]: one["targetPort"] for one in world.children["Service", NAME]["spec"]["ports"]}
        assert ports == {8500: "grpc", 8501: "http", 80: "grpc", 50051: "grpc"}

    def test_random_weights_fetch_nothing(self) -> None:
        world = World(featurizer="VGG16", weights="Random")
        world.look()
        assert world.stages() == ["build", "convert", "push"]
        world.end_job(result=MADE)
        world.look()
        world.look()
        assert sources(world) == [f"oci://{ARTIFACT}"]

    def test_explicit_tensors_build_nothing(self) -> None:
        tensors = {"inputs": [{"name": "x:0", "shape": [-1, 8]}], "outputs": [{"name": "y:0"}]}
        world = World(model=FEATURIZER["model"], **tensors)
        world.look()
        assert world.stages() == ["fetch", "convert", "push"]

    def test_an_artifact_of_another_cluster_needs_no_job_and_no_converter(self) -> None:
        world = World(configured(conversion=None), **ELSEWHERE)
        world.look()
        assert not world.jobs
        assert sources(world) == [f"oci://{ARTIFACT}"]
        assert world.condition("Converted")[:2] == ("True", "Done")

    def test_a_claim_takes_the_place_of_a_registry(self) -> None:
        conversion = {"image": "c:1", "artifacts": {"claim": "artifacts"}}
        world = World(configured(conversion=conversion))
        world.look()
        world.end_job(result={**MADE, "folder": "eyes/sha256-cc"})
        world.look()
        world.look()
        assert sources(world) == ["pvc://artifacts/eyes/sha256-cc"]

    def test_a_result_without_an_artifact_is_none(self) -> None:
        world = World()
        world.look()
        world.end_job(result={"artifact": "registry.example/serval/vision/eyes:latest"})
        world.look()
        world.look()
        assert not world.children
        assert world.condition("Converted")[:2] == ("False", "JobResultLost")
        assert world.condition("Stalled")[0] == "True"


class TestJob:
    @pytest.mark.parametrize(
        ("spec", "memory"),
        [
            (FEATURIZER, "2Gi"),
            ({**FEATURIZER, "featurizer": "ResNet152"}, "3Gi"),
            (VGG, "5Gi"),
            ({**FEATURIZER, "featurizer": "SSDVGG"}, "2Gi"),
            ({**VGG, "conversion": {"resources": {"limits": {"memory": "7Gi"}}}}, "7Gi"),
            ({**VGG, "conversion": {"resources": {"requests": {"memory": "4Gi"}}}}, "4Gi"),
        ],
        ids=["ResNet50", "ResNet152", "VGG16", "SSDVGG", "limit of the spec", "request of the spec"],
    )
    def test_memory_is_requested_as_a_whole(self, spec: dict[str, Any], memory: str) -> None:
        world = World(**spec)
        world.look()
        for container in world.job["spec"]["template"]["spec"]["initContainers"][1:]:
            asked = container["resources"]
            assert (asked["requests"]["memory"], asked["limits"]["memory"]) == (memory, memory)

    @pytest.mark.parametrize(
        ("named", "requests", "limits"),
        [
            ({"limits": {"cpu": "500m"}}, {}, {"cpu": "500m"}),
            ({"requests": {"cpu": 8}}, {"cpu": "8"}, {}),
            ({"limits": {"ephemeral-storage": "1Gi"}}, {}, {"ephemeral-storage": "1Gi"}),
        ],
        ids=["a limit below the default request", "a request above the default limit", "scratch space"],
    )
    def test_what_the_spec_names_is_not_mixed_with_defaults(
        self, named: Any, requests: Any, limits: Any
    ) -> None:
        """Else the API server refuses the Job: a request must not be above its limit."""
        settings = document()["conversion"] | {
            "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}
        }
        world = World(configured(conversion=settings), **FEATURIZER, conversion={"resources": named})
        world.look()
        (name,) = {name for side in named.values() for name in side}
        for container in world.job["spec"]["template"]["spec"]["initContainers"][1:]:
            asked = container["resources"]
            shown = [
                {name: asked[side][name]} if name in asked[side] else {} for side in ("requests", "limits")
            ]
            assert shown == [requests, limits]

    def test_only_the_pusher_has_the_credential(self) -> None:
        world = World()
        world.look()
        spec = world.job["spec"]["template"]["spec"]
        (volume,) = [one for one in spec["volumes"] if "secret" in one]
        assert volume["secret"]["secretName"] == "artifact-push"
        having = [
            one["name"]
            for one in (*spec["initContainers"], *spec["containers"])
            if any(place["name"] == volume["name"] for place in one["volumeMounts"])
        ]
        assert having == ["push"]
        (push,) = spec["containers"]
        assert [place for place in push["volumeMounts"] if place["name"] == "work"] == [
            {"name": "work", "mountPath": "/serval/work/artifact", "readOnly": True, "subPath": "artifact"}
        ]

    def test_other_inputs_start_another_job_and_scaling_does_not(self) -> None:
        world = World()
        world.look()
        (first,) = world.jobs
        world.edit(replicas=3, scheduling={"nodeSelector": {"a": "b"}})
        world.look()
        assert list(world.jobs) == [first]
        world.edit(conversion={"quantization": "Float"})
        world.look()
        world.look()
        (second,) = world.jobs
        assert second != first

    def test_an_identity_of_the_spec_must_allow_it(self) -> None:
        credentials = {"serviceAccountName": "reader"}
        world = World(featurizer="ResNet50", model={"uri": "s3://models/r", "credentials": credentials})
        world.look()
        assert not world.jobs
        assert world.condition("Ready")[1] == "CredentialsNotFound"
        world.accounts["reader"] = {"metadata": {"labels": {LABEL_ALLOWED: "true"}}}
        world.look()
        template = world.job["spec"]["template"]
        assert template["spec"]["serviceAccountName"] == "reader"
        assert (
            template["metadata"]["annotations"]["eks.amazonaws.com/skip-containers"] == "build,convert,push"
        )
        assert template["spec"]["automountServiceAccountToken"] is False

    def test_suspension_holds_the_job_and_is_no_fault(self) -> None:
        world = World(**FEATURIZER, suspend=True)
        world.look()
        assert world.job["spec"]["suspend"] is True
        assert world.condition("Ready")[:2] == ("True", "Suspended")
        world.edit(suspend=None)
        world.look()
        assert world.job["spec"]["suspend"] is False


class TestChange:
    def test_old_pods_serve_until_the_new_spec_is_converted(self) -> None:
        world = served(converted(World()))
        before = template(world)
        world.edit(**VGG)
        world.look()
        assert template(world) == before
        assert world.condition("Available")[0] == "True"
        assert world.condition("Ready")[:2] == ("False", "Progressing")
        assert (world.status["readyReplicas"], world.status["updatedReplicas"]) == (1, 0)
        world.look()
        other = ARTIFACT.replace("c" * 64, "d" * 64)
        world.end_job(result={**MADE, "artifact": other})
        world.look()
        world.look()
        assert sources(world) == [f"oci://{other}"]
        assert world.status["conversion"]["artifact"] == f"oci://{other}"

    def test_scaling_works_while_the_new_spec_is_converted(self) -> None:
        world = served(converted(World()))
        world.edit(**VGG, replicas=2)
        world.look()
        assert world.deployment["spec"]["replicas"] == 2
        world.edit(suspend=True)
        world.look()
        assert world.deployment["spec"]["replicas"] == 0

    def test_a_conversion_that_failed_leaves_the_old_pods(self) -> None:
        world = served(converted(World()))
        before = template(world)
        world.edit(**VGG)
        world.look()
        world.look()
        world.end_job(stage="convert", reason="AccuracyTooLow", message="cosine 0.5", permanent=True)
        world.look()
        world.look()
        assert template(world) == before
        assert world.condition("Available")[0] == "True"
        assert world.condition("Converted")[:2] == ("False", "AccuracyTooLow")
        assert world.condition("Stalled")[0] == "True"

    def test_a_revision_keeps_its_artifact_when_the_converter_changes(self) -> None:
        world = served(converted(World()))
        before, jobs = template(world), dict(world.jobs)
        newer = document()["conversion"] | {"image": "registry.example/serval-converter:2"}
        world.configuration = configured(conversion=newer)
        world.edit(replicas=2)
        world.look()
        assert template(world) == before
        assert world.jobs == jobs
        assert world.condition("UpdateAvailable") == ("", "", "")

    def test_it_goes_on_without_a_converter(self) -> None:
        world = served(converted(World()))
        world.configuration = configured(conversion=None)
        world.edit(replicas=2)
        world.look()
        assert world.deployment["spec"]["replicas"] == 2
        assert world.condition("Converted")[0] == "True"

    def test_going_back_converts_nothing(self) -> None:
        world = served(converted(World()))
        world.edit(conversion={"quantization": "Float"})
        world.look()
        assert len(world.jobs) == 1
        world.edit(conversion=None)
        world.look()
        assert not world.jobs, "the Job of the other spec is not wanted any more"
        assert world.condition("Ready")[:2] == ("True", "Serving")

    def test_other_resources_of_the_conversion_restart_nothing(self) -> None:
        world = served(converted(World()))
        before = template(world)
        world.edit(conversion={"resources": {"limits": {"memory": "8Gi"}}})
        world.look()
        assert template(world) == before
        assert len(world.jobs) == 1
        assert world.condition("Ready")[:2] == ("True", "Serving")

    @pytest.mark.parametrize(
        ("rollout", "surge"), [({}, 0), ({"strategy": "Surge"}, 1)], ids=["by itself", "as the spec says"]
    )
    def test_a_new_pod_takes_the_device_of_an_old_one(self, rollout: dict[str, Any], surge: int) -> None:
        world = served(converted(World()))
        world.nodes = (node(**{RESOURCE: "2"}),)
        before = template(world)
        world.edit(resources={"limits": {"memory": "2Gi"}}, rollout=rollout)
        world.look()
        assert len(world.jobs) == 1, "other pods of the same artifact need no conversion"
        assert template(world) != before
        assert world.deployment["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == surge

    def test_a_new_trigger_converts_again(self) -> None:
        world = served(converted(World()))
        (first,) = world.jobs
        world.edit(rollout={"trigger": "again"})
        world.look()
        world.look()
        assert list(world.jobs) != [first]

    def test_the_key_of_a_revision_does_not_depend_on_the_converter(self) -> None:
        first = converted(World())
        newer = document()["conversion"] | {"image": "registry.example/serval-converter:2"}
        second = converted(World(configured(conversion=newer)))
        assert first.status["revision"] == second.status["revision"]
        assert CONVERTER


class TestConfiguration:
    @pytest.mark.parametrize("conversion", [None, {"image": "c:1"}], ids=["no converter", "no store"])
    def test_a_conversion_that_is_not_configured_is_named(self, conversion: Any) -> None:
        world = World(configured(conversion=conversion))
        world.look()
        assert not world.jobs
        status, reason, message = world.condition("Ready")
        assert (status, reason) == ("False", "ConversionNotConfigured")
        assert "spec.artifact.uri" in message

    def test_the_only_profile_with_an_engine_is_the_default(self) -> None:
        world = converted(World())
        assert world.status["device"] == "u250"

    @pytest.mark.parametrize(
        ("more", "words"),
        [
            ([], "the operator's configuration has none"),
            ([("a", "emulator"), ("b", "vart")], "there are a, b"),
        ],
        ids=["none", "two"],
    )
    def test_without_a_profile_there_must_be_one(self, more: list[tuple[str, str]], words: str) -> None:
        profiles = [one for one in document()["profiles"] if one["name"] != "u250"]
        for name, engine in more:
            resource = f"emulated.serval.dev/{name}"
            profiles.append({"name": name, "resourceName": resource, "engine": engine})
        runtimes = document()["runtimes"]
        del runtimes[0]["images"]["u250"]
        world = World(configured(profiles=profiles, runtimes=runtimes))
        world.look()
        assert not world.jobs
        status, reason, message = world.condition("Ready")
        assert (status, reason) == ("False", "AcceleratorNotChosen")
        assert words in message

    @pytest.mark.parametrize("accelerator", [{"profile": "cpu"}, {"resourceName": "nvidia.com/gpu"}])
    def test_a_device_without_an_engine_is_named(self, accelerator: dict[str, Any]) -> None:
        runtimes = document()["runtimes"]
        world = World(configured(runtimes=runtimes), **FEATURIZER, accelerator=accelerator)
        world.look()
        assert world.condition("Ready")[1] == "AcceleratorNotChosen"

    def test_a_resource_by_name_takes_the_engine_of_its_profile(self) -> None:
        world = converted(World(**FEATURIZER, accelerator={"resourceName": RESOURCE}))
        assert "--device_engine=emulator" in args(world)
        assert world.status["device"] == RESOURCE

    def test_a_runtime_that_serves_no_artifacts_is_refused(self) -> None:
        world = World(**FEATURIZER, runtime={"name": "tensorflow-serving"})
        world.look()
        status, reason, message = world.condition("Ready")
        assert (status, reason) == ("False", "UnsupportedSpec")
        assert "device-engines" in message

    def test_engine_options_and_locks_are_flags_of_the_server(self) -> None:
        profiles = document()["profiles"]
        profiles[-1] |= {"engineOptions": {"programSeconds": 2, "a": "$(HOME)"}, "lockDir": "/serval/locks"}
        world = converted(World(configured(profiles=profiles)))
        assert '--device_options={"a":"$$(HOME)","programSeconds":2}' in args(world)
        assert "--device_lock_dir=/serval/locks" in args(world)
