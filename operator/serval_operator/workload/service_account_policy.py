"""Whether what a spec refers to lets itself be used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serval_operator.api.conditions import Blocked
from serval_operator.constants import LABEL_ALLOWED
from serval_operator.reasons import CREDENTIALS_NOT_FOUND, REFERENCE_NOT_PERMITTED

ALLOWED = "true"


def judge_service_account(name: str, account: Mapping[str, Any] | None) -> Blocked | None:
    """Why pods may not run as a ServiceAccount; None where they may.

    Whoever may write a ModelDeployment must not become whoever a ServiceAccount of the namespace is: the
    operator makes pods for him that he may not be allowed to make himself. So the ServiceAccount says itself
    that it is meant for this.

    Parameters
    ----------
    account:
        The ServiceAccount as stored, or None if there is none of this name.
    """
    if account is None:
        return Blocked(CREDENTIALS_NOT_FOUND, f"there is no ServiceAccount `{name}` in this namespace")
    labels = (account.get("metadata") or {}).get("labels") or {}
    if labels.get(LABEL_ALLOWED) == ALLOWED:
        return None
    return Blocked(
        REFERENCE_NOT_PERMITTED,
        f'ServiceAccount `{name}` must have the label `{LABEL_ALLOWED}: "{ALLOWED}"` before a '
        "ModelDeployment may use it",
    )
