"""Paths of the REST API."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from serval_contract.models import MAX_VERSION
from serval_serving.server.inference import Target
from serval_serving.wire.status import StatusError, invalid

_VERSION = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_POST = re.compile(rf"/v1/models/(?P<name>[^/:]+){_VERSION}:(?P<method>classify|regress|predict)", re.I)
_GET = re.compile(rf"/v1/models(?:/(?P<name>[^/:]+))?{_VERSION}(?:/(?P<method>metadata))?", re.I)

PREFIX = "/v1/"
STATUS = "status"
METADATA = "metadata"
PREDICT = "predict"
CLASSIFY = "classify"
REGRESS = "regress"


@dataclass(frozen=True, slots=True)
class Call:
    """What a request asks for: `predict`, `classify`, `regress`, `status` or `metadata` of a model."""

    method: str
    target: Target


def parse(http_method: str, raw_path: str) -> Call:
    """Read a path under /v1/; letter case does not matter, names may be percent-encoded.

    Raises
    ------
    StatusError
        INVALID_ARGUMENT: it is none of the API's.
    """
    pattern = {"POST": _POST, "GET": _GET}.get(http_method)
    found = pattern.fullmatch(raw_path) if pattern else None
    if found is None:
        raise _malformed(http_method, raw_path)
    version = None
    if found["version"] is not None:
        version = int(found["version"])
        if version > MAX_VERSION:
            raise invalid(f"Failed to convert version: {found['version']} to numeric.")
    if not found["name"]:
        raise invalid("Missing model name in request.")
    method = (found["method"] or STATUS).lower()
    return Call(method, Target(unquote(found["name"]), version, unquote(found["label"] or "")))


def _malformed(http_method: str, raw_path: str) -> StatusError:
    return invalid(f"Malformed request: {http_method} {raw_path}")
