"""`contact-gateway doctor`: each check, with what to do about it."""

import asyncio
import json
import os
import re
import shutil
import sqlite3
import time
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from contact_gateway.database_url import DatabaseAddress, PostgresqlServer, parse_database_url
from contact_gateway.store import sqlite
from contact_gateway.store.schema_version import newest_revision
from support.databases import Engine, databases_on, new_database, plain_connection, read_only
from support.process import Command
from support.programs import redis_server
from support.upstream import UpstreamGateway, recorded, recorded_upstream

DATABASE = "contact-gateway.sqlite3"
Examine = Callable[[], tuple[int, Mapping[str, Mapping[str, str]]]]


@pytest.fixture(autouse=True)
def sqlite_without_the_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_WAL_RESET_BUG_FIXED", (3, 0, 0))


@pytest.fixture
def examine(run: Command) -> Examine:
    """Return a function that returns the exit status, and the last check of each name."""

    def parsed() -> tuple[int, Mapping[str, Mapping[str, str]]]:
        result = run("doctor", "--json")
        return result.exit_code, {each["name"]: each for each in json.loads(result.stdout)}

    return parsed


def test_nothing_is_created(examine: Examine, folder: Path) -> None:
    status, checks = examine()

    assert status == 0
    assert {check["state"] for check in checks.values()} == {"ok"}
    assert list(folder.iterdir()) == []


def test_a_new_database_is_ok(run: Command, examine: Examine) -> None:
    run("migrate")
    status, checks = examine()

    assert status == 0
    assert checks["Database"]["found"].endswith(f"is at revision {newest_revision()}")


def test_each_check_is_a_line_with_its_remedy(run: Command, folder: Path) -> None:
    run("migrate")
    (folder / DATABASE).chmod(0o644)
    result = run("doctor")

    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "ok       Settings: CONTACT_GATEWAY_PROFILE is development."
    assert f"warning  Permissions: every user can read {DATABASE}. Run `chmod o= {DATABASE}`" in (
        result.stdout
    )


def test_an_invalid_setting_fails(examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTACT_GATEWAY_METRICS", "perhaps")
    status, checks = examine()

    assert (status, list(checks)) == (1, ["Settings"])
    assert checks["Settings"]["found"].startswith("CONTACT_GATEWAY_METRICS: ")
    # `contact-gateway settings` stops at an invalid setting too.
    assert checks["Settings"]["remedy"] == "Correct the setting, or unset it."


@pytest.mark.parametrize(
    ("revision", "remedy"), [("0001", "Run `contact-gateway migrate`."), ("9999", "Upgrade")]
)
def test_an_older_or_newer_schema_fails_with_its_own_remedy(
    run: Command, examine: Examine, folder: Path, revision: str, remedy: str
) -> None:
    run("migrate")
    connection = sqlite3.connect(folder / DATABASE)
    connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    connection.commit()
    connection.close()
    status, checks = examine()

    assert (status, checks["Database"]["state"]) == (1, "failed")
    assert remedy in checks["Database"]["remedy"]


def test_a_file_that_is_no_database_fails(examine: Examine, folder: Path) -> None:
    (folder / DATABASE).write_text("Dear Sir or Madam, " * 50, "utf-8")
    status, checks = examine()

    assert (status, checks["Database"]["state"]) == (1, "failed")


def test_a_missing_folder_fails(examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTACT_GATEWAY_DATABASE_URL", "sqlite+aiosqlite:///nowhere/x.sqlite3")
    status, checks = examine()

    assert status == 1
    assert (checks["Database"]["state"], checks["Disk space"]["state"]) == ("failed", "failed")


def test_a_link_into_a_missing_folder_fails(examine: Examine, folder: Path) -> None:
    (folder / DATABASE).symlink_to("nowhere/x.sqlite3")
    status, checks = examine()

    assert (status, checks["Database"]["state"]) == (1, "failed")
    assert checks["Database"]["found"] == f"the folder {folder / 'nowhere'} does not exist"


def test_the_folder_is_that_of_the_file_that_a_link_leads_to(
    examine: Examine, folder: Path
) -> None:
    (folder / "data").mkdir()
    (folder / DATABASE).symlink_to("data/x.sqlite3")
    _, checks = examine()

    assert str(checks["Disk space"]["found"]).endswith(f" in {folder / 'data'}")


def test_a_working_directory_that_was_deleted_fails(examine: Examine, folder: Path) -> None:
    """A deployment may have replaced it."""
    deleted = folder / "earlier"
    deleted.mkdir()
    os.chdir(deleted)
    deleted.rmdir()
    try:
        status, checks = examine()
    finally:
        os.chdir(folder)

    assert status == 1
    assert (checks["Database"]["state"], checks["Disk space"]["state"]) == ("failed", "failed")


@pytest.mark.parametrize("name", [f"{'a' * 300}.sqlite3", f"{'a' * 300}/x.sqlite3"])
def test_a_file_that_cannot_be_looked_at_fails(
    examine: Examine, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("CONTACT_GATEWAY_DATABASE_URL", f"sqlite+aiosqlite:///{name}")
    status, checks = examine()

    assert (status, checks["Database"]["state"]) == (1, "failed")
    assert str(checks["Database"]["found"]).startswith("cannot be read: ")


def test_a_file_that_cannot_be_written_fails(
    run: Command, examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("migrate")
    monkeypatch.setattr(os, "access", lambda _path, mode: mode != os.W_OK)
    status, checks = examine()

    assert (status, checks["Permissions"]["state"]) == (1, "failed")


def test_a_full_disk_fails(examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")  # noqa: PYI024 - as shutil's
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 0))
    status, checks = examine()

    assert (status, checks["Disk space"]["state"]) == (1, "failed")
    assert checks["Disk space"]["found"] == f"0 MiB are free in {Path.cwd()}"


def test_a_clock_behind_the_last_change_of_the_database_fails(
    run: Command, examine: Examine, folder: Path
) -> None:
    run("migrate")
    written_at = (folder / DATABASE).stat().st_mtime + 172_800
    os.utime(folder / DATABASE, (written_at, written_at))
    status, checks = examine()

    assert (status, checks["Clock"]["state"]) == (1, "failed")


@pytest.fixture(params=[3600, -3600], ids=["behind", "ahead of"])
def differing_clock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Move this machine's clock; return a pattern of how a server's differs."""
    seconds: int = request.param
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + seconds)
    direction = "behind" if seconds > 0 else "ahead of"
    return rf"'s clock is 3\d\d\d s {direction} this machine's\. Synchronise"


@pytest.mark.usefixtures("postgresql")
def test_a_database_server_with_another_time_is_a_warning(
    run: Command, differing_clock: str
) -> None:
    run("migrate")
    result = run("doctor")

    assert re.search(f"warning  Clock: the database server{differing_clock}", result.stdout)


def test_an_upstream_with_another_time_is_a_warning(
    run: Command,
    monkeypatch: pytest.MonkeyPatch,
    upstream: UpstreamGateway,
    differing_clock: str,
) -> None:
    monkeypatch.setenv("CONTACT_GATEWAY_UPSTREAM_URL", upstream.url)
    result = run("doctor")

    assert re.search(f"warning  Clock: upstream{differing_clock}", result.stdout)


def test_the_wal_reset_bug_is_a_warning(examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_WAL_RESET_BUG_FIXED", (99, 0, 0))
    status, checks = examine()

    assert (status, checks["SQLite"]["state"]) == (0, "warning")


@pytest.fixture
def postgresql(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DatabaseAddress]:
    """Return an empty database on a PostgreSQL server, which is set."""
    with databases_on(Engine.POSTGRESQL):
        url = new_database(folder)
        monkeypatch.setenv("CONTACT_GATEWAY_DATABASE_URL", url)
        yield parse_database_url(url)


def test_an_empty_database_on_a_server_is_a_warning_where_the_index_of_text_cannot_exist(
    examine: Examine, postgresql: DatabaseAddress
) -> None:
    with plain_connection(postgresql) as connection:
        query = "SELECT 1 FROM pg_available_extensions WHERE name = 'pg_trgm'"
        can_exist = connection.exec_driver_sql(query).scalar() is not None
    status, checks = examine()

    assert (status, checks["Database"]["state"]) == (0, "ok" if can_exist else "warning")
    assert ("lacks pg_trgm" in checks["Database"]["found"]) is not can_exist


def test_each_line_is_made_of_sentences(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message of libpq ends with a question mark."""
    monkeypatch.setenv("CONTACT_GATEWAY_DATABASE_URL", "postgresql://gateway@127.0.0.1:1/contacts")

    result = run("doctor")

    assert result.exit_code == 1
    assert "connections? Correct CONTACT_GATEWAY_DATABASE_URL" in result.stdout


def test_an_empty_database_in_which_the_user_may_not_create_tables_fails(
    examine: Examine, postgresql: DatabaseAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = os.environ["CONTACT_GATEWAY_DATABASE_URL"]
    with plain_connection(postgresql) as connection:
        connection.exec_driver_sql("REVOKE CREATE ON SCHEMA public FROM public")
        connection.commit()
    mark = "&" if "?" in url else "?"
    role = "options=-c%20role%3Dpg_read_all_data"
    monkeypatch.setenv("CONTACT_GATEWAY_DATABASE_URL", f"{url}{mark}{role}")
    status, checks = examine()

    assert (status, checks["Database"]["state"]) == (1, "failed")
    assert "may not create tables" in checks["Database"]["found"]


@pytest.mark.usefixtures("postgresql")
def test_a_server_needs_no_checks_of_files(run: Command, examine: Examine) -> None:
    empty_status, empty = examine()
    run("migrate")
    status, checks = examine()

    assert (empty_status, status) == (0, 0)
    assert "is empty; the first start creates its tables" in empty["Database"]["found"]
    assert f"is at revision {newest_revision()}" in checks["Database"]["found"]
    assert not checks.keys() & {"SQLite", "Permissions", "Disk space"}


def test_a_server_without_an_index_of_text_is_a_warning(
    run: Command, examine: Examine, postgresql: DatabaseAddress
) -> None:
    run("migrate")
    with plain_connection(postgresql) as connection:
        connection.exec_driver_sql("DROP INDEX IF EXISTS ix_contacts_folded_text_trigrams")
    status, checks = examine()

    assert (status, checks["Database"]["state"]) == (0, "warning")
    assert checks["Database"]["found"].endswith("has no index for text")
    assert "pg_trgm" in checks["Database"]["remedy"]


def test_an_older_schema_on_a_server_fails(
    run: Command, examine: Examine, postgresql: DatabaseAddress
) -> None:
    run("migrate")
    with plain_connection(postgresql) as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")
    status, checks = examine()

    assert (status, checks["Database"]["state"]) == (1, "failed")


def test_a_server_that_cannot_be_written_fails(
    run: Command,
    examine: Examine,
    postgresql: DatabaseAddress,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Such as a standby."""
    assert isinstance(postgresql, PostgresqlServer)
    run("migrate")
    monkeypatch.setenv("CONTACT_GATEWAY_DATABASE_URL", read_only(postgresql.uri))
    status, checks = examine()

    assert (status, checks["Database"]["state"]) == (1, "failed")
    assert checks["Database"]["found"].endswith(" cannot be written")
    assert "primary server" in checks["Database"]["remedy"]


def test_an_unreachable_server_fails_without_its_password(
    run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "postgresql://gateway:secret@127.0.0.1:1/contacts"
    monkeypatch.setenv("CONTACT_GATEWAY_DATABASE_URL", url)
    result = run("doctor")

    assert result.exit_code == 1
    assert "failed   Database: cannot be read: 127.0.0.1:1/contacts: " in result.stdout
    assert result.stdout.count("127.0.0.1:1/contacts") == 1
    assert "secret" not in result.output


def test_upstream_is_reached(
    examine: Examine, monkeypatch: pytest.MonkeyPatch, upstream: UpstreamGateway
) -> None:
    monkeypatch.setenv("CONTACT_GATEWAY_UPSTREAM_URL", upstream.url)
    status, checks = examine()

    assert (status, checks["Upstream"]["state"]) == (0, "ok")


def test_an_unreachable_upstream_fails(examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTACT_GATEWAY_UPSTREAM_URL", "http://127.0.0.1:1/api/v1")
    status, checks = examine()

    assert (status, checks["Upstream"]["state"]) == (1, "failed")
    assert checks["Upstream"]["found"] == (
        "http://127.0.0.1:1/api/v1: no connection to upstream: Connection refused"
    )


def test_an_upstream_url_of_another_path_is_a_warning(
    examine: Examine, monkeypatch: pytest.MonkeyPatch, upstream: UpstreamGateway
) -> None:
    url = upstream.url.removesuffix("/api/v1")
    monkeypatch.setenv("CONTACT_GATEWAY_UPSTREAM_URL", url)
    status, checks = examine()

    assert (status, checks["Upstream"]["state"]) == (0, "warning")
    assert checks["Upstream"]["found"] == f"{url}/contacts is answered with 404, not with 401"
    assert "https://app.hienergy.ai/api/v1" in checks["Upstream"]["remedy"]


@pytest.mark.anyio
async def test_an_upstream_that_fails_fails(
    examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with recorded_upstream(lambda _: recorded(500)) as upstream:
        monkeypatch.setenv("CONTACT_GATEWAY_UPSTREAM_URL", upstream.url)
        status, checks = await asyncio.to_thread(examine)

    assert (status, checks["Upstream"]["state"]) == (1, "failed")
    assert checks["Upstream"]["found"].endswith("upstream responds with 500")


def test_a_redis_server_is_reached(
    examine: Examine, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    with redis_server(folder) as port:
        monkeypatch.setenv("CONTACT_GATEWAY_RATE_LIMIT_URL", f"redis://127.0.0.1:{port}/0")
        status, checks = examine()

    assert (status, checks["Rate limits"]["state"]) == (0, "ok")


def test_an_unreachable_redis_server_fails_without_its_password(
    run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTACT_GATEWAY_RATE_LIMIT_URL", "redis://:secret@127.0.0.1:1/0")
    result = run("doctor")

    assert result.exit_code == 1
    assert "failed   Rate limits: " in result.stdout
    assert "secret" not in result.output
