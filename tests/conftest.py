"""Fixtures for all tests: a gateway, an upstream API, the log and a clock."""

import io
import logging
import shutil
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Final

import pytest
import structlog
from hypothesis import HealthCheck, is_hypothesis_test
from hypothesis import settings as hypothesis_settings

from contact_gateway.faces.graphql import schema
from contact_gateway.settings import LogFormat
from contact_gateway.store import postgresql, sqlite
from contact_gateway.telemetry.logs import configure_logging
from support.clock import ManualClock
from support.databases import Engine, databases_on
from support.gateway import Gateway, running_gateway
from support.process import GatewayProcess, gateway_process
from support.programs import skip_or_fail
from support.upstream import UpstreamGateway, upstream_gateway

# Examples may take as long as they take: the machine may be busy.
hypothesis_settings.register_profile(
    "tests", deadline=None, suppress_health_check=list(HealthCheck)
)
hypothesis_settings.load_profile("tests")

# The tests may run under `nohup` or in the background of a script. The processes that they start
# would inherit the signals that these ignore.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)

# Strawberry builds the schema in 20 ms, more than all else that a gateway does to start.
schema.strawberry_schema = cache(schema.strawberry_schema)

# By default, structlog formats a traceback with the values of all variables, for seconds.
structlog.configure(
    processors=[
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(default=repr),
    ]
)


# Where the code depends on the database system.
_MEASURED_ON_BOTH: Final = {"store", "command_line"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Measure no coverage, which doubles the CPU time of a test, where it shows nothing.

    The second database system runs the same lines again, and generated inputs run what they happen
    to run.
    """
    for item in items:
        if not isinstance(item, pytest.Function):
            continue
        folder = item.path.relative_to(item.config.rootpath).parts[1]
        callspec = getattr(item, "callspec", None)
        is_again = callspec is not None and "postgresql" in callspec.id.lower()
        if (is_again and folder not in _MEASURED_ON_BOTH) or is_hypothesis_test(item.obj):
            item.add_marker(pytest.mark.no_cover)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=list(Engine), ids=str)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Run the test once for each database system."""
    with databases_on(request.param):
        yield request.param


@pytest.fixture(params=list(Engine), ids=str, scope="module")
def engine_of_module(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Run the tests of a module once for each database system, each time on one database."""
    with databases_on(request.param):
        yield request.param


@pytest.fixture
async def new_gateway(
    tmp_path: Path,
    engine: Engine,  # noqa: ARG001 - of this engine
) -> AsyncIterator[Gateway]:
    """Return a gateway of the test alone, which has counted and cached nothing."""
    async with running_gateway(tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
async def gateway_of_module(
    tmp_path_factory: pytest.TempPathFactory,
    engine_of_module: Engine,  # noqa: ARG001 - of this engine
) -> AsyncIterator[Gateway]:
    """Return one gateway for the tests of a module, whose wrong keys together are no attack."""
    folder = tmp_path_factory.mktemp("gateway")
    async with running_gateway(folder, key_guesses_per_minute=10_000) as running:
        yield running


@pytest.fixture
async def gateway(gateway_of_module: Gateway) -> Gateway:
    """Return the gateway of the module, without contacts."""
    await gateway_of_module.delete_contacts()
    return gateway_of_module


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
        skip_or_fail("curl is missing; the examples with it are not run")


@pytest.fixture(scope="session")
def shared_upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UpstreamGateway]:
    """Run one gateway process as the upstream API of many tests."""
    with ExitStack() as stack:
        # The first test may be of another engine, whose databases are dropped with its module.
        with databases_on(Engine.SQLITE):
            folder = tmp_path_factory.mktemp("upstream")
            running = stack.enter_context(upstream_gateway(folder))
        yield running


@pytest.fixture
def upstream(shared_upstream: UpstreamGateway) -> UpstreamGateway:
    """Return the shared upstream API, without contacts."""
    shared_upstream.delete_contacts()
    return shared_upstream


@pytest.fixture
def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    """Stop the monotonic clock, and with it the event loop's timers, until the test moves it."""
    clock = ManualClock(time.monotonic())
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Return the log: JSON, one line an event."""
    root = logging.getLogger()
    before = root.handlers, root.level, structlog.get_config()
    lines = io.StringIO()
    configure_logging(LogFormat.JSON, lines)
    yield lines
    root.handlers, root.level, log_settings = before
    structlog.configure(**log_settings)


@pytest.fixture
def impatient_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """Report a locked database after 50 ms."""
    begin = f"{postgresql._BEGIN_WRITE}; SET LOCAL lock_timeout='50ms'"  # noqa: SLF001 - likewise
    monkeypatch.setattr(postgresql, "_BEGIN_WRITE", begin)
    pragmas = tuple(
        "busy_timeout=50" if pragma.startswith("busy_timeout") else pragma
        for pragma in sqlite._WRITER_PRAGMAS  # noqa: SLF001 - the wait is too long for a test
    )
    monkeypatch.setattr(sqlite, "_WRITER_PRAGMAS", pragmas)
