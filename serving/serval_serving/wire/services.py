"""The RPCs of the predict API."""

from __future__ import annotations

from typing import Final

from serval_serving.wire import rpc

METHODS: Final = (
    rpc.PREDICT,
    rpc.CLASSIFY,
    rpc.REGRESS,
    rpc.MULTI_INFERENCE,
    rpc.GET_MODEL_METADATA,
    rpc.GET_MODEL_STATUS,
    rpc.HANDLE_RELOAD_CONFIG,
)
