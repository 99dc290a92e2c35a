from __future__ import annotations

import io

import numpy as np
import pytest
from examples.demo.model import HeldOutImage
from examples.demo.scoring import Answers, sketch
from PIL import Image


def image(label: int, pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] | None = None) -> HeldOutImage:
    data = io.BytesIO()
    if pixels is not None:
        Image.fromarray(pixels).save(data, "PNG")
    return HeldOutImage("a.png", data.getvalue(), label)


@pytest.mark.parametrize(
    ("digits", "accuracy"), [((1, 2, 3, 4), 1.0), ((1, 2, 3, 9), 0.75), ((0, 0, 0, 0), 0.0)]
)
def test_accuracy_is_the_part_that_is_right(digits: tuple[int, ...], accuracy: float) -> None:
    answers = Answers("gRPC", digits, 1, 0.1)
    assert answers.accuracy([image(label) for label in (1, 2, 3, 4)]) == accuracy


def test_a_missing_answer_is_an_error_and_not_a_right_one() -> None:
    with pytest.raises(ValueError, match="argument 2 is longer"):
        Answers("gRPC", (1,), 1, 0.1).accuracy([image(1), image(2)])


def test_a_sketch_has_two_characters_a_pixel_from_blank_to_full() -> None:
    pixels = np.zeros((64, 64), np.uint8)
    pixels[:8, :8] = 255
    lines = sketch(image(1, pixels))
    assert lines[0] == "@@" + " " * 14
    assert lines[1:] == [" " * 16] * 7
