"""Names of children, and keys as texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serval_operator.api.naming import MAX_CHILD_NAME, Key, suffixed

pytestmark = pytest.mark.unit

NAMES = st.from_regex(r"[a-z]([-a-z0-9]{0,80}[a-z0-9])?", fullmatch=True)
SUFFIXES = st.sampled_from(["-headless", "-convert", "-worker"])


def test_a_short_name_is_kept_whole() -> None:
    assert suffixed("resnet", "-headless") == "resnet-headless"


def test_a_long_name_is_cut_and_marked() -> None:
    name = suffixed("a" * 60, "-convert")
    assert len(name) == MAX_CHILD_NAME
    assert name.startswith("a" * 40)
    assert name.endswith("-convert")


@given(NAMES, SUFFIXES, st.integers(30, MAX_CHILD_NAME))
def test_is_a_dns_label_of_the_length_that_is_allowed(name: str, suffix: str, most: int) -> None:
    made = suffixed(name, suffix, most)
    assert len(made) <= most
    assert made.endswith(suffix)
    assert made[0].isalpha()
    assert made == suffixed(name, suffix, most)


@given(st.lists(NAMES.map(lambda name: "a" * 60 + name), min_size=2, max_size=2, unique=True), SUFFIXES)
def test_two_long_names_stay_two(names: list[str], suffix: str) -> None:
    assert suffixed(names[0], suffix) != suffixed(names[1], suffix)


def test_a_key_as_text() -> None:
    assert str(Key("ModelDeployment", "vision", "resnet")) == "ModelDeployment vision/resnet"
