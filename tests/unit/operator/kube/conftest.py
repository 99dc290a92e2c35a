from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from serval_operator.runtime.authentication import Connection, Credentials
from support.apiserver import Script, scripted


@pytest.fixture
async def script() -> AsyncIterator[Script]:
    async with scripted() as script:
        yield script


@pytest.fixture
def connection(script: Script) -> Connection:
    return Connection(script.url, True, Credentials(lambda: "Bearer abc", renewable=False))
