from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serval_operator.api.conditions import Condition
from serval_operator.api.naming import Key
from serval_operator.runtime.metrics import Metrics

KEY, OTHER = (Key("ModelDeployment", "vision", name) for name in ("resnet", "vgg"))


def ready(reason: str) -> tuple[Condition, ...]:
    """Conditions of an object whose `Ready` is False for a reason."""
    return (Condition("Ready", "False", reason, ""), Condition("Available", "True", "ModelAnswers", ""))


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"serval_operator_{name}", labels)


def test_requests_are_counted_and_timed(metrics: Metrics) -> None:
    for seconds in (0.001, 0.2):
        metrics.request("apply", "deployments", "200", seconds)
    metrics.request("apply", "deployments", "409", 0.1)
    assert value(metrics, "api_requests_total", verb="apply", resource="deployments", code="200") == 2
    assert value(metrics, "api_requests_total", verb="apply", resource="deployments", code="409") == 1
    assert value(metrics, "api_request_seconds_count", verb="apply", resource="deployments") == 3
    assert value(metrics, "api_request_seconds_bucket", verb="apply", resource="deployments", le="0.002") == 1


def test_reconciles_by_outcome(metrics: Metrics) -> None:
    metrics.reconciled("ModelDeployment", "done", 0.01)
    metrics.reconciled("ModelDeployment", "Conflict", 0.02)
    assert value(metrics, "reconcile_seconds_count", kind="ModelDeployment", outcome="done") == 1
    assert value(metrics, "reconcile_seconds_sum", kind="ModelDeployment", outcome="Conflict") == 0.02


def test_models_by_the_reason_that_they_have_now(metrics: Metrics) -> None:
    metrics.conditions(KEY, ready("Progressing"))
    metrics.conditions(OTHER, ready("Serving"))
    metrics.conditions(KEY, ready("Progressing"))
    metrics.conditions(KEY, ready("Serving"))
    assert value(metrics, "objects", kind="ModelDeployment", reason="Serving") == 2
    assert value(metrics, "objects", kind="ModelDeployment", reason="Progressing") == 0
    metrics.conditions(KEY, ())
    metrics.conditions(KEY, ())
    assert value(metrics, "objects", kind="ModelDeployment", reason="Serving") == 1
    assert metrics._reasons == {OTHER: "Serving"}


def test_phases_of_ready_pods(metrics: Metrics) -> None:
    metrics.pod_ready("ModelDeployment", {"image": 40.0, "load": 3.0})
    metrics.pod_ready("ModelDeployment", {"load": 5.0})
    assert value(metrics, "pod_ready_seconds_sum", kind="ModelDeployment", phase="load") == 8
    assert value(metrics, "pod_ready_seconds_count", kind="ModelDeployment", phase="image") == 1


def test_states_are_read_when_they_are_asked_for(metrics: Metrics) -> None:
    depth, ages = {"": 1.0}, {"pods": 2.0}
    metrics.watch_state("queue_depth", "Depth.", "", lambda: depth)
    metrics.watch_state("age", "Age.", "resource", lambda: ages)
    assert value(metrics, "queue_depth") == 1
    depth[""], ages["pods"] = 7.0, 8.0
    assert value(metrics, "queue_depth") == 7
    assert value(metrics, "age", resource="pods") == 8


def test_states_with_several_labels(metrics: Metrics) -> None:
    metrics.watch_states("up", "Up.", ("resource", "namespace"), lambda: {("pods", "vision"): 1.0})
    assert value(metrics, "up", resource="pods", namespace="vision") == 1


def test_repairs_and_lost_events(metrics: Metrics) -> None:
    metrics.repaired("pods", 3)
    metrics.event_failed()
    assert value(metrics, "repaired_objects_total", resource="pods") == 3
    assert value(metrics, "events_failed_total") == 1


def test_the_page_can_be_parsed_and_is_all_ours(metrics: Metrics) -> None:
    metrics.request("get", "pods", "200", 0.1)
    metrics.watch_state("queue_depth", "Depth.", "", lambda: {"": 1.0})
    families = list(text_string_to_metric_families(metrics.text().decode()))
    names = {family.name for family in families}
    assert {name for name in names if not name.startswith(("serval_operator_", "process_"))} == set()
    assert all(family.documentation for family in families)


def test_two_operators_in_one_process_do_not_meet() -> None:
    one, other = Metrics(), Metrics()
    one.event_failed()
    assert value(other, "events_failed_total") == 0


def test_a_series_for_each_condition_only_where_that_is_wanted() -> None:
    metrics = Metrics(each_condition=True)
    metrics.conditions(KEY, ready("AcceleratorBusy"))
    series = (
        'serval_condition{kind="ModelDeployment",name="resnet",namespace="vision",reason="%s",type="%s"} %s'
    )
    page = metrics.text().decode()
    assert series % ("AcceleratorBusy", "Ready", "0.0") in page
    assert series % ("ModelAnswers", "Available", "1.0") in page
    metrics.conditions(KEY, ())
    assert 'name="resnet"' not in metrics.text().decode()
    silent = Metrics()
    silent.conditions(KEY, ready("AcceleratorBusy"))
    assert b"serval_condition" not in silent.text()


def test_the_docs_list_every_metric() -> None:
    """Metrics that are read when they are asked for are registered by the parts that own them."""
    families = {family.name for family in Metrics(each_condition=True).registry.collect()}
    own = {name for name in families if name.startswith("serval_")}
    assert len(own) >= 7
    text = (Path(__file__).parents[4] / "docs" / "install.md").read_text(encoding="utf-8")
    short = {name for name in own if name in text or f"`_{name.removeprefix('serval_operator_')}" in text}
    assert own == short
