"""The kinds of custom resources that the operator reconciles. This is the only list of them."""

from __future__ import annotations

from typing import Final

from serval_operator.kinds import model_deployment
from serval_operator.reconcile.kind import Kind

KINDS: Final[tuple[Kind, ...]] = (model_deployment.KIND,)
