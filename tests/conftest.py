"""What every test may ask for: a gateway over a real store, or in front of another one."""

import io
import logging
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog

from contact_gateway.settings import LogFormat
from contact_gateway.store import sqlite
from contact_gateway.telemetry.logs import configure_logging
from support.chained_gateways import UpstreamGateway, upstream_gateway
from support.gateway_process import GatewayProcess, gateway_process
from support.missing_programs import cannot_be_run
from support.running_gateway import Gateway, running_gateway


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running_gateway(tmp_path) as running:
        yield running


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the working directory of the demo."""
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="session")
def demo(demo_folder: Path) -> Iterator[GatewayProcess]:
    """Return the demo, started as the README says, for the examples of the documentation."""
    root = Path(__file__).parents[1]
    file = demo_folder / "contact-gateway.sqlite3"
    with gateway_process(
        demo_folder,
        "--demo",
        environment={"CONTACT_GATEWAY_DATABASE_URL": f"sqlite+aiosqlite:///{file}"},
        command=(str(root / "scripts" / "serve"),),
    ) as process:
        yield process


@pytest.fixture
def curl() -> None:
    """Skip where curl is missing."""
    if shutil.which("curl") is None:
        cannot_be_run("curl is missing; the examples with it are not run")


@pytest.fixture(scope="session")
def shared_upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UpstreamGateway]:
    """Return a gateway process that is upstream for many tests."""
    with upstream_gateway(tmp_path_factory.mktemp("upstream")) as running:
        yield running


@pytest.fixture
def upstream(shared_upstream: UpstreamGateway) -> UpstreamGateway:
    """Return that process, without contacts."""
    shared_upstream.forget_contacts()
    return shared_upstream


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Return what is logged, as JSON, a line an event."""
    root = logging.getLogger()
    before = root.handlers, root.level
    lines = io.StringIO()
    configure_logging(LogFormat.JSON, lines)
    yield lines
    root.handlers, root.level = before
    structlog.reset_defaults()


@pytest.fixture
def impatient_store(monkeypatch: pytest.MonkeyPatch) -> None:
    pragmas = tuple(
        "busy_timeout=50" if pragma.startswith("busy_timeout") else pragma
        for pragma in sqlite._WRITER_PRAGMAS  # noqa: SLF001 - the wait is too long for a test
    )
    monkeypatch.setattr(sqlite, "_WRITER_PRAGMAS", pragmas)
