"""Tests of the operator."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def tidy() -> Iterator[None]:
    """Collect kopf's failed tasks at the end of each file.

    asyncio logs a failed task, with its traceback, when the task is collected, wherever that happens: even
    inside the parser that a traceback needs, which Python 3.11 answers with a SystemError.
    """
    yield
    gc.collect()
