"""Settings: their defaults, their limits, and the errors for invalid ones."""

import importlib.util
import re
from collections.abc import Mapping
from contextlib import suppress
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated, Final, Literal
from urllib.parse import SplitResult, urlsplit

import yarl
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from contact_gateway.database_url import DatabaseAddress, parse_database_url
from contact_gateway.extras import needs_extra
from contact_gateway.variables import PREFIX, SettingsError, Source, read_variables

_PRINTABLE_ASCII: Final = re.compile("[\x21-\x7e]+")
_ORIGIN: Final = re.compile(r"https?://[^/?#@\s\\*%]+", re.IGNORECASE)
# Of the web views and extensions of apps, such as `capacitor://localhost`. Pages from files have
# the origin `null`, as any sandboxed page has, so it is not accepted.
_APP_ORIGIN: Final = re.compile(
    r"(?!(?:file|https?):)[a-z][a-z0-9+.-]*://[a-z0-9._-]+(?::[0-9]{1,5})?"
)
_REDIS_PATH: Final = re.compile(r"/?[0-9]*")
_ROOT_PATH: Final = re.compile(r"(?:/[A-Za-z0-9._~-]+)*")


class LogFormat(StrEnum):
    """The format of log lines: JSON for programs, columns for people."""

    JSON = "json"
    CONSOLE = "console"


class Profile(StrEnum):
    """The environment the gateway runs in. It selects defaults."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


class Known(StrEnum):
    """What the operator knows about a behaviour that HiEnergy does not document."""

    UNKNOWN = "unknown"
    YES = "yes"
    NO = "no"


SECRETS: Final = frozenset({"database_url", "rate_limit_url"})
"""The settings whose values may contain a password. `…_FILE` may name a file with the value."""

# Pydantic's messages for them say the same twice.
_PARSING_ERRORS: Final = {
    "bool_parsing": "it must be true or false",
    "float_parsing": "it must be a number",
    "int_parsing": "it must be a whole number",
    "int_parsing_size": "it is too large",
}
_PRODUCTION_DEFAULTS: Final = {"graphiql": False, "introspection": False, "rest_docs": False}


def _root_path(text: str) -> str:
    path = text.rstrip("/")
    if not _ROOT_PATH.fullmatch(path):
        raise ValueError("it must be a path such as /gw, with letters, digits and ._~-")
    return path


def _database_url(text: str) -> str:
    parse_database_url(text)
    return text


def _upstream_url(text: str) -> str:
    return checked_base_url(text, example="https://app.hienergy.ai/api/v1")


def _rate_limit_url(text: str) -> str:
    try:
        url = urlsplit(text)
        is_valid = (
            url.scheme in {"redis", "rediss"}
            and bool(url.hostname)
            and url.port != 0
            and _REDIS_PATH.fullmatch(url.path) is not None
        )
    except ValueError:
        is_valid = False
    if not is_valid:
        raise ValueError("it must be a URL such as redis://HOST:6379/0, or rediss:// for TLS")
    _require_extra("redis", "redis")
    # The client comes with the optional extra `redis`.
    from redis.asyncio import ConnectionPool  # noqa: PLC0415

    try:
        pool = ConnectionPool.from_url(text)
        pool.connection_class(**pool.connection_kwargs)
    except (TypeError, ValueError):
        # The client's message may contain the password.
        raise ValueError("an option after ? is unknown or invalid; see redis-py") from None
    return text


def _networks(text: str) -> tuple[IPv4Network | IPv6Network | str, ...]:
    try:
        return tuple(each if each == "unix" else ip_network(each) for each in _split(text))
    except ValueError as error:
        raise ValueError(f"{error}; use a network such as 10.0.0.0/8, or unix") from None


def _origins(text: str) -> tuple[str, ...]:
    return tuple(map(_origin, _split(text)))


def _traces(value: object) -> object:
    if value:
        # The API of OpenTelemetry is there without the extra: other packages need it.
        _require_extra("otel", "opentelemetry.sdk")
    return value


def _split(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _origin(text: str) -> str:
    """Return an origin as browsers send it: in lower case and without a default port.

    Source: https://html.spec.whatwg.org/#ascii-serialisation-of-an-origin.
    """
    if text == "*":
        return text
    if _APP_ORIGIN.fullmatch(text.lower()):
        return text.lower()
    try:
        url = yarl.URL(text)
    except ValueError:
        url = yarl.URL()
    if not _ORIGIN.fullmatch(text.rstrip("/")) or not url.raw_host:
        raise ValueError(
            f"{text!r} is not an origin such as https://app.example.com. "
            "Write its scheme, its host, and its port if it has one."
        )
    host = f"[{url.raw_host}]" if ":" in url.raw_host else url.raw_host
    return f"{url.scheme}://{host}" + ("" if url.is_default_port() else f":{url.port}")


def _require_extra(extra: str, package: str) -> None:
    # Of a package within another, the outer one may be missing too.
    with suppress(ModuleNotFoundError):
        if importlib.util.find_spec(package) is not None:
            return
    raise ValueError(f"it {needs_extra(extra)}")


class Settings(BaseModel):
    """The gateway's settings. `load_settings` reads them from variables."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # Server
    host: str = Field(
        "127.0.0.1",
        description="Address to listen on: 0.0.0.0 for all of IPv4, :: for all of IPv4 and IPv6",
    )
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 selects a free one")
    admin_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description=(
            "Port of /healthz, /readyz and /metrics, which the other port then does not serve; "
            "0 selects a free one"
        ),
    )
    admin_host: str | None = Field(
        None, description="Address of the admin port; by default that of the other port"
    )
    profile: Profile = Field(
        Profile.DEVELOPMENT,
        description="`production` disables GraphiQL, introspection and /docs by default",
    )
    max_body_bytes: int = Field(
        65_536, ge=1, description="Maximum size of a request body, in bytes"
    )
    max_batch_size: int = Field(
        1000, ge=1, le=10_000, description="Maximum number of contacts that one request creates"
    )
    body_timeout_seconds: float = Field(
        30, gt=0, le=3600, description="Time in which a request body must arrive, in seconds"
    )
    max_json_depth: int = Field(
        32, ge=3, le=500, description="Maximum nesting depth of a JSON request body"
    )
    root_path: Annotated[str, AfterValidator(_root_path)] = Field(
        "", description="Path below which a proxy serves the gateway, such as /gw"
    )
    keep_alive_seconds: int = Field(
        75, ge=1, le=3600, description="Time after which an idle connection is closed, in seconds"
    )
    drain_seconds: float = Field(
        0,
        ge=0,
        le=3600,
        description=(
            "Time after SIGTERM in which /readyz is a 503 and requests are still served, in seconds"
        ),
    )
    shutdown_seconds: float = Field(
        40,
        gt=0,
        le=3600,
        validate_default=True,
        description="Time after SIGTERM in which the server ends, in seconds",
    )

    # Database
    database_url: Annotated[str, AfterValidator(_database_url)] = Field(
        "sqlite+aiosqlite:///contact-gateway.sqlite3",
        description=(
            "Database of the gateway: sqlite+aiosqlite:///FILE, or "
            "postgresql://USER@HOST:5432/DATABASE with libpq's options"
        ),
    )
    database_connections: int = Field(
        8,
        ge=3,
        le=1000,
        description="Maximum number of connections to PostgreSQL, for each worker",
    )
    database_prepared_statements: bool = Field(
        default=True,
        description=(
            "Whether statements are prepared in PostgreSQL; `false` behind a pooler that cannot "
            "track them"
        ),
    )
    max_waiting: int = Field(
        4096,
        ge=1,
        description="Maximum number of creations queued for the database, for each worker",
    )
    search_timeout_seconds: float = Field(
        2,
        gt=0,
        le=5,
        description="Time that the database may take for a search, in seconds",
    )

    # HiEnergy
    upstream_url: Annotated[str, AfterValidator(_upstream_url)] | None = Field(
        None,
        description=(
            "Base URL of HiEnergy's API, used instead of the database: "
            "https://app.hienergy.ai/api/v1"
        ),
    )
    upstream_timeout_seconds: float = Field(
        10,
        gt=0,
        le=300,
        description="Timeout of a read from HiEnergy's API with its retries, in seconds",
    )
    upstream_create_timeout_seconds: float = Field(
        60,
        gt=0,
        le=600,
        description="Timeout of a creation sent to HiEnergy's API, in seconds",
    )
    upstream_refuses_duplicates: Known = Field(
        Known.UNKNOWN,
        description=(
            "Whether HiEnergy refuses or absorbs a second creation of the same address: `yes`, "
            "`no` or `unknown`. With `yes` the gateway does not look for the address first, and "
            "sends a creation again after a lost answer"
        ),
    )
    upstream_honours_dry_run: Known = Field(
        Known.UNKNOWN,
        description=(
            "Whether HiEnergy's `POST /contacts?dry_run=true` creates nothing: `yes`, `no` or "
            "`unknown`. Only with `yes` are dry runs forwarded"
        ),
    )
    upstream_pass_through: bool = Field(
        default=True,
        description="Whether reads of HiEnergy's other operations are passed through",
    )
    upstream_max_calls_per_request: int = Field(
        100,
        # One creation may need 30.
        ge=30,
        le=10_000,
        description="Maximum number of calls to HiEnergy's API for one request",
    )
    upstream_max_connections: int = Field(
        100,
        ge=1,
        le=10_000,
        description="Maximum number of connections to HiEnergy's API, for each worker",
    )

    # Access and limits
    rate_limit_per_hour: int = Field(
        10_000, ge=0, description="Operations allowed for each API key in an hour; 0 for no limit"
    )
    rate_limit_url: Annotated[str, AfterValidator(_rate_limit_url)] | None = Field(
        None,
        description=(
            "Redis-compatible server on which all workers and hosts share their counts: "
            "redis://HOST:6379/0"
        ),
    )
    key_guesses_per_minute: int = Field(
        100,
        ge=0,
        description="Wrong API keys an address may send in a minute; 0 for no limit",
    )
    trusted_proxies: Annotated[
        tuple[IPv4Network | IPv6Network | Literal["unix"], ...], BeforeValidator(_networks)
    ] = Field(
        (),
        description=(
            "Networks of proxies whose X-Forwarded-… headers are trusted, comma-separated; "
            "`unix` for those that connect to a Unix socket"
        ),
    )

    # GraphQL
    graphql_max_tokens: int = Field(
        1000, ge=1, le=100_000, description="Maximum number of tokens in a document"
    )
    graphql_max_depth: int = Field(
        10, ge=1, le=100, description="Maximum nesting depth of fields in a document"
    )
    graphql_max_aliases: int = Field(
        15, ge=0, description="Maximum number of aliased or repeated fields in a document"
    )
    graphql_max_directives: int = Field(
        50, ge=0, description="Maximum number of directives in a document"
    )
    graphql_max_mutations: int = Field(
        10, ge=1, description="Maximum number of mutation fields in a document"
    )
    graphql_max_records: int = Field(
        2_500, ge=1, description="Maximum number of records in the result of a document"
    )
    graphiql: bool = Field(default=True, description="Whether /graphql serves GraphiQL to browsers")
    introspection: bool = Field(default=True, description="Whether clients may read the schema")

    # MCP
    mcp: bool = Field(default=True, description="Whether /mcp serves agents over MCP")

    # Browsers
    rest_docs: bool = Field(
        default=True, description="Whether /docs serves the reference of the REST API to browsers"
    )
    cors_origins: Annotated[tuple[str, ...], BeforeValidator(_origins)] = Field(
        (), description="Origins of web pages that may call the gateway, comma-separated"
    )

    # Logs and telemetry
    log_format: LogFormat | None = Field(
        None, description="`console` or `json`; by default `console` in a terminal, else `json`"
    )
    metrics: bool = Field(
        default=False, description="Whether /metrics serves Prometheus metrics, without a key"
    )
    traces: Annotated[bool, AfterValidator(_traces)] = Field(
        default=False,
        description="Whether OpenTelemetry traces are sent, as the OTEL_… variables configure",
    )

    @property
    def database(self) -> DatabaseAddress:
        """What the database URL names."""
        return parse_database_url(self.database_url)

    @model_validator(mode="before")
    @classmethod
    def _apply_profile(cls, given: dict[str, object]) -> dict[str, object]:
        if str(given.get("profile", "")).lower() != Profile.PRODUCTION:
            return given
        return {**_PRODUCTION_DEFAULTS, **given}

    @field_validator("admin_host")
    @classmethod
    def _check_admin_host(cls, host: str | None, info: ValidationInfo) -> str | None:
        # Otherwise the public port would serve what the operator wants to hide. An invalid port has
        # an error of its own, and is not in the data.
        if host is not None and info.data.get("admin_port", host) is None:
            raise ValueError(f"it needs {PREFIX}ADMIN_PORT")
        return host

    @field_validator("shutdown_seconds")
    @classmethod
    def _check_shutdown(cls, seconds: float, info: ValidationInfo) -> float:
        drain = info.data.get("drain_seconds", 0)
        if seconds <= drain:
            raise ValueError(f"it must be more than {PREFIX}DRAIN_SECONDS, which is {drain:g}")
        return seconds


def is_loopback(url: SplitResult) -> bool:
    """Return whether the host of a URL is this machine."""
    host = url.hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def shown_value(settings: Settings, name: str) -> str | int | float | bool | list[str] | None:
    """Return the value of a setting for people and for JSON, without passwords."""
    value: object = getattr(settings, name)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, tuple):
        return [str(item) for item in value]
    if name not in SECRETS:
        return str(value)
    # The credentials of a URL, and the values of its query.
    address, mark, query = re.sub(r"(?<=://)[^/?#]*@", "***@", str(value)).partition("?")
    return address + mark + re.sub(r"(?<==)[^&#]+", "***", query)


def checked_base_url(text: str, *, example: str) -> str:
    """Return the base URL of an API without a slash at its end.

    Raises:
        ValueError: it is not the URL of one, or an API key would be sent to it in the clear.
    """
    try:
        url = urlsplit(text)
        is_valid_port = url.port is None or url.port > 0
        (url.hostname or "").encode("idna")
    except ValueError:
        raise ValueError(f"not a URL; use {example}") from None
    if not url.hostname or not is_valid_port or not _PRINTABLE_ASCII.fullmatch(text):
        raise ValueError(f"it must be a URL such as {example}")
    if url.username is not None or url.password is not None:
        raise ValueError("remove the credentials; each caller sends its own API key")
    if "?" in text or "#" in text:
        raise ValueError("remove the query and the fragment; the URL ends with its path")
    if url.scheme != "https" and not (url.scheme == "http" and is_loopback(url)):
        raise ValueError("it must start with https:// unless the host is this machine")
    return text.rstrip("/")


def load_settings() -> Settings:
    """Return the settings of the environment and of the working directory's `.env` file.

    Raises:
        SettingsError: a setting is unknown or invalid.
    """
    settings, _ = load_settings_with_sources()
    return settings


def load_settings_with_sources() -> tuple[Settings, Mapping[str, Source]]:
    """Return the settings as `load_settings` does, and the source of each that is not a default."""
    variables = read_variables(Settings.model_fields, SECRETS)
    try:
        settings = Settings.model_validate(
            {name: variable.value for name, variable in variables.items()}
        )
    except ValidationError as error:
        lines = []
        for detail in error.errors(include_url=False, include_input=False):
            setting = str(detail["loc"][0])
            # A default can be invalid beside the value of another setting.
            is_given = setting in variables
            name = variables[setting].name if is_given else f"{PREFIX}{setting.upper()}"
            text = _PARSING_ERRORS.get(detail["type"], detail["msg"].removeprefix("Value error, "))
            lines.append(f"{name}: {text.replace('Input should be', 'it must be')}")
        raise SettingsError("\n".join(lines)) from None
    return settings, {name: variable.source for name, variable in variables.items()}
