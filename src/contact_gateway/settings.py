"""The settings: where they come from, what they may be, and what is said of a wrong one."""

import importlib.util
import ipaddress
import os
import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Final
from urllib.parse import SplitResult, urlsplit

from dotenv import dotenv_values
from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from contact_gateway.access.client_address import Network
from contact_gateway.faces.graphql.limits import DocumentLimits
from contact_gateway.store.group_commit import MAX_QUEUED
from contact_gateway.store.sqlite import UnsupportedDatabaseError, sqlite_url

PREFIX: Final = "CONTACT_GATEWAY_"
_DOCUMENT: Final = DocumentLimits()
_ENV_FILE: Final = ".env"
_VISIBLE: Final = re.compile("[\x21-\x7e]+")
_ORIGIN: Final = re.compile(r"https?://[^/?#@\s]+")


class LogFormat(StrEnum):
    """How a log line is written: as JSON for machines, or in columns for people."""

    JSON = "json"
    CONSOLE = "console"


class Profile(StrEnum):
    """For whom the gateway runs: those who build on it, or anybody on the internet."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


_IN_PRODUCTION: Final = {"graphiql": False, "introspection": False}
"""What is otherwise in production, unless it is set."""


class SettingsError(ValueError):
    """A setting is unknown or cannot be read. The message names it and says what is wrong."""


class Settings(BaseSettings):
    """What an operator can set, in the environment or in a `.env` file, by `CONTACT_GATEWAY_…`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=_ENV_FILE, extra="ignore", frozen=True
    )

    database_url: str = Field(
        "sqlite+aiosqlite:///contact-gateway.sqlite3",
        description="Where contacts are kept: sqlite+aiosqlite:///FILE",
    )
    upstream_url: str | None = Field(
        None,
        description=(
            "HiEnergy's API, to be the source of truth instead of the database: "
            "https://app.hienergy.ai/api/v1"
        ),
    )
    upstream_timeout_seconds: float = Field(
        10, gt=0, le=300, description="How long a call of HiEnergy's API may take, in seconds"
    )
    upstream_max_connections: int = Field(
        100, ge=1, le=10_000, description="Connections to HiEnergy's API at most"
    )
    profile: Profile = Field(
        Profile.DEVELOPMENT,
        description="`production` turns GraphiQL and introspection off, unless they are set",
    )
    max_waiting: int = Field(
        MAX_QUEUED, ge=1, description="Creations that wait to be written at most, for each worker"
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Origins of browser pages that may call the gateway, comma-separated"
    )
    rate_limit_per_hour: int = Field(
        10_000, ge=0, description="Operations an API key may do in an hour; 0 means no limit"
    )
    rate_limit_url: str | None = Field(
        None,
        description=(
            "A server of Redis's protocol on which all hosts count together: redis://HOST:6379/0"
        ),
    )
    key_guesses_per_minute: int = Field(
        100, ge=0, description="Wrong API keys that an address may present in a minute; 0: any"
    )
    trusted_proxies: Annotated[tuple[Network, ...], NoDecode] = Field(
        (),
        description="Networks of proxies that tell the caller's address, comma-separated",
    )
    max_body_bytes: int = Field(
        65_536, ge=1, description="The largest request body that is read, in bytes"
    )
    body_timeout_seconds: float = Field(
        30, gt=0, le=3600, description="How long a request body may take to arrive, in seconds"
    )
    max_json_depth: int = Field(
        32, ge=3, le=500, description="How deep the values of a JSON body may be nested"
    )
    graphql_max_tokens: int = Field(
        _DOCUMENT.tokens,
        ge=1,
        le=100_000,
        description="Words and signs of a GraphQL document at most",
    )
    graphql_max_depth: int = Field(
        _DOCUMENT.depth, ge=1, le=100, description="Fields within fields of a document at most"
    )
    graphql_max_aliases: int = Field(
        _DOCUMENT.aliases,
        ge=0,
        description="Fields of a document under another name, or again, at most",
    )
    graphql_max_directives: int = Field(
        _DOCUMENT.directives, ge=0, description="Directives of a document at most"
    )
    graphql_max_mutations: int = Field(
        _DOCUMENT.mutations,
        ge=1,
        description="Fields of a mutation at most: contacts created by one request",
    )
    graphiql: bool = Field(default=True, description="Whether browsers get GraphiQL at /graphql")
    introspection: bool = Field(
        default=True, description="Whether GraphQL clients may read the schema"
    )
    metrics: bool = Field(
        default=False, description="Whether /metrics shows metrics for Prometheus, to anybody"
    )
    traces: bool = Field(
        default=False, description="Whether traces are sent, as the OTEL_… variables say"
    )
    log_format: LogFormat | None = Field(
        None, description="`console` or `json`; by itself `console` in a terminal, else `json`"
    )

    @model_validator(mode="before")
    @classmethod
    def _apply_profile(cls, given: dict[str, object]) -> dict[str, object]:
        if str(given.get("profile", "")).lower() != Profile.PRODUCTION:
            return given
        return {**_IN_PRODUCTION, **given}

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split_origins(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(origin.strip().rstrip("/") for origin in value.split(",") if origin.strip())

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is not an origin such as https://app.example.com")
        return origins

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _read_networks(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        texts = [text.strip() for text in value.split(",") if text.strip()]
        try:
            return tuple(ipaddress.ip_network(text) for text in texts)
        except ValueError as error:
            raise ValueError(f"{error}; a network such as 10.0.0.0/8 is expected") from None

    @field_validator("rate_limit_url")
    @classmethod
    def _check_rate_limit_url(cls, text: str | None) -> str | None:
        if text is None:
            return None
        if not text.startswith(("redis://", "rediss://")) or not urlsplit(text).hostname:
            raise ValueError("it must be a URL such as redis://HOST:6379/0, or rediss:// for TLS")
        if importlib.util.find_spec("redis") is None:
            raise ValueError("it needs the extra `redis`: pip install 'contact-gateway[redis]'")
        return text

    @field_validator("traces")
    @classmethod
    def _check_traces(cls, value: object) -> object:
        if value and importlib.util.find_spec("opentelemetry") is None:
            raise ValueError("it needs the extra `otel`: pip install 'contact-gateway[otel]'")
        return value

    @field_validator("upstream_url")
    @classmethod
    def _check_upstream_url(cls, text: str | None) -> str | None:
        if text is None:
            return None
        try:
            url = urlsplit(text)
            port_is_fine = url.port is None or url.port > 0
            (url.hostname or "").encode("idna")
        except ValueError:
            raise ValueError("it is not a URL") from None
        if not url.hostname or not port_is_fine or not _VISIBLE.fullmatch(text):
            raise ValueError("it must be a URL such as https://app.hienergy.ai/api/v1")
        if url.username is not None or url.password is not None:
            raise ValueError("it must hold no credential: each caller sends their own")
        if "?" in text or "#" in text:
            raise ValueError("it must end with the path, without query and fragment")
        if url.scheme != "https" and not (url.scheme == "http" and _is_loopback(url)):
            raise ValueError("it must begin with https:// unless the host is this machine")
        return text.rstrip("/")

    @field_validator("database_url")
    @classmethod
    def _check_database_url(cls, text: str) -> str:
        try:
            sqlite_url(text)
        except UnsupportedDatabaseError as error:
            raise ValueError(str(error)) from None
        return text


def _is_loopback(url: SplitResult) -> bool:
    host = url.hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def load_settings() -> Settings:
    """Read the settings from the environment and the `.env` file of the working directory.

    Raises:
        SettingsError: one is unknown or cannot be read.
    """
    try:
        _refuse_unknown((*os.environ, *dotenv_values(_ENV_FILE)))
        return Settings()
    except UnicodeDecodeError:
        raise SettingsError(f"{_ENV_FILE}: the file is not in UTF-8") from None
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        raise SettingsError(
            "\n".join(
                f"{PREFIX}{str(detail['loc'][0]).upper()}: "
                + detail["msg"].removeprefix("Value error, ")
                for detail in details
            )
        ) from None


def _refuse_unknown(names: Iterable[str]) -> None:
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    unknown = sorted(
        name for name in names if name.upper().startswith(PREFIX) and name.upper() not in known
    )
    if unknown:
        raise SettingsError(
            f"{unknown[0]} is not a setting. The settings are {', '.join(sorted(known))}."
        )
