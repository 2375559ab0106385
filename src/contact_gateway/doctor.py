"""Checks of all that a gateway needs, without serving and without changing anything."""

import os
import shutil
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path
from typing import Final, NamedTuple

from sqlalchemy import Connection, func, select

from contact_gateway.contacts.source import SourceUnavailable
from contact_gateway.database_url import SqliteFile
from contact_gateway.settings import Settings
from contact_gateway.store import schema_version, text_index
from contact_gateway.store.database import Database, configured_database
from contact_gateway.store.database_file import exists
from contact_gateway.store.sqlite import has_wal_reset_bug
from contact_gateway.upstream.calls import Call, UpstreamUnavailable, unexpected
from contact_gateway.upstream.client import UpstreamClient
from contact_gateway.variables import SettingsError

_MIN_FREE_BYTES: Final = 100 * 1024 * 1024
_MAX_CLOCK_ERROR_SECONDS: Final = 60
_REDIS_TIMEOUT_SECONDS: Final = 2
_DATABASE: Final = "Database"
_MEBIBYTE: Final = 1024 * 1024
_REFUSALS_WITHOUT_KEY: Final = frozenset(
    {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS}
)


class State(StrEnum):
    """The result of a check. A warning does not keep the gateway from working."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


class Check(NamedTuple):
    """What was checked, what was found, and what to do about it if it is not ok."""

    name: str
    state: State
    found: str
    remedy: str | None = None


async def examine(settings: Settings) -> tuple[Check, ...]:
    """Return the results of all checks, in the order of a start."""
    if isinstance(settings.database, SqliteFile):
        file = Path(settings.database.path)
        folder, missing = _folder_of(file), _missing(file)
        checks = [
            _sqlite(),
            *(await _database(settings) if missing is None else (missing,)),
            *_permissions(file, folder),
            _disk(folder),
            _clock(file),
        ]
    else:
        checks = [*await _database(settings), _clock()]
    if settings.upstream_url is not None:
        checks += await _upstream(settings, settings.upstream_url)
    if settings.rate_limit_url is not None:
        checks.append(await _redis(settings.rate_limit_url))
    return tuple(checks)


def _sqlite() -> Check:
    found = f"SQLite {sqlite3.sqlite_version}"
    if not has_wal_reset_bug():
        return Check("SQLite", State.OK, found)
    found += " has the WAL-reset bug (https://sqlite.org/wal.html#walresetbug)"
    return Check("SQLite", State.WARNING, found, "Use one worker, or SQLite 3.51.3 or newer.")


def _missing(file: Path) -> Check | None:
    """Return the check of a database that does not exist; None if it does."""
    try:
        if exists(file):
            return None
        folder = Path(os.path.realpath(file)).parent
        has_folder = folder.is_dir()
    except FileNotFoundError:
        found = "the working directory was deleted, perhaps by a deployment"
        return Check(_DATABASE, State.FAILED, found, "Start the gateway in another one.")
    except OSError:
        # Opening the database says why.
        return None
    if has_folder:
        found = f"{file} does not exist; the first start creates it"
        return Check(_DATABASE, State.OK, found)
    remedy = "Create it, or set CONTACT_GATEWAY_DATABASE_URL to another file."
    return Check(_DATABASE, State.FAILED, f"the folder {folder} does not exist", remedy)


async def _database(settings: Settings) -> tuple[Check, ...]:
    database = configured_database(settings)
    try:
        return (
            await _schema(database),
            *_compared_clock("the database server", await database.read(_seconds_ahead)),
        )
    except SourceUnavailable as error:
        # It begins with the name of the database.
        found = f"cannot be read: {error.reason}"
        remedy = "Correct CONTACT_GATEWAY_DATABASE_URL, start its server, or restore its file."
        return (Check(_DATABASE, State.FAILED, found, remedy),)
    finally:
        await database.close()


async def _schema(database: Database) -> Check:
    """Check what a database has, and that its server can be written."""
    name, label = _DATABASE, database.address.label
    revision, newest = await schema_version.revision(database), schema_version.newest_revision()
    if revision is None:
        if not await database.read(schema_version.may_create_tables):
            remedy = "As a superuser, make the user of CONTACT_GATEWAY_DATABASE_URL its owner."
            found = f"{label} is empty, and the user may not create tables in it"
            return Check(name, State.FAILED, found, remedy)
        found = f"{label} is empty; the first start creates its tables"
        if await database.read(text_index.can_exist):
            return Check(name, State.OK, found)
        remedy = (
            "Install PostgreSQL's additional modules (contrib) before, so that searches for text "
            "have an index."
        )
        return Check(name, State.WARNING, f"{found}, but the server lacks pg_trgm", remedy)
    if revision != newest:
        found = f"{label} is at revision {revision}, and this version needs {newest}"
        remedy = "Run `contact-gateway migrate`."
        if revision > newest:
            remedy = "A newer version created it. Upgrade contact-gateway."
        return Check(name, State.FAILED, found, remedy)
    # The permissions of a file are a check of their own.
    if not isinstance(database.address, SqliteFile) and not await database.can_write():
        remedy = (
            "Set CONTACT_GATEWAY_DATABASE_URL to the primary server, and to the user that owns the "
            "tables. See whether the server's synchronous standbys are connected."
        )
        return Check(name, State.FAILED, f"{label} cannot be written", remedy)
    if not await database.read(text_index.is_complete):
        found = f"{label} is at revision {revision}, and has no index for text"
        remedy = "Run `CREATE EXTENSION pg_trgm` as a superuser, then `contact-gateway migrate`."
        return Check(name, State.WARNING, found, remedy)
    return Check(name, State.OK, f"{label} is at revision {revision}")


def _folder_of(file: Path) -> Path:
    """Return where SQLite creates its write-ahead log: beside the file that a link leads to."""
    with suppress(FileNotFoundError):
        return Path(os.path.realpath(file)).parent
    return file.parent


def _permissions(file: Path, folder: Path) -> Iterator[Check]:
    name = "Permissions"
    needed = ((file, os.W_OK), (folder, os.W_OK | os.X_OK))
    unwritable = [path for path, mode in needed if _exists(path) and not os.access(path, mode)]
    if unwritable:
        remedy = "Give write permission to the user that runs the gateway."
        yield Check(name, State.FAILED, f"{unwritable[0]} cannot be written", remedy)
    elif _exists(file) and file.stat().st_mode & stat.S_IROTH:
        remedy = f"Run `chmod o= {file}`: it holds names and addresses as plain text."
        yield Check(name, State.WARNING, f"every user can read {file}", remedy)
    elif _exists(folder):
        yield Check(name, State.OK, f"{file} can be written")


def _exists(path: Path) -> bool:
    # Before Python 3.14, Path.exists() raises an error for a folder without rights.
    return os.access(path, os.F_OK)


def _disk(folder: Path) -> Check:
    name = "Disk space"
    try:
        folder = folder.absolute()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        remedy = "See whether the folder exists, and whether its disk is mounted."
        return Check(name, State.FAILED, f"{folder}: {error.strerror}", remedy)
    found = f"{free // _MEBIBYTE} MiB are free in {folder}"
    if free < _MIN_FREE_BYTES:
        return Check(name, State.FAILED, found, "Make room: with a full disk, creations are a 503.")
    return Check(name, State.OK, found)


def _clock(*files: Path) -> Check:
    """Compare the clock with the last changes of some files and of this code."""
    known = (path for path in (*files, Path(__file__)) if _exists(path))
    behind = max(path.stat().st_mtime for path in known) - time.time()
    if behind <= _MAX_CLOCK_ERROR_SECONDS:
        return Check("Clock", State.OK, time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()))
    found = f"the clock is {behind:.0f} s behind the last change of a file"
    remedy = "Synchronise it: keys would expire and limits end at the wrong time."
    return Check("Clock", State.FAILED, found, remedy)


async def _upstream(settings: Settings, url: str) -> tuple[Check, ...]:
    """Check that HiEnergy's API is at a URL: it refuses a list without a key."""
    name = "Upstream"
    try:
        async with UpstreamClient(
            url, timeout_seconds=settings.upstream_timeout_seconds, max_connections=1
        ) as client:
            response, ahead = await client.send(Call("GET", "contacts")), client.clock_ahead()
        if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise unexpected(response)
    except SettingsError as error:
        return (Check(name, State.FAILED, str(error), "Correct the proxy's variable."),)
    except UpstreamUnavailable as error:
        remedy = "See CONTACT_GATEWAY_UPSTREAM_URL, HTTPS_PROXY, NO_PROXY and SSL_CERT_FILE."
        return (Check(name, State.FAILED, f"{url}: {error.reason}", remedy),)
    if response.status not in _REFUSALS_WITHOUT_KEY:
        found = f"{url}/contacts is answered with {response.status}, not with 401"
        remedy = "For HiEnergy the URL is https://app.hienergy.ai/api/v1."
        return (Check(name, State.WARNING, found, remedy),)
    seconds = 0.0 if ahead is None else ahead.total_seconds()
    return (Check(name, State.OK, f"{url} answers"), *_compared_clock("upstream", seconds))


def _compared_clock(whose: str, seconds_ahead: float) -> Iterator[Check]:
    if abs(seconds_ahead) > _MAX_CLOCK_ERROR_SECONDS:
        direction = "ahead of" if seconds_ahead > 0 else "behind"
        found = f"{whose}'s clock is {abs(seconds_ahead):.0f} s {direction} this machine's"
        yield Check("Clock", State.WARNING, found, "Synchronise this machine's clock.")


def _seconds_ahead(connection: Connection) -> float:
    """Return how far a database server's clock is ahead of this machine's."""
    if connection.dialect.name != "postgresql":
        return 0.0
    now = connection.execute(select(func.current_timestamp())).scalar_one()
    return now.timestamp() - time.time()


async def _redis(url: str) -> Check:
    # The client comes with the optional extra `redis`.
    from redis.asyncio import Redis  # noqa: PLC0415
    from redis.exceptions import RedisError  # noqa: PLC0415

    name = "Rate limits"
    client = Redis.from_url(
        url,
        socket_timeout=_REDIS_TIMEOUT_SECONDS,
        socket_connect_timeout=_REDIS_TIMEOUT_SECONDS,
    )
    try:
        await client.ping()
    except (RedisError, OSError) as error:
        # Only the type: the text may contain the server's password.
        cause = type(error).__name__
        found = f"the server of CONTACT_GATEWAY_RATE_LIMIT_URL does not answer: {cause}"
        remedy = "Start it, or correct the URL. Until then, each process counts by itself."
        return Check(name, State.FAILED, found, remedy)
    finally:
        await client.aclose()
    return Check(name, State.OK, "the Redis-compatible server answers")
