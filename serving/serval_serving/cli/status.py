"""``serval status``: what a ModelDeployment says of itself."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

from serval_serving.cli.errors import OK
from serval_serving.cli.extra import cluster_of
from serval_serving.cli.tables import table


def run(options: argparse.Namespace) -> int:
    """Print the status.

    Raises
    ------
    CliError
        If the cluster does not answer or has no such ModelDeployment.
    """
    found = cluster_of(options).model_deployment(options.name)
    if options.json:
        print(json.dumps(found.get("status", {}), indent=2))
        return OK
    print("\n".join(report(found)))
    return OK


def report(found: dict[str, Any]) -> Iterator[str]:
    """Yield the lines that a person reads."""
    metadata, status = found["metadata"], found.get("status", {})
    model = status.get("model", {})
    yield f"ModelDeployment {metadata['namespace']}/{metadata['name']}"
    facts = {
        "model": status.get("modelSummary"),
        "digest": model.get("digest"),
        "replicas": status.get("replicasSummary"),
        "strategy": status.get("effective", {}).get("strategy"),
    }
    facts |= {f"{name} endpoint": value for name, value in sorted(status.get("endpoints", {}).items())}
    yield from (f"  {name}: {value}" for name, value in facts.items() if value)
    conditions = status.get("conditions", [])
    if not conditions:
        yield "  no conditions yet: does the operator run?"
        return
    rows = [
        tuple(str(condition.get(key, "")) for key in ("type", "status", "reason", "message"))
        for condition in conditions
    ]
    yield ""
    yield table(("CONDITION", "STATUS", "REASON", "MESSAGE"), rows)
