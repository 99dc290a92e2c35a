"""Which ServiceAccounts a ModelDeployment may use."""

from __future__ import annotations

from typing import Any

import pytest

from serval_operator.api.conditions import Blocked
from serval_operator.workload.service_account_policy import judge_service_account

pytestmark = pytest.mark.unit

MISSING = Blocked("CredentialsNotFound", "there is no ServiceAccount `reader` in this namespace")
REFUSED = Blocked(
    "ReferenceNotPermitted",
    'ServiceAccount `reader` must have the label `serval.dev/allowed: "true"` before a ModelDeployment may '
    "use it",
)


def account(**labels: str) -> dict[str, Any]:
    return {
        "metadata": {"name": "reader", "labels": {key.replace("_", "/"): one for key, one in labels.items()}}
    }


@pytest.mark.parametrize(
    ("found", "blocked"),
    [
        (None, MISSING),
        ({}, REFUSED),
        ({"metadata": {"name": "reader"}}, REFUSED),
        ({"metadata": {"name": "reader", "labels": None}}, REFUSED),
        (account(team="vision"), REFUSED),
        (account(**{"serval.dev_allowed": "false"}), REFUSED),
        (account(**{"serval.dev_allowed": ""}), REFUSED),
        (account(**{"serval.dev_allowed": "true"}), None),
    ],
)
def test_who_allows_it_and_who_does_not(found: dict[str, Any] | None, blocked: Blocked | None) -> None:
    assert judge_service_account("reader", found) == blocked
