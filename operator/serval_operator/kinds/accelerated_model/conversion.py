"""The conversion of a model: whether one is needed, its Job, and what became of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from serval_contract.conversion_key import CONVERTER, conversion_key
from serval_contract.conversion_memory import GIB
from serval_contract.ports import PORT_PROGRESS
from serval_contract.progress import Progress
from serval_operator.api.conditions import Blocked, Condition
from serval_operator.api.naming import digest
from serval_operator.api.snapshots import OwnerView
from serval_operator.api.text import scrub
from serval_operator.config import Configuration
from serval_operator.config_conversion import ArtifactStore, ConversionSettings
from serval_operator.constants import CONVERTED
from serval_operator.conversion_reasons import CONVERSION_NOT_CONFIGURED
from serval_operator.errors import InvalidSpec
from serval_operator.jobs.job_plan import JobPlan
from serval_operator.jobs.plan import JobsDecision
from serval_operator.jobs.record import JobRecord, parse_records
from serval_operator.kinds.accelerated_model.artifact import Made
from serval_operator.kinds.accelerated_model.manifests.job import Work, memory_limit, pod_template
from serval_operator.kinds.accelerated_model.memory import needed_memory
from serval_operator.kinds.accelerated_model.spec import RANDOM, AcceleratedSpec
from serval_operator.reasons import DONE, OUT_OF_MEMORY, PROGRESSING, SUSPENDED
from serval_operator.workload.revision_key import shape

JOB: Final = "convert"
ATTEMPTS: Final = 2
DEADLINE_SECONDS: Final = 1800
_SHAPES_ARTIFACT: Final = (
    "model",
    "featurizer",
    "weights",
    "preprocessing",
    "inputs",
    "outputs",
    "conversion",
)
"""Fields of the spec on which an artifact depends."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """A conversion that the spec needs.

    Parameters
    ----------
    plan:
        Its Job.
    memory:
        Memory that its stages may use, in bytes.
    """

    plan: JobPlan
    store: ArtifactStore
    memory: int


def conversion(owner: OwnerView, spec: AcceleratedSpec, configuration: Configuration) -> Conversion:
    """Plan the conversion of a model.

    Raises
    ------
    InvalidSpec
        The configuration has no converter, or no place for artifacts.
    """
    settings, store = _configured(configuration)
    inputs = conversion_inputs(spec, settings)
    work = Work(
        spec=spec,
        settings=settings,
        store=store,
        fetch=configuration.fetch,
        repository=_repository(owner, store),
        tag=f"inputs-{digest(inputs)}",
        cache_key=_cache_key(spec),
    )
    plan = JobPlan(
        name=JOB,
        inputs=inputs,
        template=pod_template(work),
        stages=work.stages,
        attempts=ATTEMPTS,
        suspend=spec.suspend,
        deadline_seconds=DEADLINE_SECONDS,
        expects_result=True,
        progress_port=PORT_PROGRESS,
    )
    return Conversion(plan, store, memory_limit(spec, settings))


def conversion_inputs(spec: AcceleratedSpec, settings: ConversionSettings) -> dict[str, Any]:
    """All that a Job depends on. What failed for good is tried again with other resources.

    `spec.rollout.trigger` is part of it, since the model behind an address may have changed.
    """
    return {
        "shape": _shape(spec),
        "trigger": spec.rollout.trigger,
        "resources": shape(spec.conversion.resources),
        "converter": [CONVERTER, settings.image],
    }


def succeeded(status: Mapping[str, Any]) -> list[JobRecord]:
    """Records of conversions that succeeded, as a status has them."""
    return [one for one in parse_records(status) if one.name == JOB and one.phase == "Succeeded"]


def converted(
    spec: AcceleratedSpec, decision: JobsDecision | None, made: Made | None, held_up: Blocked | None
) -> Condition:
    """Condition `Converted`.

    Parameters
    ----------
    decision:
        About the Job; None if there is none to decide about.
    made:
        The artifact, once it is there.
    held_up:
        What keeps the artifact from being there.
    """
    if made is not None:
        return Condition(CONVERTED, "True", DONE, _words(spec, made))
    if held_up is None:
        return Condition(CONVERTED, "Unknown", PROGRESSING, "the Job is being created")
    waits = held_up.reason in {PROGRESSING, SUSPENDED} and not (decision and decision.failed)
    return Condition(CONVERTED, "Unknown" if waits else "False", held_up.reason, held_up.message)


def held_up(spec: AcceleratedSpec, wanted: Conversion, decision: JobsDecision) -> Blocked:
    """What keeps the artifact from being there, while the Job is not complete."""
    verdict = decision.verdict or Blocked(PROGRESSING, "the Job is being created")
    if verdict.reason == OUT_OF_MEMORY:
        had, needs = wanted.memory / GIB, needed_memory(spec)
        cure = f"it had {had:.3g}Gi and needs {needs}" if had < int(needs[:-2]) else f"it had {had:.3g}Gi"
        text = scrub(f"{verdict.message}; {cure}; set `spec.conversion.resources.limits.memory`")
        verdict = replace(verdict, message=text)
    return replace(verdict, final=decision.failed)


def progress(decision: JobsDecision | None, pages: Mapping[str, Progress]) -> dict[str, Any]:
    """Stage and percent of a running conversion, by field of `status.conversion`."""
    if decision is None or decision.complete or not decision.to_poll:
        return {}
    page = next((pages[one.pod.uid] for one in decision.to_poll if one.pod.uid in pages), None)
    if page is None:
        return {}
    shown: dict[str, Any] = {"stage": page.stage} if page.stage else {}
    if page.step is not None and page.steps:
        shown["percent"] = min(100 * page.step // page.steps, 100)
    return shown


def _configured(configuration: Configuration) -> tuple[ConversionSettings, ArtifactStore]:
    settings = configuration.conversion
    if settings is None or settings.store is None:
        lacks = "`conversion`" if settings is None else "`conversion.artifacts`"
        text = (
            f"the model must be converted, and the operator's configuration lacks {lacks}; an administrator "
            "sets it, or `spec.artifact.uri` names an artifact that was converted elsewhere"
        )
        raise InvalidSpec(CONVERSION_NOT_CONFIGURED, text)
    return settings, settings.store


def _repository(owner: OwnerView, store: ArtifactStore) -> str:
    """Repository of an object's artifacts. A claim is one namespace's anyway."""
    return owner.name if store.claim else f"{store.prefix}/{owner.namespace}/{owner.name}"


def _shape(spec: AcceleratedSpec) -> dict[str, Any]:
    values: dict[str, Any] = shape(spec)
    return {name: values[name] for name in _SHAPES_ARTIFACT if name in values}


def _cache_key(spec: AcceleratedSpec) -> str:
    """Key of the cache, where the digest of the source is known before it is fetched; else empty."""
    if spec.model is None:
        return conversion_key(RANDOM, _shape(spec)) if spec.weights == RANDOM else ""
    return conversion_key(f"sha256:{spec.model.sha256}", _shape(spec)) if spec.model.sha256 else ""


def _words(spec: AcceleratedSpec, made: Made) -> str:
    """What the message says of an artifact."""
    if spec.artifact is not None:
        return "the spec names a converted artifact"
    report = made.report
    parts = [str(report.get("quantization") or spec.conversion.quantization)]
    parts += [f"{name} {report[name]:.3f}" for name in ("cosine", "agreement") if name in report]
    return f"{', '.join(parts)}: {made.uri}"
