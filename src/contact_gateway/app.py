"""The composition root: the only module that imports all others."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

import structlog
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.routing import Mount, Route

from contact_gateway.access.client_address import TrustedProxies
from contact_gateway.access.counters import Counters
from contact_gateway.access.key_guessing import KeyGuessLimiter
from contact_gateway.access.rate_limits import HourlyRateLimit
from contact_gateway.contacts.source import (
    HIENERGY_FILTERS,
    OWN_FILTERS,
    KnownFilters,
    Source,
    SourceUnavailable,
)
from contact_gateway.faces.application import Application, Routes
from contact_gateway.faces.cross_origin import CrossOriginMiddleware
from contact_gateway.faces.graphql.endpoint import GraphQLEndpoint, explorer_assets
from contact_gateway.faces.graphql.limits import DocumentLimits
from contact_gateway.faces.graphql.schema import build_schema
from contact_gateway.faces.home import home_page
from contact_gateway.faces.http import service_unavailable
from contact_gateway.faces.json_body import BodyLimits
from contact_gateway.faces.mcp.lazy_endpoint import LazyMcpEndpoint
from contact_gateway.faces.request_context import CallerFactory, RequestContext
from contact_gateway.faces.rest.documents import Document
from contact_gateway.faces.rest.reference import reference_assets, rest_reference
from contact_gateway.faces.rest.routes import Resource, RestFace
from contact_gateway.server.process import tune_garbage_collector
from contact_gateway.server.protocol import IS_STOPPING
from contact_gateway.settings import Settings, load_settings
from contact_gateway.store import schema_version
from contact_gateway.store.database import Database, configured_database
from contact_gateway.store.group_commit import CommitObserver
from contact_gateway.store.ledger import SqlLedger
from contact_gateway.store.source import SqlSource
from contact_gateway.telemetry.logs import RequestLog, configure_logging
from contact_gateway.telemetry.metrics import Metrics, shared_folder
from contact_gateway.upstream.client import UpstreamClient
from contact_gateway.upstream.source import UpstreamSource
from contact_gateway.upstream.traits import Traits

if TYPE_CHECKING:
    from contact_gateway.telemetry.traces import Tracing

_log = structlog.get_logger(__name__)


def create_app(settings: Settings, metrics_folder: Path | None = None) -> Starlette:
    """Return the gateway as an ASGI application. It opens nothing before its startup.

    Its startup raises `SchemaNotCurrentError` if the database has another schema version. Several
    workers share their metrics in a folder.

    Raises:
        SettingsError: the environment names an unusable proxy for upstream, or an unusable
            exporter of traces.
    """
    counters = Counters(settings.rate_limit_url)
    metrics = Metrics(metrics_folder) if settings.metrics else None
    database = configured_database(settings, metrics)
    tracing = _tracing() if settings.traces else None
    truth: Truth[Source] = (
        _own_store(database, settings, metrics)
        if settings.upstream_url is None
        else hienergy(database, settings.upstream_url, settings, metrics, tracing)
    )

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        try:
            with _outages_logged():
                await schema_version.prepare(database)
            async with truth.opened(), nullcontext() if mcp is None else mcp.opened():
                yield
        finally:
            await counters.close()
            await database.close()
            if tracing is not None:
                tracing.close()

    body_limits = BodyLimits(
        settings.max_body_bytes, settings.body_timeout_seconds, settings.max_json_depth
    )
    proxies = TrustedProxies(settings.trusted_proxies)
    rest = RestFace(
        body_limits,
        truth.filters,
        proxies,
        passes_through=settings.upstream_url is not None and settings.upstream_pass_through,
    )
    graphql = GraphQLEndpoint(
        build_schema(
            DocumentLimits(
                tokens=settings.graphql_max_tokens,
                depth=settings.graphql_max_depth,
                aliases=settings.graphql_max_aliases,
                directives=settings.graphql_max_directives,
                mutations=settings.graphql_max_mutations,
                records=settings.graphql_max_records,
            ),
            introspection=settings.introspection,
        ),
        body_limits,
        explorer=settings.graphiql,
    )
    mcp = (
        LazyMcpEndpoint(body_limits, truth.filters, settings.cors_origins) if settings.mcp else None
    )
    callers = CallerFactory(
        truth.source,
        settings.max_batch_size,
        HourlyRateLimit(settings.rate_limit_per_hour, counters)
        if settings.rate_limit_per_hour
        else None,
        KeyGuessLimiter(settings.key_guesses_per_minute, counters)
        if settings.key_guesses_per_minute
        else None,
        proxies,
        settings.root_path,
    )
    operator_routes = [
        Route("/healthz", Resource(None, get=healthz)),
        Route("/readyz", Resource(None, get=_readyz(database, truth))),
        *([] if metrics is None else [Route("/metrics", Resource(None, get=metrics.metrics))]),
    ]
    has_admin_port = settings.admin_port is not None
    routes = [
        Route("/graphql", graphql),
        # HiEnergy's path of its own endpoint.
        Route("/api/v1/graphql", graphql),
        *([] if mcp is None else [Route("/mcp", mcp)]),
        *rest.routes(),
        *([Route("/docs", Resource(get=rest_reference))] if settings.rest_docs else []),
        *([] if has_admin_port else operator_routes),
    ]
    assets: list[Mount] = [
        *([explorer_assets()] if settings.graphiql else []),
        *([reference_assets()] if settings.rest_docs else []),
    ]
    served = {*(route.path for route in routes), *(mount.path for mount in assets)}
    routes.append(Route("/", Resource(None, get=home_page(served))))
    return Application(
        Routes([*routes, *assets], operator_routes if has_admin_port else ()),
        callers,
        [*([] if metrics is None else [metrics]), RequestLog()],
        middleware=[
            *([] if tracing is None else [Middleware(tracing.middleware)]),
            Middleware(CrossOriginMiddleware, origins=settings.cors_origins),
        ],
        lifespan=lifespan,
    )


@contextmanager
def _outages_logged() -> Iterator[None]:
    """Log that the database does not answer, and continue.

    A worker may start while a server restarts or fails over. Callers get 503 until it is back, as
    from the workers that were there before. `serve` has checked the database before all workers.
    """
    try:
        yield
    except SourceUnavailable as error:
        _log.warning("starting without the database, which does not answer", cause=error.reason)


def check_tracing(settings: Settings) -> None:
    """Check the variables of OpenTelemetry, if traces are switched on.

    Raises:
        SettingsError: one of them is unusable.
    """
    if settings.traces:
        _tracing().close()


def _tracing() -> "Tracing":
    # OpenTelemetry is installed with the extra `otel` only.
    from contact_gateway.telemetry.traces import Tracing  # noqa: PLC0415

    return Tracing()


SourceT_co = TypeVar("SourceT_co", bound=Source, covariant=True)


@dataclass(frozen=True, slots=True)
class Truth(Generic[SourceT_co]):
    """The source of truth of one gateway, and what belongs to it."""

    source: SourceT_co
    filters: KnownFilters
    opened: Callable[[], AbstractAsyncContextManager[None]]
    is_reached: Callable[[], Awaitable[bool]]


def _own_store(
    database: Database, settings: Settings, observer: CommitObserver | None
) -> Truth[SqlSource]:
    source = SqlSource(
        database,
        observer,
        settings.max_waiting,
        search_timeout_seconds=settings.search_timeout_seconds,
    )

    @asynccontextmanager
    async def opened() -> AsyncIterator[None]:
        with _outages_logged():
            await source.warn_of_expiring_keys()
        try:
            yield
        finally:
            await source.close()

    async def is_reached() -> bool:
        return True

    return Truth(source, OWN_FILTERS, opened, is_reached)


def hienergy(
    database: Database,
    url: str,
    settings: Settings,
    metrics: Metrics | None = None,
    tracing: "Tracing | None" = None,
) -> Truth[UpstreamSource]:
    """Return HiEnergy as the source of truth, with its ledger in the database."""
    ledger = SqlLedger(database, metrics, settings.max_waiting)
    client = UpstreamClient(
        url,
        timeout_seconds=settings.upstream_timeout_seconds,
        create_timeout_seconds=settings.upstream_create_timeout_seconds,
        max_connections=settings.upstream_max_connections,
        start_span=None if tracing is None else tracing.call,
    )
    traits = Traits(settings.upstream_refuses_duplicates, settings.upstream_honours_dry_run)
    source = UpstreamSource(
        client,
        ledger,
        traits,
        max_calls=settings.upstream_max_calls_per_request,
        observer=metrics,
    )

    @asynccontextmanager
    async def opened() -> AsyncIterator[None]:
        async with client:
            try:
                yield
            finally:
                await source.close()
                await ledger.close()

    return Truth(source, HIENERGY_FILTERS, opened, client.is_reachable)


def app_from_environment() -> Starlette:
    """Return the gateway of a worker process, configured by the environment."""
    settings = load_settings()
    configure_logging(settings.log_format)
    app = create_app(settings, shared_folder())
    tune_garbage_collector()
    return app


async def healthz(_request: Request, _context: RequestContext) -> Document:
    """Report that the process is alive."""
    return Document(200, {"status": "ok"})


def _readyz(
    database: Database, truth: Truth[Source]
) -> Callable[[Request, RequestContext], Awaitable[Document]]:
    async def readyz(request: Request, _context: RequestContext) -> Document:
        """Report whether the store answers with the current schema, and upstream answers."""
        if IS_STOPPING in request.scope.get("state", ()):
            raise service_unavailable(SourceUnavailable("the server is stopping"))
        if not await schema_version.is_ready(database):
            raise service_unavailable(SourceUnavailable("the store is not ready"))
        if not await truth.is_reached():
            raise service_unavailable(SourceUnavailable("upstream does not answer"))
        return Document(200, {"status": "ready"})

    return readyz
