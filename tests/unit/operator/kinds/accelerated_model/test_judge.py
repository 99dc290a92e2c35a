"""What the status says of a conversion and of the device: one row for each report of a Job or a server."""

from __future__ import annotations

from typing import Any

import pytest

from serval_contract.artifact_reasons import ARTIFACT_REASONS
from serval_contract.build_reasons import BUILD_REASONS
from serval_contract.conversion_reasons import CONVERSION_REASONS
from serval_contract.devices import DEVICE_REASONS
from serval_contract.metrics import EMULATED_DEVICE
from serval_contract.progress import Progress
from serval_contract.reasons import FETCH_REASONS
from serval_operator.constants import CONVERTED, DEVICE_PROGRAMMED
from serval_operator.pods.device_report import Answer, DeviceReport
from serval_operator.reasons import REASONS, STALLING_REASONS
from support import gen
from unit.operator.kinds.accelerated_model.world import (
    CONVERSION,
    FEATURIZER,
    MADE,
    NAME,
    World,
    configured,
    converted,
    document,
    served,
)

pytestmark = pytest.mark.unit

REPORTED = [
    ("fetch", "ModelNotFound"),
    ("fetch", "ModelDigestMismatch"),
    ("build", "FeaturizerUnknown"),
    ("build", "WeightsNotFound"),
    ("build", "WeightsInvalid"),
    ("build", "WeightsMismatch"),
    ("build", "SlimCheckpoint"),
    ("build", "WeightsDownloadFailed"),
    ("build", "ClassifierInvalid"),
    ("build", "PreprocessingInvalid"),
    ("convert", "ModelNotConvertible"),
    ("convert", "AccuracyTooLow"),
    ("convert", "CalibrationInvalid"),
    ("convert", "ConversionOutOfMemory"),
    ("convert", "ConversionTimedOut"),
    ("convert", "ConversionFailed"),
    ("convert", "ModelInvalid"),
    ("push", "RegistryUnreachable"),
    ("push", "PushDenied"),
    ("push", "RegistryRejected"),
    ("push", "ArtifactInvalid"),
    ("push", "ArtifactTooLarge"),
    ("push", "ArtifactNotFound"),
    ("push", "StoreUnavailable"),
]
"""Stages of a Job, and what they may report."""
TOLD = [
    "ArtifactEmpty",
    "ArtifactInvalid",
    "ArtifactCorrupted",
    "DeviceHeld",
    "DeviceUnusable",
    "EmulationRefused",
]
"""What a server may say of its device, at the start of its words."""
EMULATED = Answer(
    asked=True, report=DeviceReport(frozenset({EMULATED_DEVICE}), in_use=False, engine="emulator")
)
ON_A_CARD = Answer(asked=True, report=DeviceReport(frozenset({"u250-0"}), in_use=True, engine="vart"))


def test_the_rows_are_all_that_programs_report() -> None:
    reported = {reason for _, reason in REPORTED}
    assert reported >= CONVERSION_REASONS | BUILD_REASONS
    assert reported >= ARTIFACT_REASONS
    assert set(TOLD) == set(DEVICE_REASONS)
    assert {"ModelNotFound", "ModelDigestMismatch"} <= FETCH_REASONS


@pytest.mark.parametrize(("stage", "reason"), REPORTED, ids=[reason for _, reason in REPORTED])
def test_a_permanent_failure_of_a_stage(stage: str, reason: str) -> None:
    world = World()
    world.look()
    world.end_job(stage=stage, reason=reason, message="the end of its log", permanent=True)
    world.look()
    world.look()
    status, told, message = world.condition("Converted")
    assert (status, told) == ("False", reason)
    assert f"stage {stage}: the end of its log" in message
    assert CONVERTED in REASONS[reason].conditions
    assert world.condition("Ready")[:2] == ("False", reason)
    assert world.condition("Stalled")[0] == "True", "nothing is tried again"
    (record,) = world.status["jobs"]
    assert (record["phase"], record["reason"]) == ("Failed", reason)


def test_what_the_fetcher_reports_of_a_job_is_its_own_form() -> None:
    world = World()
    world.look()
    world.run_job(fetch=gen.ended(1, gen.fetch_failure("ModelNotFound", "404 at the address")))
    world.pods[-1]["status"]["phase"] = "Failed"
    world.job["status"] = {
        "conditions": [{"type": "Failed", "status": "True", "lastTransitionTime": gen.stamp()}]
    }
    world.look()
    assert world.condition("Converted")[:2] == ("False", "ModelNotFound")
    assert "404 at the address" in world.condition("Converted")[2]


def test_a_failure_that_may_pass_is_tried_again() -> None:
    world = World()
    world.look()
    world.end_job(stage="push", reason="RegistryUnreachable", message="no answer")
    world.look()
    assert world.condition("Stalled") == ("", "", "")
    world.seconds = 60.0
    world.look()
    assert len(world.jobs) == 2


@pytest.mark.parametrize(
    ("memory", "words"),
    [("1Gi", "it had 1Gi and needs 2Gi"), ("3Gi", "it had 3Gi;")],
    ids=["too little", "more than was known"],
)
def test_out_of_memory_says_what_is_needed(memory: str, words: str) -> None:
    world = World(**FEATURIZER, conversion={"resources": {"limits": {"memory": memory}}})
    world.look()
    killed = {"fetch": gen.ended(0), "build": gen.ended(0), "convert": gen.ended(137, reason="OOMKilled")}
    for _ in range(2):
        world.run_job(**killed)
        world.pods[-1]["status"]["phase"] = "Failed"
        when = gen.stamp(world.seconds)
        world.job["status"] = {
            "conditions": [{"type": "Failed", "status": "True", "lastTransitionTime": when}]
        }
        world.look()
        world.seconds += 60
        world.look()
    status, reason, message = world.condition("Converted")
    assert (status, reason) == ("False", "OutOfMemory")
    assert words in message
    assert "spec.conversion.resources.limits.memory" in message


def test_a_running_stage_shows_how_far_it_is() -> None:
    world = World()
    world.look()
    pod = world.run_job(fetch=gen.ended(0), build=gen.ended(0), convert=gen.running())
    world.pages[pod["metadata"]["uid"]] = Progress(42, 100, "percent", "quantizes", "convert")
    world.look()
    assert world.status["conversion"] == {"stage": "convert", "percent": 42}
    assert "stage convert: 42 of 100 percent: quantizes" in world.condition("Converted")[2]


def test_what_was_converted_is_in_the_status() -> None:
    world = World()
    world.look()
    world.end_job(result={**MADE, "surplus": "left out"})
    for _ in range(2):
        world.look()
    assert world.status["conversion"] == {
        "artifact": f"oci://{MADE['artifact']}",
        "sourceDigest": CONVERSION["sourceDigest"],
        "converter": "serval 0.2.0, tf2onnx 1.17.0",
        "quantization": "Int8",
        "weights": "User",
        "images": "the photos of scikit-image",
        "cosine": 0.993,
        "maxError": 1.75,
        "agreement": 0.95,
        "seconds": 31.5,
        "bytes": 26_000_000,
        "peakMemoryBytes": 1_125_000_000,
    }
    assert "Int8, cosine 0.993, agreement 0.950" in world.condition("Converted")[2]
    kept = dict(world.status["conversion"])
    world.status["jobs"] = []
    world.look()
    assert world.status["conversion"] == kept, "the revision keeps it"


RANDOM: dict[str, Any] = {"featurizer": "VGG16", "weights": "Random"}


@pytest.mark.parametrize(
    ("conversion", "shown"),
    [
        (None, {"sourceDigest": gen.DIGEST}),
        ("text", {"sourceDigest": gen.DIGEST}),
        ({"converter": 7, "quantization": "x" * 64, "seconds": {"a": True, "b": "1"}}, {}),
        ({"heldOut": {"cosine": 0.5, "agreement": None}, "seconds": 3}, {"cosine": 0.5}),
        ({"heldOut": {"largestError": 1e300, "cosine": 2}, "peakBytes": {"a": 0}}, {}),
        (
            {"heldOut": {"largestError": -1.5, "cosine": -0.5, "agreement": -0.5}, "seconds": {"a": -2}},
            {"cosine": -0.5},
        ),
    ],
    ids=["nothing", "no object", "wrong types", "no agreement", "no exact number", "negative"],
)
def test_what_the_schema_would_refuse_is_left_out(conversion: Any, shown: dict[str, Any]) -> None:
    world = World()
    world.look()
    world.end_job(result={"artifact": MADE["artifact"], "conversion": conversion})
    for _ in range(2):
        world.look()
    digest = {"sourceDigest": gen.DIGEST}
    assert world.status["conversion"] == {"artifact": f"oci://{MADE['artifact']}", **digest, **shown}


class TestRandomWeights:
    def test_are_in_the_status_and_told_once(self) -> None:
        world = World(**RANDOM)
        ((reason, message),) = world.look().warnings
        assert reason == "RandomWeights"
        assert "mean nothing" in message
        assert world.status["weights"] == "Random"
        assert world.look().warnings == ()

    def test_others_are_not(self) -> None:
        world = World()
        assert world.look().warnings == ()
        assert "weights" not in world.status


class TestDevice:
    def test_an_emulated_device_says_so_everywhere(self) -> None:
        world = served(converted(World()))
        world.devices = {pod["metadata"]["uid"]: EMULATED for pod in world.pods}
        world.look()
        assert world.condition("DeviceProgrammed")[:2] == ("True", "Emulated")
        assert world.condition("AcceleratorInUse")[:2] == ("False", "Emulated")
        assert world.condition("Ready")[:2] == ("True", "Serving")
        assert (world.status["device"], world.status["engine"]) == ("u250", "emulator")

    def test_it_says_so_without_a_report_of_the_server(self) -> None:
        world = served(converted(World()))
        assert world.condition("DeviceProgrammed")[:2] == ("True", "Emulated")
        assert world.status["engine"] == "emulator"

    def test_a_device_that_computes(self) -> None:
        profiles = document()["profiles"]
        profiles[-1] |= {"engine": "vart"}
        world = served(converted(World(configured(profiles=profiles))))
        world.devices = {pod["metadata"]["uid"]: ON_A_CARD for pod in world.pods}
        world.look()
        assert world.condition("DeviceProgrammed")[:2] == ("True", "Done")
        assert world.condition("AcceleratorInUse")[:2] == ("True", "Done")
        assert world.status["engine"] == "vart"

    def test_while_the_server_loads(self) -> None:
        world = converted(World())
        world.serve(gen.loading())
        world.look()
        assert world.condition("DeviceProgrammed")[:2] == ("Unknown", "Progressing")

    @pytest.mark.parametrize("reason", TOLD)
    def test_what_the_server_says_of_it(self, reason: str) -> None:
        world = converted(World())
        world.serve(gen.server_crashed(1, f"E0000 cannot load {NAME}: {reason}: unit fpga-0 is held"))
        world.look()
        status, told, message = world.condition("DeviceProgrammed")
        assert (status, told) == ("False", reason)
        assert "unit fpga-0 is held" in message
        assert DEVICE_PROGRAMMED in REASONS[reason].conditions

    def test_another_failure_keeps_its_reason(self) -> None:
        world = converted(World())
        world.serve(gen.server_crashed(137, reason="OOMKilled"))
        world.look()
        assert world.condition("DeviceProgrammed")[:2] == ("False", "OutOfMemory")

    def test_nothing_is_said_before_there_are_pods(self) -> None:
        world = World()
        world.look()
        assert world.condition("DeviceProgrammed") == ("", "", "")


def test_the_scoring_address_is_one_that_azures_clients_take_apart() -> None:
    world = served(converted(World()))
    assert world.status["endpoints"] == {
        "grpc": f"{NAME}.{gen.NAMESPACE}.svc:8500",
        "rest": f"http://{NAME}.{gen.NAMESPACE}.svc:8501/v1/models/{NAME}",
        "scoring": f"http://{NAME}.{gen.NAMESPACE}.svc/",
    }


def test_a_spec_that_cannot_be_used_keeps_what_is_known() -> None:
    world = served(converted(World()))
    before = dict(world.status)
    world.edit(featurizer=None)
    world.look()
    assert world.condition("Ready")[:2] == ("False", "InvalidSpec")
    assert "InvalidSpec" in STALLING_REASONS
    for name in ("jobs", "conversion", "device", "engine", "revision"):
        assert world.status[name] == before[name]


def test_a_new_look_writes_no_other_status() -> None:
    world = served(converted(World()))
    world.look()
    before = world.status
    world.look()
    assert world.status == before
