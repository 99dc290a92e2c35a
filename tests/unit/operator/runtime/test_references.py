"""The index of references: who names whom."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serval_operator.api.naming import Key
from serval_operator.runtime.references import References

pytestmark = pytest.mark.unit

KEYS = st.builds(Key, st.just("Toy"), st.just("vision"), st.sampled_from("abcde"))
A, B, C = (Key("Toy", "vision", name) for name in "abc")


def test_those_that_name_an_object_are_found_whether_it_exists_or_not() -> None:
    index = References()
    assert index.update(B, [A, A]) == {A}
    index.update(C, [A])
    assert index.referrers(A) == (B, C)
    assert index.referrers(B) == ()


def test_what_is_not_named_any_more_is_forgotten() -> None:
    index = References()
    index.update(C, [A])
    index.update(C, [B])
    assert (index.referrers(A), index.referrers(B)) == ((), (C,))
    index.update(C, ())
    assert index.referrers(B) == ()


@given(st.lists(st.tuples(KEYS, st.frozensets(KEYS))))
def test_both_ends_agree(updates: list[tuple[Key, frozenset[Key]]]) -> None:
    index, named = References(), dict[Key, frozenset[Key]]()
    for referrer, keys in updates:
        index.update(referrer, keys)
        named[referrer] = keys
    for key in {key for keys in named.values() for key in keys}:
        assert index.referrers(key) == tuple(sorted(one for one, keys in named.items() if key in keys))
