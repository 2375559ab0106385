"""What every test may ask for: a gateway over a real store, with a catalogue and keys."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from running_gateway import Gateway, running_gateway


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running_gateway(tmp_path) as running:
        yield running
