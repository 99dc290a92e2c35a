"""What clients of Azure's accelerated models send: the service's name in a header, and no model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

ROUTE_HEADER: Final = "x-ms-aml-grpc-service-route"
_PREFIX: Final = "api/v1/service/"


def routed_name(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """Read the name of the service that a call is for; empty where it names none.

    The header holds `/api/v1/service/<name>`, or the bare name as some older clients have it.
    """
    for key, value in metadata:
        if key == ROUTE_HEADER and isinstance(value, str):
            path = f"{value.strip('/')}/"
            return path.removeprefix(_PREFIX).strip("/")
    return ""
