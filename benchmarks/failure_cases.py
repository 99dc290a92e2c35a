"""The failures that end-to-end tests provoke on the lab, the faults that tests let last, and the rest."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from serval_operator.reasons import REASONS

ROOT = Path(__file__).resolve().parents[1]
DECORATOR = "provokes"
LASTING_DECORATOR = "lasts"

UNAVAILABLE = (
    "`PredictorReady` and `Ready` False, both `MinimumReplicasUnavailable`: "
    "“Deployment does not have minimum availability.”"
)
NOTHING = f"{UNAVAILABLE} Nothing more came later"
UNKNOWN = "all conditions `Unknown`, no reason, no message"

KSERVE: Mapping[str, str] = {
    "a runtime that does not exist": UNKNOWN,
    "a model that the runtime cannot serve": UNKNOWN,
    "more GPUs than any node has": NOTHING,
    "an image that does not exist": NOTHING,
    "the address answers 404": f"{UNAVAILABLE} `modelStatus` has the fetcher's message and exit code",
    "a server that ends at once": (
        f"{UNAVAILABLE} `modelStatus` has the exit code after 2.5 to 10.6 minutes, without a message"
    ),
}
"""What KServe's status said, for the failures that were also provoked with KServe."""

TESTED_ELSEWHERE: Mapping[str, str] = {
    "InvalidSpec": "tests/unit/operator/kinds/model_deployment/test_spec.py",
    "ScaleUpPending": "tests/integration/test_growth.py",
    "ScaleUpBlocked": "tests/integration/test_growth.py",
    "WaitingForTurn": "tests/integration/test_turns.py",
    "Replaced": "tests/integration/test_turns.py",
    "CapacityUnknown": "tests/unit/operator/cluster/test_capacity.py",
    "PodRefused": "tests/unit/operator/pods/pod_rows.py",
    "PodSecurityViolation": "tests/unit/operator/workload/readiness_rows.py",
    "RolloutPaused": "tests/integration/test_children_of_others.py",
    "ResourceContested": "tests/integration/test_children_of_others.py",
    "EngineOnCpu": "tests/e2e/test_model_deployment.py",
    "DeviceUnknown": "tests/integration/test_devices.py",
    "ModelTooLarge": "tests/integration/test_fetch_stores.py",
    "RequestFailed": "tests/unit/operator/kinds/model_deployment/test_lasting_faults.py",
    "JobFailed": "tests/unit/operator/jobs/test_plan_failures.py",
    "JobResultLost": "tests/unit/operator/jobs/test_plan_failures.py",
    "JobDeadlineExceeded": "tests/unit/operator/jobs/test_plan_failures.py",
    "NamespaceTerminating": "tests/unit/operator/kinds/model_deployment/test_apply.py",
    "ConversionNotConfigured": "tests/unit/operator/kinds/accelerated_model/test_plan.py",
    "AcceleratorNotChosen": "tests/unit/operator/kinds/accelerated_model/test_plan.py",
    "AccuracyTooLow": "tests/integration/test_accelerated.py",
    "FeaturizerUnknown": "tests/unit/operator/kinds/accelerated_model/test_judge.py",
    "WeightsNotFound": "tests/unit/operator/kinds/accelerated_model/test_judge.py",
    "WeightsInvalid": "tests/unit/operator/kinds/accelerated_model/test_judge.py",
    "WeightsMismatch": "tests/unit/operator/kinds/accelerated_model/test_judge.py",
    "SlimCheckpoint": "tests/unit/operator/kinds/accelerated_model/test_judge.py",
    "WeightsDownloadFailed": "tests/unit/operator/kinds/accelerated_model/test_judge.py",
    "ClassifierInvalid": "tests/unit/operator/kinds/accelerated_model/test_judge.py",
    "PreprocessingInvalid": "tests/unit/operator/kinds/accelerated_model/test_judge.py",
    "ModelNotConvertible": "tests/unit/operator/kinds/accelerated_model/test_judge.py",
    "CalibrationInvalid": "tests/unit/operator/kinds/accelerated_model/test_judge.py",
    "ConversionOutOfMemory": "tests/unit/operator/kinds/accelerated_model/test_judge.py",
    "ConversionTimedOut": "tests/unit/operator/kinds/accelerated_model/test_judge.py",
    "ConversionFailed": "tests/unit/operator/kinds/accelerated_model/test_judge.py",
    "RegistryUnreachable": "tests/unit/operator/kinds/accelerated_model/test_judge.py",
    "PushDenied": "tests/unit/operator/kinds/accelerated_model/test_judge.py",
    "RegistryRejected": "tests/unit/operator/kinds/accelerated_model/test_judge.py",
    "ArtifactInvalid": "tests/unit/operator/kinds/accelerated_model/test_judge.py",
    "ArtifactTooLarge": "tests/unit/operator/kinds/accelerated_model/test_judge.py",
    "ArtifactNotFound": "tests/unit/operator/kinds/accelerated_model/test_judge.py",
    "StoreUnavailable": "tests/unit/operator/kinds/accelerated_model/test_judge.py",
    "ArtifactEmpty": "tests/unit/operator/kinds/accelerated_model/test_judge.py",
    "ArtifactCorrupted": "tests/unit/operator/kinds/accelerated_model/test_judge.py",
    "DeviceHeld": "tests/integration/test_device_faults.py",
    "DeviceUnhealthy": "tests/integration/test_device_faults.py",
    "DeviceUnusable": "tests/unit/operator/kinds/accelerated_model/test_judge.py",
    "EmulationRefused": "tests/unit/operator/kinds/accelerated_model/test_judge.py",
}
"""Where the reasons are tested that have `not_provoked` in their row."""


@dataclass(frozen=True)
class Failure:
    """A failure that a test provokes.

    Parameters
    ----------
    test:
        The test's id for pytest, without parameters.
    reason:
        The reason that `Ready` must have.
    made:
        What was done, in words.
    kserve:
        What KServe's status said; empty if it was not looked at.
    """

    test: str
    reason: str
    made: str
    kserve: str = ""


@dataclass(frozen=True)
class Fault:
    """A fault that a test lets last.

    Parameters
    ----------
    test:
        The test's id for pytest, without parameters.
    broken:
        What is broken, in words.
    """

    test: str
    broken: str


def declared(path: Path, text: str) -> Iterator[Failure]:
    """Failures that the tests of a file declare with the decorator `support.ledger.provokes`.

    Parameters
    ----------
    path:
        The file, relative to the root of the repository.
    text:
        Its source. It is parsed and not imported: pytest imports it with another name.
    """
    for test, (reason, made) in _declarations(path, text, DECORATOR):
        yield Failure(test, reason, made, KSERVE.get(made, ""))


def declared_faults(path: Path, text: str) -> Iterator[Fault]:
    """Faults that the tests of a file declare with `support.ledger.lasts`; parameters as of `declared`."""
    for test, (broken,) in _declarations(path, text, LASTING_DECORATOR):
        yield Fault(test, broken)


def _declarations(path: Path, text: str, decorator: str) -> Iterator[tuple[str, list[str]]]:
    """Ids of the tests with a decorator, and its arguments."""
    for names, function in _functions(ast.parse(text).body):
        for call in function.decorator_list:
            if isinstance(call, ast.Call) and ast.unparse(call.func) == decorator:
                yield "::".join([str(path), *names]), [ast.literal_eval(value) for value in call.args]


def _functions(body: list[ast.stmt], *outer: str) -> Iterator[tuple[list[str], ast.FunctionDef]]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from _functions(node.body, *outer, node.name)
        elif isinstance(node, ast.FunctionDef):
            yield [*outer, node.name], node


def _sources(layer: str) -> Iterator[tuple[Path, str]]:
    """Paths and texts of the tests of a layer."""
    for file in sorted((ROOT / "tests" / layer).glob("test_*.py")):
        yield file.relative_to(ROOT), file.read_text(encoding="utf-8")


def _all_declared() -> tuple[Failure, ...]:
    """All failures, in the order of the table of reasons."""
    found = [one for path, text in _sources("e2e") for one in declared(path, text)]
    order = list(REASONS)
    return tuple(sorted(found, key=lambda one: order.index(one.reason)))


FAILURES = _all_declared()
FAULTS = tuple(one for path, text in _sources("integration") for one in declared_faults(path, text))
