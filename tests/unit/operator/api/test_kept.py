"""ModelDeployments as the cache keeps them: what comes out is what went in, and little is kept."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from serval_operator.api.cache_entry import cache_owner
from serval_operator.api.naming import Key
from serval_operator.api.snapshots import parse_owner
from support import gen
from unit.operator.api.test_views import OBJECTS

pytestmark = pytest.mark.unit

MODEL = gen.model(generation=4, status={"conditions": [{"type": "Ready"}]}, replicas=3)


class TestKeptModel:
    def test_comes_out_as_it_went_in(self) -> None:
        assert cache_owner("ModelDeployment", MODEL).view() == parse_owner(MODEL)

    @given(OBJECTS)
    def test_so_does_whatever_there_may_be(self, obj: dict[str, Any]) -> None:
        kind = str(obj.get("kind", ""))
        assert cache_owner(kind, obj).view() == parse_owner(obj)

    def test_a_number_beyond_64_bits_costs_nothing_else(self) -> None:
        model = gen.model(replicas=3, resources={"limits": {"cpu": 10**30}})
        view = cache_owner("ModelDeployment", model).view()
        assert view.spec["replicas"] == 3
        assert view.spec["resources"] == {"limits": {"cpu": 1e30}}

    def test_tells_who_has_to_look_and_whether_it_was_judged(self) -> None:
        kept = cache_owner("ModelDeployment", MODEL)
        assert kept.owner == Key("ModelDeployment", gen.NAMESPACE, gen.MODEL)
        assert kept.judged
        assert not cache_owner("ModelDeployment", gen.model()).judged

    def test_keeps_nothing_of_the_managers(self) -> None:
        managed = {**MODEL, "metadata": {**MODEL["metadata"], "managedFields": [{"manager": "x" * 9999}]}}
        assert cache_owner("ModelDeployment", managed) == cache_owner("ModelDeployment", MODEL)
