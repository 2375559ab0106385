"""A gateway process for tests that write to sockets."""

from collections.abc import Iterator

import pytest

from support.process import GatewayProcess, gateway_process


@pytest.fixture(scope="session")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Return a gateway process that no test stops."""
    with gateway_process(tmp_path_factory.mktemp("server")) as process:
        yield process
