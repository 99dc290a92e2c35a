"""Networks of Keras through the conversion: a small one always, the large ones where nothing is left out."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from serval_contract.conversion_memory import needed_bytes
from serval_serving.accel.artifact import CLASSIFIER_FILE
from serval_serving.accel.convert.options import ConvertOptions
from serval_serving.accel.convert.pipeline import convert
from support.whole import note, whole
from unit.serving.accel.keras_models import SIZES, SMALL, write

NETWORKS = list(SIZES) if whole() else [SMALL]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("network", NETWORKS)
def test_network(
    network: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
) -> None:
    note(record_property, len(NETWORKS), len(SIZES), "networks")
    folder = tmp_path / "model"
    if network == SMALL:
        request.getfixturevalue("in_process")
        write(network, folder)
    else:
        request.getfixturevalue("importable")
        command = [sys.executable, "-m", "unit.serving.accel.keras_models", network, str(folder)]
        subprocess.run(command, check=True, timeout=900)
    side = SIZES[network]
    inputs = np.random.default_rng(3).uniform(-120, 130, (64, side, side, 3)).astype(np.float32)
    np.save(tmp_path / "inputs.npy", inputs)
    # Of random weights only the features say something; their classes are nearly equal.
    options = ConvertOptions(folder, tmp_path / "out", calibration=tmp_path, min_agreement=0.0)
    conversion = convert(options)
    report = conversion.report
    assert report["float_error"] < 1e-4
    assert report["held_out"]["cosine"] > 0.95
    assert (tmp_path / "out" / CLASSIFIER_FILE).exists()
    assert conversion.device.outputs[0].shape[0] is None
    if network != SMALL:
        assert max(report["peak_bytes"].values()) < needed_bytes(report["weight_bytes"])
