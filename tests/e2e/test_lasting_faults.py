"""Faults of the cluster that last: the ModelDeployment names them, and heals without help."""

from __future__ import annotations

from e2e.stand import Stand
from support.cluster import condition
from support.ledger import provokes
from support.webhooks import webhook_down

SMALL = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "2Gi"}}


@provokes("ChildRefused", "a webhook for Deployments does not answer while the spec is edited")
def test_a_webhook_that_does_not_answer(stand: Stand) -> None:
    stand.create("edited", resources=SMALL)
    stand.serving("edited")
    with webhook_down(stand.cluster, stand.namespace, "apps", "deployments"):
        stand.patch("edited", replicas=2)
        cr = stand.failing("edited", "ChildRefused")
        assert "failed calling webhook" in condition(cr, "Ready")["message"]
        assert condition(cr, "Available")["status"] == "True"
    stand.serving("edited")
