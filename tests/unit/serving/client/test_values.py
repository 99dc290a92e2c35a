from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from serval_serving.client.values import array_of_json, as_array, jsonable


@pytest.mark.parametrize(
    ("value", "dtype", "shape"),
    [
        (b"png", object, (1,)),
        ("text", object, (1,)),
        ([b"a\0", b"b"], object, (2,)),
        ([["a", "b"], ["c", "d"]], object, (2, 2)),
        ([1.5, 2.5], np.float32, (2,)),
        ([[1, 2], [3, 4]], np.int32, (2, 2)),
        ([2**31], np.int64, (1,)),
        ([True], np.bool_, (1,)),
        ([], np.float32, (0,)),
        (3, np.int32, ()),
        (np.zeros((2, 3)), np.float64, (2, 3)),
        (np.zeros(2, np.int64), np.int64, (2,)),
    ],
)
def test_as_array(value: Any, dtype: Any, shape: tuple[int, ...]) -> None:
    array = as_array(value)
    assert (array.dtype, array.shape) == (np.dtype(dtype), shape)


def test_bytes_keep_their_zeros() -> None:
    assert as_array([b"a\0\0", b"\0"]).tolist() == [b"a\0\0", b"\0"]
    assert as_array(b"a\0").tolist() == [b"a\0"]


def test_uneven_lists_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        as_array([[1, 2], [3]])
    with pytest.raises(ValueError, match="shape"):
        as_array([["a", "b"], ["c"]])


def test_json() -> None:
    plain = {"a": [{"b64": "AAE="}], "n": [1.5, 2.5], "s": "x", "i": 3}
    assert jsonable({"a": (b"\0\1",), "n": np.array([1.5, 2.5]), "s": "x", "i": np.int64(3)}) == plain
    assert array_of_json([[{"b64": "AAE="}]]).tolist() == [[b"\0\1"]]
    assert array_of_json([[1, 2], [3, 4]]).shape == (2, 2)
