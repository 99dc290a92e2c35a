"""Whether the model really runs on the devices that its pods hold: what pods report, and the condition."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from prometheus_client.parser import text_string_to_metric_families

from serval_contract.metrics import (
    ACCELERATOR_GAUGE,
    DEVICE_HEALTHY_GAUGE,
    DEVICE_LABEL,
    DEVICE_PROGRAMMED_GAUGE,
    EMULATED_DEVICE,
    ENGINE_LABEL,
)
from serval_operator.api.conditions import Condition, find
from serval_operator.api.placement import Placement
from serval_operator.api.snapshots import OwnerView, PodView
from serval_operator.api.text import scrub
from serval_operator.api.unstructured import mapping, mappings
from serval_operator.constants import ACCELERATOR_IN_USE
from serval_operator.conversion_reasons import EMULATED
from serval_operator.reasons import DEVICE_UNKNOWN, DONE, ENGINE_ON_CPU

MOST_SAMPLES = 64
LONGEST_SAMPLE = 1000
"""What is read of a page. Whoever may make pods may send the operator what he likes."""
_NAME = re.compile(r"[A-Za-z0-9_:.-]{1,64}", re.ASCII)
"""What a device may be called: users are shown it."""
PERHAPS = "the server's image may lack the device's libraries, or the driver does not fit it"
LATER = "TensorFlow tells it after the model's first run"
MOST_NAMES = 4
"""Devices that a message names."""
LONGEST_FAULT = 300
"""Characters of what a server says of an unhealthy device."""
_GAUGES = (ACCELERATOR_GAUGE, DEVICE_PROGRAMMED_GAUGE, DEVICE_HEALTHY_GAUGE)


@dataclass(frozen=True, slots=True)
class DeviceReport:
    """What a pod's server says of the devices that its versions run on.

    Parameters
    ----------
    devices:
        Their names; none where it does not say.
    in_use:
        Whether every version runs on an accelerator.
    engine:
        What programs and runs the devices of versions that need one for themselves; empty for others.
    healthy:
        Whether no such device is unhealthy.
    fault:
        What the server says of an unhealthy one; empty where it says nothing.
    """

    devices: frozenset[str]
    in_use: bool
    engine: str = ""
    healthy: bool = True
    fault: str = ""

    @property
    def emulated(self) -> bool:
        """Whether no device is behind any version."""
        return self.devices == {EMULATED_DEVICE}


NO_REPORT = DeviceReport(frozenset(), in_use=False)


@dataclass(slots=True)
class Answer:
    """What the operator knows of one pod.

    Parameters
    ----------
    asked:
        Whether it was asked at all, be it in vain.
    report:
        What it said; None while it did not answer.
    """

    asked: bool = False
    report: DeviceReport | None = None


def read_report(page: str) -> DeviceReport:
    """The report in a page of metrics, in Prometheus' text format; an empty one if there is none."""
    lines = (line for line in page.splitlines() if line.startswith(_GAUGES) and len(line) <= LONGEST_SAMPLE)
    text = "\n".join(islice(lines, MOST_SAMPLES)) + "\n"
    try:
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    except (ValueError, KeyError, IndexError):
        return NO_REPORT
    found = {
        name: sample.value
        for sample in samples
        if sample.name == ACCELERATOR_GAUGE and _NAME.fullmatch(name := sample.labels.get(DEVICE_LABEL, ""))
    }
    engines = (one.labels.get(ENGINE_LABEL, "") for one in samples if one.name == DEVICE_PROGRAMMED_GAUGE)
    return DeviceReport(
        frozenset(found),
        in_use=bool(found) and all(value == 1 for value in found.values()),
        engine=next((engine for engine in engines if _NAME.fullmatch(engine)), ""),
        healthy=all(one.value != 0 for one in samples if one.name == DEVICE_HEALTHY_GAUGE),
    )


def read_fault(page: str) -> str:
    """What a server says of a version that does not serve, in its answer to a request for the model's status.

    The versions that serve are passed over. The text is empty where the answer has none, or is none.
    """
    try:
        answer = json.loads(page)
    except (ValueError, RecursionError):
        return ""
    versions = mappings(answer, "model_version_status") if isinstance(answer, dict) else ()
    texts = (mapping(one, "status").get("error_message") for one in versions)
    return next((scrub(text, LONGEST_FAULT) for text in texts if isinstance(text, str) and text), "")


def in_use_condition(
    model: OwnerView, ready: Sequence[PodView], answers: Mapping[str, Answer], request: Placement
) -> Condition | None:
    """Condition `AcceleratorInUse`; None where there is nothing to say.

    While a pod has not been asked yet, which takes moments, what was said before stands: neither a restart of
    the operator nor one more pod makes the condition flicker.

    Parameters
    ----------
    ready:
        Pods of the newest revision whose model answers.
    answers:
        By uid, of each of them.
    """
    if not ready:
        return None
    given = [answers[pod.uid] for pod in ready]
    if not all(answer.asked for answer in given):
        return _said_before(model)
    reports = [answer.report for answer in given if answer.report]
    emulated = sum(report.emulated for report in reports)
    if emulated:
        text = f"{emulated} of {len(ready)} pods run the model in an emulator on the CPU; no device computes"
        return Condition(ACCELERATOR_IN_USE, "False", EMULATED, text)
    on_cpu = sum(bool(report.devices) and not report.in_use for report in reports)
    mute = sum(not report.devices for report in reports)
    if on_cpu:
        held = f"{request.count} {request.resource_name}"
        what = f"the model runs on the CPU, not on the {held} of the pod"
        text = f"{on_cpu} of {len(ready)} pods: {what}; {PERHAPS}"
        return Condition(ACCELERATOR_IN_USE, "False", ENGINE_ON_CPU, text)
    if len(reports) < len(ready):
        text = f"{len(ready) - len(reports)} of {len(ready)} pods could not be asked what they run on"
        return Condition(ACCELERATOR_IN_USE, "Unknown", DEVICE_UNKNOWN, text)
    if mute:
        text = f"{mute} of {len(ready)} pods do not say what they run on; {LATER}"
        return Condition(ACCELERATOR_IN_USE, "Unknown", DEVICE_UNKNOWN, text)
    names = sorted(frozenset[str]().union(*(report.devices for report in reports)))
    text = f"{len(ready)} of {len(ready)} pods run the model on {', '.join(names[:MOST_NAMES])}"
    return Condition(ACCELERATOR_IN_USE, "True", DONE, text)


def _said_before(model: OwnerView) -> Condition | None:
    known = find(model.status.get("conditions") or (), ACCELERATOR_IN_USE)
    if not known:
        return None
    return Condition(ACCELERATOR_IN_USE, known["status"], known["reason"], known["message"])
