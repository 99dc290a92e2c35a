"""What pods say of the device that they run on, and what the condition makes of it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

import pytest

from serval_operator.api.placement import Placement
from serval_operator.api.snapshots import parse_owner, parse_pod
from serval_operator.pods.device_report import (
    LATER,
    LONGEST_FAULT,
    LONGEST_SAMPLE,
    MOST_SAMPLES,
    NO_REPORT,
    Answer,
    DeviceReport,
    in_use_condition,
    read_fault,
    read_report,
)
from serval_serving.server.metrics import Metrics
from support import gen

pytestmark = pytest.mark.unit

GPU = DeviceReport(frozenset({"GPU"}), in_use=True)
CUDA = DeviceReport(frozenset({"CUDA"}), in_use=True)
CPU = DeviceReport(frozenset({"CPU"}), in_use=False)
REQUEST = Placement("nvidia.com/gpu", 2)


def line(device: str, value: object, *, version: int = 1, model: str = "m") -> str:
    """A line of a page."""
    labels = f'model_name="{model}",version="{version}",device="{device}"'
    return f"serval_accelerator_in_use{{{labels}}} {value}\n"


class TestReport:
    @pytest.mark.parametrize(
        ("devices", "report"),
        [
            ({("m", "1"): "GPU"}, GPU),
            ({("m", "1"): "CUDA"}, CUDA),
            ({("m", "1"): "CPU"}, CPU),
            ({("m", "1"): "GPU", ("m", "2"): "CPU"}, DeviceReport(frozenset({"GPU", "CPU"}), in_use=False)),
            ({('m "} 1', "1"): "GPU"}, GPU),
            ({("m", "1"): "GPU", ("m", "2"): ""}, GPU),
            ({("m", "1"): ""}, NO_REPORT),
            ({}, NO_REPORT),
        ],
    )
    def test_of_our_own_server(self, devices: dict[tuple[str, ...], str], report: DeviceReport) -> None:
        page = Metrics(lambda: devices).page()
        assert read_report(page) == report
        assert page.count("serval_accelerator_in_use{") == sum(bool(device) for device in devices.values())

    @pytest.mark.parametrize(
        "page",
        [
            "",
            "no metrics at all",
            "serval_accelerator_in_use",
            "serval_accelerator_in_use 1",
            'serval_accelerator_in_use{device="GPU"',
            'serval_accelerator_in_use{device="GPU"} x',
            "serval_accelerator_in_use{device=GPU} 1",
            line("<b>GPU</b>", 1),
            line("G" * 65, 1),
            line("GPU", 1, model="m" * LONGEST_SAMPLE),
            "x" + line("GPU", 1),
        ],
    )
    def test_of_others(self, page: str) -> None:
        assert read_report(page) == NO_REPORT

    def test_any_order_of_labels(self) -> None:
        assert read_report('serval_accelerator_in_use{device="GPU",version="1"} 1.0') == GPU

    def test_reads_no_more_than_some_samples(self) -> None:
        page = "".join(line("GPU", 1, version=number) for number in range(MOST_SAMPLES)) + line("CPU", 0)
        assert read_report(page) == GPU

    @pytest.mark.parametrize("unit", ['device="a",', "{", '"', "\\", "\n"])
    def test_takes_no_time_whatever_it_is_sent(self, unit: str) -> None:
        page = "serval_accelerator_in_use{" + unit * (1_000_000 // len(unit))
        started = time.process_time()
        read_report(page)
        assert time.process_time() - started < 0.5


def told(given: Sequence[Answer], known: gen.Object | None = None) -> tuple[str, str, str] | None:
    """The condition, where these are the answers of the ready pods."""
    pods = [parse_pod(gen.pod(f"digits-{number}", gen.ready())) for number, _ in enumerate(given)]
    model = parse_owner(gen.model(status={"conditions": [known]} if known else {}))
    answers = {pod.uid: answer for pod, answer in zip(pods, given, strict=True)}
    found = in_use_condition(model, pods, answers, REQUEST)
    return (found.status, found.reason, found.message) if found else None


def said(report: DeviceReport) -> Answer:
    return Answer(asked=True, report=report)


PENDING, SILENT = Answer(), Answer(asked=True)
FALLEN = (
    "the model runs on the CPU, not on the 2 nvidia.com/gpu of the pod; the server's image may lack the "
    "device's libraries, or the driver does not fit it"
)


class TestCondition:
    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ([], None),
            ([PENDING], None),
            ([said(GPU), PENDING], None),
            ([said(GPU)], ("True", "Done", "1 of 1 pods run the model on GPU")),
            ([said(GPU), said(CUDA)], ("True", "Done", "2 of 2 pods run the model on CUDA, GPU")),
            ([said(CPU)], ("False", "EngineOnCpu", f"1 of 1 pods: {FALLEN}")),
            ([said(GPU), said(CPU)], ("False", "EngineOnCpu", f"1 of 2 pods: {FALLEN}")),
            ([SILENT, said(CPU)], ("False", "EngineOnCpu", f"1 of 2 pods: {FALLEN}")),
            (
                [SILENT, said(GPU)],
                ("Unknown", "DeviceUnknown", "1 of 2 pods could not be asked what they run on"),
            ),
            (
                [said(NO_REPORT), said(GPU)],
                ("Unknown", "DeviceUnknown", f"1 of 2 pods do not say what they run on; {LATER}"),
            ),
        ],
    )
    def test_rows(self, given: list[Answer], expected: tuple[str, str, str] | None) -> None:
        assert told(given) == expected

    def test_stands_while_pods_are_being_asked(self) -> None:
        known = {"type": "AcceleratorInUse", "status": "False", "reason": "EngineOnCpu", "message": "before"}
        assert told([said(GPU), PENDING], known) == ("False", "EngineOnCpu", "before")
        assert told([], known) is None


EMULATED = """\
serval_accelerator_in_use{device="emulated",model="eyes",version="1"} 0.0
serval_device_programmed{device="emulated",emulated="true",engine="emulator",version="1"} 1.0
"""


def test_a_device_that_is_emulated_is_none_that_is_used() -> None:
    report = read_report(EMULATED)
    assert (report.devices, report.in_use, report.engine) == ({"emulated"}, False, "emulator")
    assert report.emulated
    assert not read_report(EMULATED.replace('device="emulated"', 'device="u250-0"')).emulated
    assert read_report(EMULATED.replace("emulator", "a b")).engine == ""


HEALTH = 'serval_device_healthy{device="emulated",emulated="true",engine="emulator",version="1"} '
OF_ANOTHER = HEALTH.replace("1", "2")


@pytest.mark.parametrize(
    ("page", "healthy"),
    [
        (EMULATED, True),
        (f"{EMULATED}{HEALTH}1.0\n", True),
        (f"{EMULATED}{HEALTH}0.0\n", False),
        (f"{EMULATED}{HEALTH}1.0\n{OF_ANOTHER}0.0\n", False),
        (f"{HEALTH}NaN\n", True),
        (f"{HEALTH}x\n", True),
    ],
    ids=["does not say", "healthy", "unhealthy", "one of two", "no number", "no sample"],
)
def test_a_device_is_unhealthy_where_the_server_says_so(page: str, healthy: bool) -> None:
    assert read_report(page).healthy is healthy


def status(*texts: object) -> str:
    """A server's answer about its model, with these texts of its versions."""
    versions = [
        {"version": str(number), "state": "LOADING", "status": {"error_code": "X", "error_message": text}}
        for number, text in enumerate(texts, 1)
    ]
    return json.dumps({"model_version_status": versions})


@pytest.mark.parametrize(
    ("page", "words"),
    [
        (status("the device is unhealthy: too hot"), "the device is unhealthy: too hot"),
        (status("", "too hot"), "too hot"),
        (status(""), ""),
        (status(7, None, {}), ""),
        (status("x" * 5000), "x" * LONGEST_FAULT),
        ("", ""),
        ("no JSON", ""),
        ("[" * 10_000, ""),
        ("[1]", ""),
        ('{"model_version_status": 3}', ""),
        ('{"model_version_status": [3, {"status": 4}]}', ""),
    ],
    ids=[
        "one",
        "the second",
        "none",
        "no texts",
        "long",
        "empty",
        "text",
        "deep",
        "a list",
        "a number",
        "numbers",
    ],
)
def test_what_a_server_says_of_its_device(page: str, words: str) -> None:
    found = read_fault(page)
    assert len(found) <= LONGEST_FAULT
    assert found[:100] == words[:100]
