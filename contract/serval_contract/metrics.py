"""Metrics of model servers that the operator or an autoscaler reads."""

from __future__ import annotations

from typing import Final

METRICS_PATH: Final = "/monitoring/prometheus/metrics"
"""HTTP path of the page. It is TensorFlow Serving's; it needs no key."""
ACCELERATOR_GAUGE: Final = "serval_accelerator_in_use"
"""For each version that serves: 1 on an accelerator, 0 on the CPU. The operator reads it."""
DEVICE_LABEL: Final = "device"
"""Label of `ACCELERATOR_GAUGE`: what the version runs on."""
REQUESTS_GAUGE: Final = "serval_requests_in_flight"
"""Predictions in progress, waiting ones included. Autoscalers read it through the custom metrics API."""
