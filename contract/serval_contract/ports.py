"""TCP ports of a model's pod and of its Service."""

from __future__ import annotations

from typing import Final

PORT_GRPC: Final = 8500
PORT_HTTP: Final = 8501
PORT_BEHIND_GRPC: Final = 8510
PORT_BEHIND_HTTP: Final = 8511
"""Where the runtime's server listens behind a front, which has the pod's own ports."""
PORT_SCORING: Final = 80
"""Of the Service only: it leads to `PORT_HTTP`, and to `PORT_GRPC` for an AcceleratedModel."""
PORT_EDGE: Final = 50051
"""Of the Service of an AcceleratedModel only: it leads to `PORT_GRPC`."""
PORT_PROGRESS: Final = 8502
"""Where the stages of a Job answer with their progress pages."""
