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
DEVICE_PROGRAMMED_GAUGE: Final = "serval_device_programmed"
"""For each version that needs a device for itself: the part of its programming that is done; 1 when it is."""
DEVICE_HEALTHY_GAUGE: Final = "serval_device_healthy"
"""For the same versions: 1 while the device is healthy, 0 while it is not."""
ENGINE_LABEL: Final = "engine"
"""Label of both: what programs and runs the device, one of `serval_contract.devices.ENGINES`."""
EMULATED_LABEL: Final = "emulated"
"""Label of both: ``true`` where no device is behind the engine, else ``false``."""
EMULATED_DEVICE: Final = "emulated"
"""Value of `DEVICE_LABEL` for a version whose device is emulated; `ACCELERATOR_GAUGE` is 0 then."""
