"""How requests are batched: TensorFlow Serving's BatchingParameters, with its defaults."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from google.protobuf import text_format

from serval_serving.server.flags import FlagError, parsing_error
from serval_serving.wire import messages

PER_MODEL_FILE: Final = "batching_params.pbtxt"
"""The parameters of one version, in its folder."""

_MICROSECOND: Final = 1e-6


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """The parameters.

    Attributes
    ----------
    max_batch_size:
        Rows of the largest request, and without `max_execution_size` of the largest batch.
    max_execution_size:
        Rows of the largest batch.
    timeout_seconds:
        How long a batch waits to be filled while a thread is free.
    max_enqueued_batches:
        Batches that may wait for a thread, of requests that could be batched together.
    threads:
        Batches that run at once.
    allowed_sizes:
        Sizes to which batches are padded; empty for any.
    splits:
        Whether a request larger than a batch is run in pieces.
    pool_name:
        What the metrics call the threads.
    """

    max_batch_size: int = 1000
    max_execution_size: int = 1000
    timeout_seconds: float = 0.0
    max_enqueued_batches: int = 10
    threads: int = 1
    allowed_sizes: tuple[int, ...] = ()
    splits: bool = False
    pool_name: str = "batch_threads"

    def padded(self, size: int) -> int:
        """Give the rows that a batch of so many is padded to."""
        index = bisect_left(self.allowed_sizes, size)
        return self.allowed_sizes[index] if index < len(self.allowed_sizes) else size


def read_settings(file: Path | None, cpus: int) -> BatchSettings:
    """Read a file of parameters; without one the defaults hold.

    Raises
    ------
    FlagError
        It cannot be read, is no such text proto, or its values contradict each other.
    """
    parameters = messages.BatchingParameters()
    if file is not None:
        try:
            text_format.Parse(file.read_text(encoding="utf-8"), parameters)
        except (OSError, UnicodeDecodeError) as error:
            raise FlagError(f"batching parameters cannot be read: {error}") from error
        except text_format.ParseError as error:
            raise parsing_error(parameters, file, error) from error
    return _settings(parameters, cpus)


def _settings(parameters: messages.BatchingParameters, cpus: int) -> BatchSettings:
    """Check the parameters and fill in the defaults."""
    default = BatchSettings()

    def number(name: str, otherwise: int, least: int = 1) -> int:
        value = getattr(parameters, name).value if parameters.HasField(name) else otherwise
        if value < least:
            raise FlagError(f"{name} must be at least {least}; was {value}")
        return int(value)

    largest = number("max_batch_size", default.max_batch_size)
    splits = parameters.enable_large_batch_splitting.value
    execution = number("max_execution_batch_size", largest) if splits else largest
    if execution > largest:
        raise FlagError(
            f"max_execution_batch_size should be no larger than max_batch_size; was {execution} vs. {largest}"
        )
    return BatchSettings(
        max_batch_size=largest,
        max_execution_size=execution,
        timeout_seconds=number("batch_timeout_micros", 0, 0) * _MICROSECOND,
        max_enqueued_batches=number("max_enqueued_batches", default.max_enqueued_batches),
        threads=number("num_batch_threads", cpus),
        allowed_sizes=_allowed(list(parameters.allowed_batch_sizes), execution, splits=splits),
        splits=splits,
        pool_name=parameters.thread_pool_name.value or default.pool_name,
    )


def _allowed(sizes: list[int], largest: int, *, splits: bool) -> tuple[int, ...]:
    """Check the sizes that batches are padded to."""
    if any(size <= before for before, size in zip([0, *sizes], sizes, strict=False)):
        raise FlagError("allowed_batch_sizes entries must be monotonically increasing")
    if sizes and sizes[-1] != largest:
        name = "max_execution_batch_size" if splits else "max_batch_size"
        raise FlagError(
            f"Last entry in allowed_batch_sizes must match {name}; last entry was {sizes[-1]}; "
            f"expected {largest}"
        )
    return tuple(sizes)
