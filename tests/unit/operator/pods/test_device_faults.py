"""Which pods count as having a device of no use: states of a pod, and what its server said."""

from __future__ import annotations

from typing import Any

import pytest

from serval_contract.metrics import EMULATED_DEVICE
from serval_operator.pods.device_faults import SHARED, SILENT, faulty_devices
from serval_operator.pods.device_report import Answer, DeviceReport
from support import gen
from unit.operator.workload.observing import observed

pytestmark = pytest.mark.unit

TOO_HOT = "the device is unhealthy: too hot"
HOLDER = "DeviceHeld: unit fpga-0 is held by net-a"
HELD = f"E0000 cannot load digits: Unavailable: {HOLDER}"


def said(*, healthy: bool = True, fault: str = "", engine: str = "emulator") -> Answer:
    devices = frozenset({EMULATED_DEVICE})
    return Answer(True, DeviceReport(devices, in_use=False, engine=engine, healthy=healthy, fault=fault))


SICK = said(healthy=False, fault=TOO_HOT)
CALM, SILENCE, UNASKED = said(), Answer(True, None), Answer()


@pytest.mark.parametrize(
    ("options", "answer", "expected"),
    [
        (
            (gen.ready(), gen.unready_since(50)),
            SICK,
            ("DeviceUnhealthy", TOO_HOT, 50),
        ),
        ((gen.ready(), gen.unready), said(healthy=False), ("DeviceUnhealthy", SILENT, 12)),
        ((gen.ready(), gen.unready), CALM, None),
        ((gen.ready(), gen.unready), SILENCE, None),
        ((gen.ready(), gen.unready), UNASKED, None),
        ((gen.ready(), gen.unready), None, None),
        ((gen.ready(),), SICK, None),
        ((gen.loading(),), SICK, ("DeviceUnhealthy", TOO_HOT, 12)),
        ((gen.server_crashed(139, "Segmentation fault"),), SICK, None),
        ((gen.ready(), gen.node_lost), SICK, None),
        ((gen.starting(),), SICK, None),
        ((gen.server_crashed(1, HELD),), None, ("DeviceHeld", HOLDER, 10)),
        ((gen.server_crashed(1, HELD),), CALM, ("DeviceHeld", HOLDER, 10)),
        (
            (gen.loading(last=gen.ended(1, HELD)),),
            UNASKED,
            ("DeviceHeld", HOLDER, 10),
        ),
        ((gen.loading(last=gen.ended(1, HELD)),), CALM, None),
        ((gen.server_crashed(1, HELD.replace("Held", "Unusable")),), None, None),
    ],
    ids=[
        "unhealthy",
        "unhealthy without words",
        "not ready for another cause",
        "does not answer",
        "not asked yet",
        "unknown",
        "ready, whatever it said",
        "unhealthy since its start",
        "the server crashed",
        "the node is lost",
        "the server does not run",
        "held",
        "held, with an answer of before",
        "held, and tried again",
        "was held, and has the lock now",
        "unusable",
    ],
)
def test_the_table(
    options: tuple[Any, ...], answer: Answer | None, expected: tuple[str, str, float] | None
) -> None:
    pod = gen.pod("digits-1", gen.placed(), gen.fetched(), *options)
    seen = observed(pod)
    answers = {"uid-digits-1": answer} if answer else {}
    found = [(one.reason, one.words, one.since) for one in faulty_devices(seen, gen.REVISION, answers)]
    assert found == ([(expected[0], expected[1], gen.moment(expected[2]))] if expected else [])


def test_pods_of_other_revisions_are_replaced_anyway() -> None:
    pod = gen.pod("digits-1", gen.placed(), gen.fetched(), gen.ready(), gen.unready, revision="older")
    assert faulty_devices(observed(pod), gen.REVISION, {"uid-digits-1": SICK}) == ()


def test_what_is_said_names_pod_node_words_cure_and_outlook() -> None:
    pod = gen.pod("digits-1", gen.placed(), gen.fetched(), gen.server_crashed(1, HELD))
    (found,) = faulty_devices(observed(pod), gen.REVISION, {})
    fault = found.fault("no other device is free")
    assert fault.message == f"pod digits-1 on node {gen.NODE}: {HOLDER}; {SHARED}; no other device is free"
    assert (fault.reason, fault.exit_code) == ("DeviceHeld", 1)
