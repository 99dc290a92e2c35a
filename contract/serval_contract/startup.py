"""Words by which the operator recognizes that a server ended because its model cannot be loaded.

They are TensorFlow Serving's; Serval's own server ends with the same ones.
"""

from __future__ import annotations

from typing import Final

START_FAILED: Final = "Failed to start server"
NOT_AVAILABLE: Final = "did not become available"
LOAD_FAILED: Final = (NOT_AVAILABLE, START_FAILED)
"""The last lines of a server that cannot load its model begin with one that holds one of these."""
