from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from serval_operator.runtime.authentication import Connection, Credentials
from support.apiserver import Script, scripted
from support.ports import free_port


@pytest.fixture
async def script() -> AsyncIterator[Script]:
    async with scripted() as script:
        yield script


@pytest.fixture
def connection(script: Script) -> Connection:
    return Connection(script.url, True, Credentials(lambda: "Bearer abc", renewable=False))


@pytest.fixture
def unused_tcp_port() -> int:
    """A port that no other test process takes; that of pytest-asyncio is from the kernel's own range."""
    return free_port()
