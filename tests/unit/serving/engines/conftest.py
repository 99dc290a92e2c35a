from __future__ import annotations

from unit.serving.server.conftest import models

__all__ = ["models"]
