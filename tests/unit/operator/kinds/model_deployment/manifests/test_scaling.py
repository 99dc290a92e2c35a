"""When a ModelDeployment has an autoscaler and a disruption budget, and with which numbers."""

from __future__ import annotations

from typing import Any

import pytest

from serval_operator.api.snapshots import parse_owner
from serval_operator.kinds.model_deployment.manifests.autoscaler import autoscaler
from serval_operator.kinds.model_deployment.manifests.disruption import disruption_budget
from serval_operator.kinds.model_deployment.spec import parse_spec
from support import gen

pytestmark = pytest.mark.unit

MODEL = parse_owner(gen.model())
LEAST = {"model": {"uri": "pvc://models/digits"}}
SCALED = {"autoscaling": {"maxReplicas": 5}, "resources": {"limits": {"cpu": 1}}}


def scaler(**spec: Any) -> dict[str, Any] | None:
    return autoscaler(MODEL, parse_spec(gen.MODEL, {**LEAST, **spec}))


def budget(placeless: int = 0, **spec: Any) -> dict[str, Any] | None:
    return disruption_budget(MODEL, parse_spec(gen.MODEL, {**LEAST, **spec}), placeless)


class TestAutoscaler:
    @pytest.mark.parametrize(
        ("spec", "there"),
        [
            ({}, False),
            (SCALED, True),
            ({**SCALED, "replicas": 3}, True),
            ({**SCALED, "replicas": 0}, False),
            ({**SCALED, "suspend": True}, False),
        ],
        ids=["not asked for", "asked for", "more replicas", "scaled to zero", "suspended"],
    )
    def test_is_there_while_replicas_are_wanted(self, spec: dict[str, Any], there: bool) -> None:
        assert (scaler(**spec) is not None) == there

    @pytest.mark.parametrize(
        ("most", "percent", "average"),
        [(8, 70, "5600m"), (10, 70, "7"), (1, 1, "10m"), (10000, 100, "10000"), (3, 33, "990m")],
    )
    def test_a_share_of_the_requests_in_work(self, most: int, percent: int, average: str) -> None:
        made = scaler(
            autoscaling={
                "maxReplicas": 5,
                "metrics": [{"type": "RequestsInFlight", "targetUtilization": percent}],
            },
            endpoint={"maxConcurrentRequests": most},
        )
        assert made is not None
        assert made["spec"]["metrics"][0]["pods"]["target"]["averageValue"] == average

    def test_gives_devices_up_more_slowly_than_it_takes_them(self) -> None:
        made = scaler(**SCALED)
        assert made is not None
        up, down = (made["spec"]["behavior"][way] for way in ("scaleUp", "scaleDown"))
        assert up["stabilizationWindowSeconds"] < down["stabilizationWindowSeconds"]
        assert all(one["type"] == "Pods" for one in down["policies"])


class TestDisruptionBudget:
    @pytest.mark.parametrize(
        ("spec", "most"),
        [
            ({}, None),
            ({"replicas": 0}, None),
            ({"replicas": 2}, 1),
            (SCALED, 1),
            ({"disruption": {}}, None),
            ({"disruption": {"maxUnavailable": 1}}, 1),
            ({"replicas": 9, "disruption": {"maxUnavailable": 3}}, 3),
            ({"replicas": 9, "disruption": {"maxUnavailable": "1%"}}, "1%"),
        ],
    )
    def test_is_there_where_it_helps(self, spec: dict[str, Any], most: int | str | None) -> None:
        made = budget(**spec)
        assert (made["spec"]["maxUnavailable"] if made else None) == most

    @pytest.mark.parametrize(
        ("asked", "replicas", "placeless", "most"),
        [
            (1, 2, 0, 1),
            (1, 2, 1, 2),
            (1, 2, 2, 2),
            (1, 4, 2, 3),
            (3, 2, 1, 3),
            ("25%", 4, 0, "25%"),
            ("25%", 4, 1, 2),
            ("26%", 4, 1, 3),
            ("100%", 4, 1, 4),
        ],
    )
    def test_a_replica_without_a_place_does_not_count_against_it(
        self, asked: int | str, replicas: int, placeless: int, most: int | str
    ) -> None:
        made = budget(placeless, replicas=replicas, disruption={"maxUnavailable": asked})
        assert made is not None
        assert made["spec"]["maxUnavailable"] == most

    def test_no_budget_comes_of_it(self) -> None:
        assert budget(1) is None

    def test_a_model_that_does_not_answer_holds_up_no_drain(self) -> None:
        made = budget(replicas=2)
        assert made is not None
        assert made["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
