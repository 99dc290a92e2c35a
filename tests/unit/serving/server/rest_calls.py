"""Requests to the REST API, and what comes of them."""

from __future__ import annotations

import base64
import json
from typing import Any

from unit.serving.server.processes import Server

PREDICT = "/v1/models/zoo:predict"
METRICS = "/monitoring/prometheus/metrics"


def ask(server: Server, document: Any, path: str = PREDICT) -> tuple[int, Any]:
    body = document if isinstance(document, (bytes, str)) else json.dumps(document)
    reply = server.post(path, body)
    assert reply.headers["Content-Type"].startswith("application/json")
    return reply.status, json.loads(reply.data)


def half(**document: Any) -> dict[str, Any]:
    return {"signature_name": "half_plus_two", **document}


def b64(data: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(data).decode()}
