"""Who sets what a quota misses: the author of the spec, or an administrator by the chart's values."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from serval_operator.pods.quota_words import quota_cure

pytestmark = pytest.mark.unit

VALUES = Path(__file__).parents[4] / "charts" / "serval" / "values.yaml"
TRIGGER = "then give `spec.rollout.trigger` a new value"


def sets(*fields: str) -> str:
    """The cure by the chart."""
    return f"an administrator sets {', '.join(fields)} in the values of the operator's chart, {TRIGGER}"


@pytest.mark.parametrize(
    ("words", "cure"),
    [
        ("limits.cpu for: fetch", sets("`fetch.resources.limits.cpu` (container fetch)")),
        ("limits.memory for: front", sets("`front.resources.limits.memory` (container front)")),
        ("cpu for: fetch", sets("`fetch.resources.requests.cpu` (container fetch)")),
        ("requests.cpu for: fetch", sets("`fetch.resources.requests.cpu` (container fetch)")),
        ("limits.cpu for: server", "set `spec.resources.limits.cpu`"),
        (
            "limits.cpu for: fetch,front,server; limits.memory for: server",
            "set `spec.resources.limits.cpu`, `spec.resources.limits.memory`; "
            + sets(
                "`fetch.resources.limits.cpu` (container fetch)",
                "`front.resources.limits.cpu` (container front)",
            ),
        ),
        ("limits.cpu for: injected", ""),
    ],
)
def test_what_is_missing(words: str, cure: str) -> None:
    assert quota_cure(f"failed quota: all: must specify {words}") == cure


@pytest.mark.parametrize(
    "words",
    [
        "exceeded quota: none, requested: pods=1, used: pods=0, limited: pods=0",
        "exceeded quota: all, requested: limits.cpu=4, used: limits.cpu=6, limited: limits.cpu=8",
        "maximum memory usage per Container is 1Gi, but limit is 2Gi",
        "",
    ],
)
def test_nothing_is_missing(words: str) -> None:
    assert quota_cure(words) == ""


@pytest.mark.parametrize("container", ["fetch", "front"])
def test_the_chart_has_the_value(container: str) -> None:
    values = yaml.safe_load(VALUES.read_text(encoding="utf-8"))
    named = quota_cure(f"must specify limits.memory for: {container}").split("`")[1]
    found = values
    for part in named.split("."):
        found = found[part]
    assert found
