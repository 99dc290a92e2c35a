"""Properties have no time limit for each example: that a machine is busy says nothing of the code.

The limit of a whole test stands in pyproject.toml.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("serval", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("serval")
