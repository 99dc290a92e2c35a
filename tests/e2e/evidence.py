"""What the report of a failed test shows of the cluster: its objects, and the ends of logs."""

from __future__ import annotations

from serval_lab import Lab
from serval_lab.control_plane import CONTROLLER_MANAGER
from serval_lab.errors import LabError, tail
from support.chart import NAMESPACE, RELEASE

KINDS = "modeldeployments,acceleratedmodels,jobs,deployments,replicasets,pods"
COLUMNS = {
    "KIND": ".kind",
    "NAME": ".metadata.name",
    "UID": ".metadata.uid",
    "VERSION": ".metadata.resourceVersion",
    "DELETED": ".metadata.deletionTimestamp",
    "REPLICAS": ".spec.replicas",
    "NODE": ".spec.nodeName",
    "PHASE": ".status.phase",
    "READY": '.status.conditions[?(@.type=="Ready")].status',
}
LINES = 60
LIMIT = 20.0
"""Seconds for each question: the API server may be what failed."""


def evidence(lab: Lab, namespace: str) -> list[tuple[str, str]]:
    """Titles and texts: what the API server lists in a namespace, and what its controllers said last."""
    columns = "custom-columns=" + ",".join(f"{title}:{path}" for title, path in COLUMNS.items())
    objects = ("get", KINDS, f"--namespace={namespace}", "--output", columns)
    operator = ("logs", f"--namespace={NAMESPACE}", f"--selector=app.kubernetes.io/instance={RELEASE}")
    return [
        (f"objects in {namespace}", _ask(lab, *objects)),
        ("the operator's log", _ask(lab, *operator, "--prefix", f"--tail={LINES}")),
        (f"the log of {CONTROLLER_MANAGER}", tail(lab.log(CONTROLLER_MANAGER), LINES)),
    ]


def _ask(lab: Lab, *arguments: str) -> str:
    """What kubectl answers, be it an error."""
    try:
        answer = lab.kubectl(*arguments, limit=LIMIT, check=False)
    except LabError as error:
        return str(error)
    return answer.stdout + answer.stderr
