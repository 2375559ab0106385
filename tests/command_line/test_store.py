"""`contact-gateway store`: backup, restore and check, also beside a running gateway."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from support.clock import WATCHDOG_SECONDS
from support.gateway import Store, filled_store
from support.process import Command, GatewayProcess, clean_environment, gateway_process

MAYA = {"advertiser_id": 2001, "email": "maya@example.com"}
KAI = {"advertiser_id": 2001, "email": "kai@example.com"}
LONG_NAME = f"{'a' * 300}.db"


@pytest.fixture
def store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Return a filled store, which the commands use."""
    filled = filled_store(folder)
    monkeypatch.setenv("CONTACT_GATEWAY_DATABASE_URL", filled.url)
    return filled


@pytest.fixture
def process(store: Store) -> Iterator[GatewayProcess]:
    with gateway_process(store.folder, store=store) as running:
        yield running


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"stderr.log"}


def _emails(file: Path) -> list[str]:
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return [row[0] for row in connection.execute("SELECT email FROM contacts ORDER BY id")]


def _create(process: GatewayProcess, store: Store, contact: dict[str, object]) -> int:
    with process.client(store.keys["admin"]) as client:
        return client.post("/api/v1/contacts", json={"contact": contact}).status_code


def test_a_backup_has_what_a_running_gateway_has_committed(
    run: Command, store: Store, process: GatewayProcess
) -> None:
    assert _create(process, store, MAYA) == 201

    result = run("store", "backup", "copy.db")

    assert (result.exit_code, result.stdout) == (0, "")
    assert "Wrote copy.db." in result.stderr
    assert not {"copy.db-wal", "copy.db-shm", "copy.db.partial"} & _names(store.folder)
    assert _emails(store.folder / "copy.db") == ["maya@example.com"]
    assert _create(process, store, KAI) == 201


def test_a_backup_leaves_the_database_as_it_is(run: Command, store: Store) -> None:
    assert run("store", "backup", "copy.db").exit_code == 0

    assert _names(store.folder) == {store.file.name, "copy.db"}
    assert (store.folder / "copy.db").stat().st_mode == store.file.stat().st_mode


def test_a_backup_replaces_a_file_only_when_forced(run: Command, store: Store) -> None:
    copy = store.folder / "copy.db"
    copy.write_text("precious", encoding="utf-8")

    refused = run("store", "backup", "copy.db")

    assert refused.exit_code == 1
    assert "copy.db exists. Use --force to replace it." in refused.stderr
    assert copy.read_text(encoding="utf-8") == "precious"
    assert run("store", "backup", "copy.db", "--force").exit_code == 0
    assert _emails(copy) == []


@pytest.mark.parametrize("kind", ["pipe", "link", "dangling link"])
def test_a_backup_replaces_only_files(run: Command, store: Store, kind: str) -> None:
    special, linked = store.folder / "special", store.folder / "linked.db"
    if kind == "pipe":
        os.mkfifo(special)
    else:
        special.symlink_to(linked)
    if kind == "link":
        linked.write_text("precious", encoding="utf-8")
    before = special.lstat()

    result = run("store", "backup", str(special), "--force")

    assert result.exit_code == 1
    assert f"{special} is not a regular file. Name another file." in result.stderr
    assert os.path.samestat(special.lstat(), before)


def test_a_backup_does_not_replace_the_database_of_a_running_gateway(
    run: Command, store: Store, process: GatewayProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = store.folder / "other"
    other.mkdir()
    monkeypatch.setenv("CONTACT_GATEWAY_DATABASE_URL", filled_store(other).url)

    result = run("store", "backup", str(store.file), "--force")

    assert result.exit_code == 1
    assert f"{store.file} is in use. Stop the gateway" in result.stderr
    assert _create(process, store, MAYA) == 201


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("backup", LONG_NAME), f"{LONG_NAME}: File name too long."),
        (("copy", f"sqlite:///{LONG_NAME}", "sqlite:///new.db"), f"{LONG_NAME} does not exist."),
    ],
    ids=["backup", "copy"],
)
def test_a_file_that_cannot_be_looked_at_is_refused(
    run: Command, arguments: tuple[str, ...], message: str
) -> None:
    result = run("store", *arguments)

    assert result.exit_code == 1
    assert message in result.stderr


@pytest.mark.parametrize("command", [("check",), ("backup", "new.db"), ("restore", "copy.db")])
def test_a_database_that_cannot_be_looked_at_is_named(
    run: Command, store: Store, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    (store.folder / "copy.db").touch()
    monkeypatch.setenv("CONTACT_GATEWAY_DATABASE_URL", f"sqlite:///{LONG_NAME}")

    result = run("store", *command)

    assert result.exit_code == 1
    assert f"{LONG_NAME}: File name too long." in result.stderr


@pytest.mark.usefixtures("store")
def test_a_backup_that_cannot_be_written_is_reported_with_its_own_name(run: Command) -> None:
    result = run("store", "backup", "no-folder/copy.db")

    assert (result.exit_code, result.stderr) == (
        1,
        "Error: no-folder/copy.db: No such file or directory.\n",
    )


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_the_database_is_not_its_own_copy(run: Command, store: Store, command: str) -> None:
    options = ("--force",) if command == "backup" else ()

    result = run("store", command, str(store.file), *options)

    assert result.exit_code == 1
    assert "is the database itself" in result.stderr
    assert _emails(store.file) == []


@pytest.mark.parametrize("command", [("backup", "copy.db"), ("check",)])
def test_a_missing_database_is_not_created(
    run: Command, store: Store, command: tuple[str, ...]
) -> None:
    store.file.unlink()

    result = run("store", *command)

    assert result.exit_code == 1
    assert f"{store.file} does not exist." in result.stderr
    assert _names(store.folder) == set()


def test_a_restored_backup_is_served(run: Command, store: Store) -> None:
    with gateway_process(store.folder, store=store) as process:
        assert _create(process, store, MAYA) == 201
        assert run("store", "backup", "copy.db").exit_code == 0
        assert _create(process, store, KAI) == 201

    result = run("store", "restore", "copy.db")

    assert (result.exit_code, result.stdout) == (0, "")
    assert f"Restored {store.file}." in result.stderr
    (kept,) = store.folder.glob("*.before-restore-*")
    assert str(kept) in result.stderr
    assert _emails(kept) == ["maya@example.com", "kai@example.com"]
    with gateway_process(store.folder, store=store) as process:
        assert _create(process, store, MAYA) == 409
        assert _create(process, store, KAI) == 201


def test_a_database_that_a_gateway_uses_is_not_replaced(
    run: Command, store: Store, process: GatewayProcess
) -> None:
    assert run("store", "backup", "copy.db").exit_code == 0
    before = _names(store.folder)

    result = run("store", "restore", "copy.db")

    assert result.exit_code == 1
    assert f"{store.file} is in use. Stop the gateway" in result.stderr
    assert _names(store.folder) == before
    assert _create(process, store, MAYA) == 201


def test_a_restore_through_a_link_replaces_the_database_and_keeps_the_link(
    run: Command, store: Store, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert run("store", "backup", "copy.db").exit_code == 0
    database = tmp_path_factory.mktemp("disk") / "real.sqlite3"
    store.file.rename(database)
    store.file.symlink_to(database)

    assert run("store", "restore", "copy.db").exit_code == 0

    (kept,) = database.parent.glob("*.before-restore-*")
    assert store.file.readlink() == database
    assert not kept.is_symlink()


def test_a_killed_gateway_does_not_hinder_a_restore(run: Command, store: Store) -> None:
    assert run("store", "backup", "copy.db").exit_code == 0
    with gateway_process(store.folder, store=store) as process:
        assert _create(process, store, MAYA) == 201
        process.stop(signal.SIGKILL)

    assert run("store", "restore", "copy.db").exit_code == 0

    assert _emails(store.file) == []
    (kept,) = (
        path
        for path in store.folder.glob("*.before-restore-*")
        if not path.name.endswith(("-wal", "-shm"))
    )
    assert _emails(kept) == ["maya@example.com"]


def _move_over(folder: Path, file: Path) -> None:
    (folder / "other.db").replace(file)


def _delete(_: Path, file: Path) -> None:
    file.unlink()


@pytest.mark.parametrize("lose", [_move_over, _delete], ids=["replaced", "deleted"])
def test_a_database_is_restored_after_the_gateway_that_lost_it_has_stopped(
    run: Command, store: Store, lose: Callable[[Path, Path], None]
) -> None:
    assert run("store", "backup", "copy.db").exit_code == 0
    assert run("store", "backup", "other.db").exit_code == 0
    with gateway_process(store.folder, store=store) as process:
        assert _create(process, store, MAYA) == 201
        lose(store.folder, store.file)
        assert _create(process, store, KAI) == 503

        refused = run("store", "restore", "copy.db")

        assert refused.exit_code == 1
        assert f"{store.file} is in use." in refused.stderr
    assert run("store", "restore", "copy.db").exit_code == 0
    assert _emails(store.file) == []
    with gateway_process(store.folder, store=store) as process:
        assert _create(process, store, KAI) == 201


def test_a_copy_that_was_moved_over_the_database_is_restored_from_another_name(
    run: Command, store: Store
) -> None:
    assert run("store", "backup", "copy.db").exit_code == 0
    with gateway_process(store.folder, store=store) as process:
        assert _create(process, store, MAYA) == 201
        (store.folder / "copy.db").replace(store.file)
        assert _create(process, store, KAI) == 503
    store.file.rename(store.folder / "copy.db")

    assert run("store", "restore", "copy.db").exit_code == 0

    assert _emails(store.file) == []


def test_a_gateway_all_of_whose_files_were_deleted_does_not_touch_the_restored_ones(
    run: Command, store: Store
) -> None:
    """SQLite's locks do not show such a gateway."""
    assert run("store", "backup", "copy.db").exit_code == 0
    with gateway_process(store.folder, store=store) as process:
        assert _create(process, store, MAYA) == 201
        for file in store.folder.glob(f"{store.file.name}*"):
            file.unlink()
        assert run("store", "restore", "copy.db").exit_code == 0
        with gateway_process(store.folder, store=store) as other:
            assert _create(other, store, KAI) == 201
            assert _create(process, store, KAI) == 503
            process.stop()
            assert _create(other, store, MAYA) == 201

    assert _emails(store.file) == ["kai@example.com", "maya@example.com"]


def _damaged(copy: Path) -> None:
    content = bytearray(copy.read_bytes())
    content[4096 : len(content)] = b"\xa5" * (len(content) - 4096)
    copy.write_bytes(content)


def _not_a_database(copy: Path) -> None:
    copy.write_bytes(b"This is not a database. " * 1000)


def _of_another_program(copy: Path) -> None:
    copy.unlink()
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("CREATE TABLE notes (text)")


def _of_a_newer_version(copy: Path) -> None:
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()


def _with_orphans(copy: Path) -> None:
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("UPDATE advertisers SET hienergy_id = 404 WHERE id = 2001")
        connection.commit()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_damaged, "malformed"),
        (_not_a_database, "file is not a database"),
        (_of_another_program, "it is not a database of contact-gateway"),
        (_of_a_newer_version, "revision 9999, which this version does not know"),
        (_with_orphans, "advertisers: 1 rows refer to missing rows of advertisers"),
    ],
)
def test_a_copy_that_is_not_sound_is_not_restored(
    run: Command, store: Store, spoil: Callable[[Path], None], reason: str
) -> None:
    copy = store.folder / "copy.db"
    assert run("store", "backup", "copy.db").exit_code == 0
    spoil(copy)
    before, names = store.file.read_bytes(), _names(store.folder)

    result = run("store", "restore", "copy.db")

    assert result.exit_code == 1
    assert "copy.db" in result.stderr
    assert reason in result.stderr
    assert (store.file.read_bytes(), _names(store.folder)) == (before, names)
    checked = run("store", "check", "copy.db")
    assert checked.exit_code == 1
    assert reason in checked.stdout + checked.stderr


def test_a_copy_with_a_write_ahead_log_is_restored_with_it(run: Command, store: Store) -> None:
    copy = store.folder / "copy.db"
    assert run("store", "backup", "copy.db").exit_code == 0
    with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("UPDATE advertisers SET name = 'Renamed' WHERE id = 1002")

        assert run("store", "restore", "copy.db").exit_code == 0

    with closing(sqlite3.connect(store.file)) as connection:
        names = connection.execute("SELECT name FROM advertisers WHERE id = 1002").fetchall()
    assert names == [("Renamed",)]


def test_a_database_is_restored_where_there_is_none(run: Command, store: Store) -> None:
    assert run("store", "backup", "copy.db").exit_code == 0
    store.file.unlink()

    result = run("store", "restore", "copy.db")

    assert result.exit_code == 0
    assert "kept" not in result.stderr
    assert _emails(store.file) == []


@pytest.mark.usefixtures("store")
def test_a_restored_database_of_an_older_version_is_to_be_migrated(run: Command) -> None:
    assert run("store", "backup", "copy.db").exit_code == 0
    with closing(sqlite3.connect("copy.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0003'")
        connection.commit()

    result = run("store", "restore", "copy.db")

    assert result.exit_code == 0
    assert "It is at revision 0003. Run `contact-gateway migrate`." in result.stderr


def test_a_restore_keeps_the_permissions_of_the_database(run: Command, store: Store) -> None:
    assert run("store", "backup", "copy.db").exit_code == 0
    store.file.chmod(0o640)

    assert run("store", "restore", "copy.db").exit_code == 0

    assert store.file.stat().st_mode & 0o777 == 0o640


def test_a_check_counts_the_rows_of_a_sound_database(
    run: Command, store: Store, process: GatewayProcess
) -> None:
    assert _create(process, store, MAYA) == 201

    result = run("store", "check")

    assert result.exit_code == 0
    assert "advertisers: 7\n" in result.stdout
    assert "contacts: 1\n" in result.stdout
    assert result.stdout.endswith("No problems found.\n")
    document = json.loads(run("store", "check", "--json").stdout)
    assert document.keys() == {"revision", "rows", "problems"}
    assert document["revision"] in result.stdout
    assert (document["rows"]["contacts"], document["problems"]) == (1, [])


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        (
            "UPDATE contacts SET advertiser_id = 2001",
            "1 contacts of an advertiser that is not a HiEnergy record: 1",
        ),
        (
            "UPDATE advertisers SET hienergy_id = 2002 WHERE id = 2001",
            "1 advertisers whose hienergy_id is not a HiEnergy record: 2001",
        ),
        (
            "UPDATE contacts SET advertiser_id = 404",
            "contacts: 1 rows refer to missing rows of advertisers",
        ),
    ],
)
def test_a_check_says_what_is_wrong(
    run: Command, store: Store, statement: str, problem: str
) -> None:
    with gateway_process(store.folder, store=store) as process:
        assert _create(process, store, MAYA) == 201
    with closing(sqlite3.connect(store.file)) as connection:
        connection.execute(statement)
        connection.commit()

    result = run("store", "check")

    assert result.exit_code == 1
    assert f"Problem: {problem}\n" in result.stdout
    as_json = run("store", "check", "--json")
    assert as_json.exit_code == 1
    assert json.loads(as_json.stdout)["problems"] == [problem]


def test_a_check_of_a_copy_writes_nothing_beside_it(run: Command, store: Store) -> None:
    assert run("store", "backup", "copy.db").exit_code == 0
    before = _names(store.folder)

    assert run("store", "check", "copy.db").exit_code == 0

    assert _names(store.folder) == before


def test_a_backup_needs_no_standard_error(store: Store) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        result = subprocess.run(
            (sys.executable, "-m", "contact_gateway", "store", "backup", "copy.db"),
            cwd=store.folder,
            env=clean_environment() | {"CONTACT_GATEWAY_DATABASE_URL": store.url},
            stderr=full,
            timeout=WATCHDOG_SECONDS,
            check=False,
        )

    assert result.returncode == 0
    assert "copy.db" in _names(store.folder)


def test_a_backup_that_finds_no_room_leaves_nothing(store: Store) -> None:
    result = subprocess.run(
        (sys.executable, "-c", _WITHOUT_ROOM, "store", "backup", "copy.db"),
        cwd=store.folder,
        env=clean_environment() | {"CONTACT_GATEWAY_DATABASE_URL": store.url},
        capture_output=True,
        encoding="utf-8",
        timeout=WATCHDOG_SECONDS,
        check=False,
    )

    assert result.returncode == 1
    assert "Error: copy.db: " in result.stderr
    assert "Traceback" not in result.stderr
    assert _names(store.folder) == {store.file.name}


_WITHOUT_ROOM = """
import resource
import sys
from contact_gateway.cli import main
# Python would keep the bytecode of a module that it could write only in part.
sys.dont_write_bytecode = True
before = resource.getrlimit(resource.RLIMIT_FSIZE)
# The index of the write-ahead log has 32 KiB.
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, before[1]))
try:
    main()
finally:
    # The measurement of coverage writes its file at the end.
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
"""
