"""What can be wrong with a tensor on the wire. Each is a ValueError, so callers may catch just that."""

from __future__ import annotations


class TensorError(ValueError):
    """Base: these bytes or this array are no tensor that both sides can understand."""


class UnsupportedDtypeError(TensorError):
    """The element type is unknown, or has no counterpart on the other side."""


class BadShapeError(TensorError):
    """The shape is unknown, has a negative dimension, or holds more elements than may be allocated."""


class SizeMismatchError(TensorError):
    """The number of values does not fit the shape."""
