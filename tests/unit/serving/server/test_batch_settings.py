from __future__ import annotations

from pathlib import Path

import pytest

from serval_serving.server.batch_settings import BatchSettings, read_settings
from serval_serving.server.flags import FlagError


def parameters(tmp_path: Path, text: str) -> BatchSettings:
    file = tmp_path / "batching"
    file.write_text(text)
    return read_settings(file, 3)


def test_defaults() -> None:
    assert read_settings(None, 3) == BatchSettings(threads=3)


def test_every_parameter(tmp_path: Path) -> None:
    text = """
        max_batch_size { value: 64 } batch_timeout_micros { value: 1500 } max_enqueued_batches { value: 5 }
        num_batch_threads { value: 2 } thread_pool_name { value: "pool" } pad_variable_length_inputs: true
        allowed_batch_sizes: 8 allowed_batch_sizes: 32 enable_large_batch_splitting { value: true }
        max_execution_batch_size { value: 32 }
    """
    assert parameters(tmp_path, text) == BatchSettings(64, 32, 0.0015, 5, 2, (8, 32), True, "pool")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max_batch_size {", "Error parsing text-format tensorflow.serving.BatchingParameters: "),
        ("max_batch_size { value: 0 }", "max_batch_size must be at least 1; was 0"),
        (
            "max_batch_size { value: 8 } allowed_batch_sizes: 4",
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 4; expected 8",
        ),
        (
            "max_batch_size { value: 8 } allowed_batch_sizes: 8 allowed_batch_sizes: 8",
            "allowed_batch_sizes entries must be monotonically increasing",
        ),
        (
            (
                "max_batch_size { value: 8 } max_execution_batch_size { value: 9 } "
                "enable_large_batch_splitting { value: true }"
            ),
            "max_execution_batch_size should be no larger than max_batch_size; was 9 vs. 8",
        ),
    ],
)
def test_bad_parameters(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(FlagError, match=words):
        parameters(tmp_path, text)
