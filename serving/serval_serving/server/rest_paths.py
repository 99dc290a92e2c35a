"""Paths of the REST API: their patterns for the table of routes, and what they say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from serval_contract.models import MAX_VERSION
from serval_serving.server.inference import Target
from serval_serving.wire.status import StatusError, invalid

PREFIX: Final = "/v1/"
NO_NAME: Final = "Missing model name in request."

# Letter case does not matter, except in names and labels, which may be percent-encoded.
_ROOT: Final = "/{_v1:(?i:v1)}/{_models:(?i:models)}"
_MODEL: Final = _ROOT + "/{name:[^/:]+}{which:((?i:/versions)/[0-9]+|(?i:/labels)/[^/:]+)?}"

STATUS: Final = _MODEL
METADATA: Final = _MODEL + "{_metadata:(?i:/metadata)}"
PREDICT: Final = _MODEL + "{_predict:(?i::predict)}"
CLASSIFY: Final = _MODEL + "{_classify:(?i::classify)}"
REGRESS: Final = _MODEL + "{_regress:(?i::regress)}"

_MAX_DIGITS: Final = len(str(MAX_VERSION))
_NAMELESS: Final = re.compile(r"/v1/models(/versions/\d+|/labels/[^/:]+)?(/metadata)?", re.I)


def target_of(parts: Mapping[str, str]) -> Target:
    """Say which model is meant by the parts of a path that `_MODEL` names.

    Raises
    ------
    StatusError
        INVALID_ARGUMENT: the version is too large a number.
    """
    name, which = parts["name"], parts["which"]
    if not which:
        return Target(name)
    _, kind, value = which.split("/", 2)
    if kind.lower() == "labels":
        return Target(name, label=value)
    digits = value.lstrip("0") or "0"
    # Python does not convert numbers of more than some thousand digits.
    if len(digits) > _MAX_DIGITS or int(digits) > MAX_VERSION:
        raise invalid(f"Failed to convert version: {value} to numeric.")
    return Target(name, int(digits))


def refusal(http_method: str, raw_path: str) -> StatusError:
    """Say why a path under /v1/ is none of the API's, as TensorFlow Serving does."""
    if http_method == "GET" and _NAMELESS.fullmatch(raw_path):
        return invalid(NO_NAME)
    return invalid(f"Malformed request: {http_method} {raw_path}")
