"""The termination message: what the operator reads of a fetch."""

from __future__ import annotations

from collections.abc import Mapping

from serval_contract.report import FetchFailure, FetchReport, Tensor
from serval_serving.fetch.errors import FetchError
from serval_serving.models.savedmodel import Signature, TensorInfo


def report_of(
    *,
    version: int,
    digest: str,
    size: int,
    seconds: float,
    signature: Signature | None,
    pinned: bool = False,
) -> FetchReport:
    """Return the report of a success.

    Parameters
    ----------
    version:
        The version that is served.
    digest:
        ``sha256:<hex>`` over the served files.
    size:
        Bytes of the served files.
    seconds:
        Duration of the fetch.
    signature:
        The default signature; None where the model has none of that name.
    pinned:
        Whether a pin bound it to this version and digest.
    """
    if signature is None:
        return FetchReport(version, digest, size, seconds, pinned=pinned)
    inputs, outputs = _tensors(signature.inputs), _tensors(signature.outputs)
    return FetchReport(version, digest, size, seconds, inputs, outputs, pinned)


def failure_of(error: FetchError) -> FetchFailure:
    """Return the report of a failure."""
    return FetchFailure(error.reason, error.message, error.permanent)


def _tensors(tensors: Mapping[str, TensorInfo]) -> tuple[Tensor, ...]:
    return tuple(
        Tensor(alias, info.dtype, None if info.shape is None else tuple(info.shape))
        for alias, info in tensors.items()
    )
