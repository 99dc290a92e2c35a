from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest

from serval_serving.engines.providers import CPU, Provider, first_with_work, parse, shares, unknown

KNOWN = (
    "CUDAExecutionProvider",
    "OpenVINOExecutionProvider",
    "XnnpackExecutionProvider",
    "CPUExecutionProvider",
)
CUDA = Provider("CUDA")


@dataclass(frozen=True)
class Part:
    """A part of a model, as a session's record has it."""

    ep_name: str
    nodes: int

    def get_nodes(self) -> list[str]:
        return ["node"] * self.nodes


class Session:
    """The record of a session whose providers there is no hardware for here."""

    def __init__(self, *parts: Part) -> None:
        self._parts = parts

    def get_provider_graph_assignment_info(self) -> tuple[Part, ...]:
        return self._parts


@pytest.mark.parametrize(
    ("text", "full", "said", "device"),
    [
        ("CUDA", "CUDAExecutionProvider", "CUDA", "CUDA"),
        ("cudaExecutionProvider", "CUDAExecutionProvider", "CUDA", "CUDA"),
        ("CPU", "CPUExecutionProvider", "CPU", "CPU"),
        ("xnnpack", "XnnpackExecutionProvider", "Xnnpack", "CPU"),
        ("OpenVINO", "OpenVINOExecutionProvider", "OpenVINO", "CPU"),
        ("openvino:cpu", "OpenVINOExecutionProvider", "OpenVINO", "CPU"),
        ("openvino:gpu", "OpenVINOExecutionProvider", "OpenVINO:GPU", "OpenVINO:GPU"),
    ],
)
def test_names(text: str, full: str, said: str, device: str) -> None:
    provider = parse(text, KNOWN)
    assert provider is not None
    assert (provider.full, str(provider), provider.device) == (full, said, device)


@pytest.mark.parametrize("text", ["Abacus", "", "CUDA:1", ":GPU"])
def test_names_that_nobody_knows(text: str) -> None:
    assert parse(text, KNOWN) is None
    assert (
        unknown(text, KNOWN)
        == f"ONNX Runtime knows no provider {text}; it knows cpu, cuda, openvino, xnnpack"
    )


@pytest.mark.parametrize(
    ("provider", "threads", "options"),
    [
        (CUDA, 4, {}),
        (Provider("OpenVINO", "CPU"), 4, {"device_type": "CPU", "num_of_threads": "4"}),
        (Provider("OpenVINO", "CPU"), 0, {"device_type": "CPU"}),
        (Provider("OpenVINO", "GPU"), 4, {"device_type": "GPU"}),
    ],
)
def test_options(provider: Provider, threads: int, options: dict[str, str]) -> None:
    assert provider.options(threads) == options


@pytest.mark.parametrize(
    ("parts", "runs_on"),
    [
        ((Part(CUDA.full, 5),), CUDA),
        # Operators that compute shapes run on the CPU in most models.
        ((Part(CPU.full, 5), Part(CUDA.full, 1)), CUDA),
        ((Part(CPU.full, 5),), CPU),
        ((Part(CUDA.full, 0), Part(CPU.full, 1)), CPU),
        ((), CPU),
    ],
)
def test_a_model_runs_on_what_has_work(parts: tuple[Part, ...], runs_on: Provider) -> None:
    """A session has CUDA though no operator runs there: that is the CPU."""
    assert first_with_work([CUDA, CPU], shares(Session(*parts))) == runs_on


def test_operators_are_counted() -> None:
    session = Session(Part(CUDA.full, 2), Part(CPU.full, 1), Part(CUDA.full, 3))
    assert shares(session) == Counter({CUDA.full: 5, CPU.full: 1})
