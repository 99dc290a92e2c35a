"""The fetcher's report: one line of JSON, the termination message of its container.

Whoever may create pods may write such a line too, so it is parsed with bounds: what the ModelDeployment's
status could not store is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from serval_contract.models import DIGEST
from serval_contract.reasons import FETCH_REASONS
from serval_contract.report_line import (
    MAX_INTEGER,
    MAX_LINE_BYTES,
    dump_line,
    find_line,
    is_integer,
    is_text,
    shortened,
)

_KIND: Final = "fetch"
_MAX_TENSORS: Final = 128
_MAX_DIMENSIONS: Final = 64
_MAX_TENSOR_NAME: Final = 512
_MAX_DTYPE: Final = 64


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of the model's default signature.

    Parameters
    ----------
    name:
        Alias in the signature.
    dtype:
        TensorFlow's name of the type, such as ``DT_FLOAT``.
    shape:
        Sizes, -1 for an open one; None if even their number is open.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] | None

    def fields(self) -> dict[str, Any]:
        """Return the tensor as JSON data; an open number of dimensions is left out."""
        fields = {"name": self.name, "dtype": self.dtype}
        return fields if self.shape is None else {**fields, "shape": list(self.shape)}


@dataclass(frozen=True, slots=True)
class FetchReport:
    """A fetch that succeeded.

    Parameters
    ----------
    version:
        Version that was fetched; None if the line has none that can be used.
    digest:
        ``sha256:<hex>`` over the files; empty if the line has none that can be used.
    size:
        Bytes of the files; None if the line has none that can be used.
    seconds:
        Duration of the fetch; None if the line has none that can be used.
    inputs, outputs:
        Tensors of the default signature; None if they are not known or did not fit into the line.
    pinned:
        Whether a pin said which version and digest it had to be.
    """

    version: int | None
    digest: str
    size: int | None
    seconds: float | None
    inputs: tuple[Tensor, ...] | None = None
    outputs: tuple[Tensor, ...] | None = None
    pinned: bool = False

    def dump(self) -> str:
        """Return the line; the tensors are left out if they do not fit."""
        line: dict[str, Any] = {
            "ok": True,
            "version": self.version,
            "digest": self.digest,
            "bytes": self.size,
            "seconds": None if self.seconds is None else round(self.seconds, 3),
        }
        if self.pinned:
            line["pinned"] = True
        short = dump_line(_KIND, line)
        if self.inputs is None or self.outputs is None:
            return short
        full = dump_line(_KIND, {**line, "inputs": _listed(self.inputs), "outputs": _listed(self.outputs)})
        return full if len(full) <= MAX_LINE_BYTES else short


@dataclass(frozen=True, slots=True)
class FetchFailure:
    """A fetch that failed.

    Parameters
    ----------
    reason:
        One of `FETCH_REASONS`; empty if the line names none of them.
    message:
        What happened, for the user.
    permanent:
        Whether another try with the same arguments would fail in the same way.
    """

    reason: str
    message: str
    permanent: bool

    def dump(self) -> str:
        """Return the line; a long message is cut."""
        return dump_line(
            _KIND,
            {
                "ok": False,
                "reason": self.reason,
                "message": shortened(self.message),
                "permanent": self.permanent,
            },
        )


def parse_report(text: str) -> FetchReport | FetchFailure | None:
    """Find the report in a termination message, which may be the end of a log; None if there is none."""
    fields = find_line(_KIND, text)
    if fields is None:
        return None
    if fields.get("ok"):
        return _report(fields)
    reason = fields.get("reason")
    return FetchFailure(
        reason=reason if isinstance(reason, str) and reason in FETCH_REASONS else "",
        message=str(fields.get("message", "")),
        permanent=fields.get("permanent") is True,
    )


def _listed(tensors: Sequence[Tensor]) -> list[dict[str, Any]]:
    """Tensors as the line has them: a shape that is not known is null."""
    return [{**tensor.fields(), "shape": tensor.shape} for tensor in tensors]


def _report(fields: Mapping[str, Any]) -> FetchReport:
    version, digest = fields.get("version"), str(fields.get("digest", ""))
    size = fields.get("bytes")
    return FetchReport(
        version=version if is_integer(version, least=0) else None,
        digest=digest if DIGEST.fullmatch(digest) else "",
        size=size if is_integer(size, least=0) else None,
        seconds=_seconds(fields.get("seconds")),
        inputs=_tensors(fields.get("inputs")),
        outputs=_tensors(fields.get("outputs")),
        pinned=fields.get("pinned") is True,
    )


def _seconds(value: object) -> float | None:
    """A duration; None for anything else, such as NaN, which Python reads from JSON."""
    return float(value) if isinstance(value, int | float) and 0 <= value <= MAX_INTEGER else None


def _tensors(value: object) -> tuple[Tensor, ...] | None:
    """Tensors; None if one of them does not have the form that the CRD's status takes."""
    if not isinstance(value, list) or len(value) > _MAX_TENSORS:
        return None
    tensors = tuple(tensor for one in value if (tensor := _tensor(one)))
    return tensors if len(tensors) == len(value) else None


def _tensor(value: object) -> Tensor | None:
    if not isinstance(value, Mapping):
        return None
    name, dtype, shape = value.get("name"), value.get("dtype"), value.get("shape")
    if not is_text(name, _MAX_TENSOR_NAME) or not is_text(dtype, _MAX_DTYPE):
        return None
    if shape is None:
        return Tensor(name, dtype, None)
    if not isinstance(shape, list) or len(shape) > _MAX_DIMENSIONS:
        return None
    return Tensor(name, dtype, tuple(shape)) if all(is_integer(size, least=-1) for size in shape) else None
