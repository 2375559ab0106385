"""`contact-gateway contacts import`: the contacts of a file, and a report of each row."""

import asyncio
import csv
import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from io import StringIO
from pathlib import Path

import pytest
from sqlalchemy import Connection, select
from typer.testing import Result

from contact_gateway.contact_files.encodings import HEAD_SIZE
from contact_gateway.contact_files.rows import ContactFileError
from contact_gateway.contacts_import import opened
from contact_gateway.store.tables import contacts
from support.clock import WATCHDOG_SECONDS
from support.databases import database_at
from support.gateway import Store, filled_store, filled_store_at
from support.hienergy import MEMBER_KEY, Fault, Traits, fake_hienergy
from support.process import Command, GatewayProcess, clean_environment, gateway_process
from support.upstream import KEY, recorded, recorded_upstream

MAYA = "1001,maya@example.com,Maya,Lindqvist"
KAI = "2001,kai@example.com,Kai,"
IMPORT = ("contacts", "import", "contacts.csv", "--report", "report.csv")
HEADER = "Advertiser ID,E-mail,First name,Last name"


@pytest.fixture
def store(folder: Path, database_url: str) -> Store:
    """Return a database of each engine without contacts, which the commands use."""
    return asyncio.run(filled_store_at(database_url, folder))


@pytest.fixture
def sqlite_store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Return a database of SQLite alone, where the engine decides nothing."""
    store = filled_store(folder)
    monkeypatch.setenv("CONTACT_GATEWAY_DATABASE_URL", store.url)
    return store


@pytest.fixture
def write(folder: Path) -> Callable[..., None]:
    """Return a function that writes a CSV file of a heading and rows."""

    def write_file(*lines: str, name: str = "contacts.csv") -> None:
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    return write_file


def report(folder: Path, name: str = "report.csv") -> list[dict[str, str]]:
    text = (folder / name).read_text(encoding="utf-8-sig")
    return list(csv.DictReader(StringIO(text, newline="")))


def outcomes(folder: Path, name: str = "report.csv") -> list[tuple[str, str]]:
    return [(row["import_line"], row["import_outcome"]) for row in report(folder, name)]


def stored(url: str) -> list[tuple[object, ...]]:
    """Return the stored contacts, in the order of their ids."""
    columns = contacts.c
    query = select(
        columns.id, columns.advertiser_id, columns.email, columns.name, columns.created_through
    ).order_by(columns.id)

    def read(connection: Connection) -> list[tuple[object, ...]]:
        return [tuple(row) for row in connection.execute(query)]

    async def run() -> list[tuple[object, ...]]:
        database = database_at(url)
        try:
            return await database.read(read)
        finally:
            await database.close()

    return asyncio.run(run())


class TestIntoTheDatabase:
    def test_each_row_becomes_a_contact(
        self, run: Command, folder: Path, store: Store, write: Callable[..., None]
    ) -> None:
        write(HEADER, MAYA, KAI)

        result = run(*IMPORT)

        assert (result.exit_code, result.stdout) == (0, "")
        assert result.stderr.endswith("           2 created\n")
        assert "@" not in result.stderr
        rows = stored(store.url)
        assert [row[1:] for row in rows] == [
            (1001, "maya@example.com", "Maya Lindqvist", "import"),
            (1001, "kai@example.com", "Kai", "import"),
        ]
        maya, kai = report(folder)
        assert (maya["import_line"], maya["import_outcome"]) == ("2", "created")
        assert [maya["import_contact_id"], kai["import_contact_id"]] == [str(r[0]) for r in rows]
        assert maya["E-mail"] == "maya@example.com"
        assert stat.S_IMODE((folder / "report.csv").stat().st_mode) == 0o600

    @pytest.mark.usefixtures("store")
    def test_a_file_without_rows_creates_nothing(
        self, run: Command, write: Callable[..., None]
    ) -> None:
        write(HEADER)

        result = run("contacts", "import", "contacts.csv")

        assert result.exit_code == 0
        assert re.fullmatch(r"0 rows in [0-9:]+\.\n", result.stderr)

    def test_the_same_command_again_finds_all_rows_there(
        self, run: Command, folder: Path, store: Store, write: Callable[..., None]
    ) -> None:
        write(HEADER, MAYA, KAI)
        run("contacts", "import", "contacts.csv")
        before = stored(store.url)

        result = run(*IMPORT)

        assert result.exit_code == 0
        assert result.stderr.endswith("           2 exists\n")
        assert stored(store.url) == before
        assert [row["import_contact_id"] for row in report(folder)] == [str(r[0]) for r in before]

    def test_two_equal_rows_are_one_contact(
        self, run: Command, folder: Path, store: Store, write: Callable[..., None]
    ) -> None:
        write(HEADER, MAYA, MAYA)

        assert run(*IMPORT).exit_code == 0

        assert len(stored(store.url)) == 1
        assert outcomes(folder) == [("2", "created"), ("3", "exists")]

    def test_another_contact_with_the_address_is_a_conflict_with_its_id(
        self, run: Command, folder: Path, store: Store, write: Callable[..., None]
    ) -> None:
        write(HEADER, MAYA, MAYA.replace("Lindqvist", "Lind"))

        result = run(*IMPORT)

        assert result.exit_code == 1
        assert "Line 3: conflict\n" in result.stderr
        (contact,) = stored(store.url)
        conflict = report(folder)[1]
        assert conflict["import_outcome"] == "conflict"
        assert conflict["import_contact_id"] == str(contact[0])
        assert "already has a contact" in conflict["import_message"]

    def test_another_contact_with_the_address_may_count_as_there(
        self, run: Command, folder: Path, store: Store, write: Callable[..., None]
    ) -> None:
        write(HEADER, MAYA, MAYA.replace("Lindqvist", "Lind"))

        result = run(
            *IMPORT,
            *("--on-conflict", "return-existing"),
        )

        assert result.exit_code == 0
        assert [outcome for _, outcome in outcomes(folder)] == ["created", "exists"]
        assert len(stored(store.url)) == 1

    def test_a_dry_run_checks_all_rows_and_creates_nothing(
        self, run: Command, folder: Path, store: Store, write: Callable[..., None]
    ) -> None:
        write(HEADER, MAYA, "77,kai@example.com,,")

        result = run("contacts", "import", "contacts.csv", "--dry-run", "--report", "report.csv")

        assert result.exit_code == 1
        assert outcomes(folder) == [("2", "checked"), ("3", "not_found")]
        assert stored(store.url) == []

    def test_an_advertiser_may_be_an_id_a_slug_or_a_domain(
        self, run: Command, folder: Path, store: Store, write: Callable[..., None]
    ) -> None:
        write(
            "Advertiser,Email",
            "2001,a@example.com",
            "northwind,b@example.com",
            "northwind.example,c@example.com",
            "Northwind Outfitters,d@example.com",
            ",e@example.com",
        )

        result = run(*IMPORT)

        assert result.exit_code == 1
        assert {row[1] for row in stored(store.url)} == {1001}
        rows = report(folder)
        assert [row["import_outcome"] for row in rows] == [
            *["created"] * 3,
            "not_found",
            "invalid",
        ]
        assert "use --resolve-names" in rows[3]["problem_advertiser"]
        assert rows[4]["problem_advertiser"] == "A value is required."

    def test_a_name_is_resolved_on_request_if_it_is_that_of_one_advertiser(
        self, run: Command, folder: Path, store: Store, write: Callable[..., None]
    ) -> None:
        write("Brand,Email", "kestrel,a@example.com", "e,b@example.com", "Tern,not-an-address")

        result = run(
            "contacts", "import", "contacts.csv", "--resolve-names", "--report", "report.csv"
        )

        assert result.exit_code == 1
        assert [row[1] for row in stored(store.url)] == [1002]
        _, several, none = report(folder)
        assert several["import_outcome"] == "not_found"
        assert "1001 Northwind Outfitters, 1002 Kestrel" in several["problem_advertiser"]
        assert none["import_outcome"] == "invalid"
        assert none["problem_advertiser"] == "No advertiser has this id, slug, domain or name."
        assert none["problem_email"]

    def test_columns_are_chosen_on_request(
        self, run: Command, store: Store, write: Callable[..., None]
    ) -> None:
        write("Konto;Anschrift;Notiz", "1001;maya@example.com;x")

        result = run(
            *("contacts", "import", "contacts.csv"),
            *("--map", "Konto=advertiser_id", "--map", "Anschrift=email"),
        )

        assert result.exit_code == 0
        assert "Columns without a field: `Notiz`.\n" in result.stderr
        assert [row[2] for row in stored(store.url)] == ["maya@example.com"]

    def test_json_lines_are_read_with_their_types(
        self, run: Command, folder: Path, store: Store, write: Callable[..., None]
    ) -> None:
        write(
            json.dumps({"advertiser_id": 1001, "email": "maya@example.com", "tags": ["=x"]}),
            json.dumps({"email": "kai@example.com", "phone": "+46 8", "advertiser_id": "2001"}),
            "{",
            name="contacts.jsonl",
        )

        result = run("contacts", "import", "contacts.jsonl", "--report", "report.csv")

        assert result.exit_code == 1
        assert len(stored(store.url)) == 2
        maya, kai, last = report(folder)
        assert (maya["tags"], kai["advertiser_id"]) == ('["=x"]', "2001")
        assert (last["import_line"], last["import_outcome"]) == ("3", "invalid")

    def test_a_chosen_column_that_no_row_has_is_named(
        self, run: Command, store: Store, write: Callable[..., None]
    ) -> None:
        write('{"advertiser_id": 1001, "email": "maya@example.com"}', name="contacts.jsonl")

        result = run("contacts", "import", "contacts.jsonl", "--map", "Tel.=phone")

        assert result.exit_code == 0
        assert "No row has a column of --map: `Tel.`.\n" in result.stderr
        assert len(stored(store.url)) == 1

    def test_a_pipe_is_imported(self, run: Command, folder: Path, store: Store) -> None:
        pipe = folder / "pipe"
        os.mkfifo(pipe)
        writer = threading.Thread(
            target=pipe.write_text, args=(f"{HEADER}\n{MAYA}\n", "utf-8"), daemon=True
        )
        writer.start()

        result = run("contacts", "import", "pipe")

        writer.join(WATCHDOG_SECONDS)
        assert result.exit_code == 0
        assert len(stored(store.url)) == 1

    def test_all_rows_have_one_import_in_the_audit_trail(
        self, run: Command, store: Store, write: Callable[..., None]
    ) -> None:
        write(HEADER, MAYA, KAI)
        run("contacts", "import", "contacts.csv")

        ids = {
            json.loads(run("contacts", "audit", str(row[0]), "--json").stdout)["request_id"]
            for row in stored(store.url)
        }

        assert len(ids) == 1


class TestTheReport:
    def test_every_wrong_row_has_its_own_problem(
        self, run: Command, folder: Path, sqlite_store: Store, write: Callable[..., None]
    ) -> None:
        wrong = {
            "advertiser_id": ["x,a@example.com,,,", "0,a@example.com,,,", ",a@example.com,,,"],
            "email": [
                "1001,,,,",
                "1001,maya,,,",
                "1001,a@b@c,,,",
                f"1001,{'a' * 300}@x.example,,,",
            ],
            "name": [f"1001,a@example.com,{'x' * 256},,", "1001,a@example.com,a\x01b,,"],
            "phone": [f"1001,a@example.com,,{'1' * 256},"],
            "linkedin_profile_url": [
                "1001,a@example.com,,,linkedin.com/in/maya",
                "1001,a@example.com,,,javascript:alert(1)",
            ],
        }
        lines = [line for of_field in wrong.values() for line in of_field]
        write(
            "advertiser_id,email,name,phone,linkedin_profile_url",
            *lines,
            '1001,"a@example.com,,,',
            "1001,a@example.com,,,,surplus",
            "77,a@example.com,,,",
            "3001,a@example.com,,,",
        )

        result = run(*IMPORT)

        assert result.exit_code == 1
        assert stored(sqlite_store.url) == []
        rows = report(folder)
        fields = [field for field, of_field in wrong.items() for _ in of_field]
        for row, field in zip(rows, fields, strict=False):
            assert row["import_outcome"] == "invalid"
            found = {name for name, text in row.items() if name.startswith("problem_") and text}
            assert found == {f"problem_{field}"}
        assert [row["import_outcome"] for row in rows[len(fields) :]] == [
            *["invalid"] * 2,
            *["not_found"] * 2,
        ]
        assert "@" not in result.stderr

    def test_a_corrected_report_is_imported_again(
        self, run: Command, folder: Path, store: Store, write: Callable[..., None]
    ) -> None:
        write(HEADER, MAYA, "1001,kai,Kai,")
        run("contacts", "import", "contacts.csv", "--report", "first.csv")
        text = (folder / "first.csv").read_text(encoding="utf-8-sig")
        (folder / "first.csv").write_text(text.replace(",kai,", ",kai@example.com,"), "utf-8")

        result = run("contacts", "import", "first.csv", "--report", "second.csv")

        assert result.exit_code == 0
        assert "Columns without a field" not in result.stderr
        assert outcomes(folder, "second.csv") == [("2", "exists"), ("3", "created")]
        assert len(stored(store.url)) == 2
        assert list(report(folder, "second.csv")[0]) == list(report(folder, "first.csv")[0])

    @pytest.mark.usefixtures("sqlite_store")
    def test_a_corrected_report_of_json_lines_has_the_fields_of_all_rows(
        self, run: Command, folder: Path, write: Callable[..., None]
    ) -> None:
        objects: Sequence[dict[str, object]] = [
            {"advertiser_id": 1001, "email": "maya@example.com"},
            {"advertiser_id": 1001, "email": "kai@example.com", "mobile": "+46 8"},
            {"advertiser_id": 1001, "email": "noor", "jobTitle": "Buyer", "name": "Noor"},
        ]
        write(*map(json.dumps, objects), name="contacts.jsonl")
        run("contacts", "import", "contacts.jsonl", "--report", "first.csv")
        text = (folder / "first.csv").read_text(encoding="utf-8-sig")
        (folder / "first.csv").write_text(text.replace(",noor,", ",noor@example.com,"), "utf-8")

        result = run("contacts", "import", "first.csv", "--report", "second.csv")

        assert result.exit_code == 0
        assert [outcome for _, outcome in outcomes(folder, "second.csv")] == [
            *["exists"] * 2,
            "created",
        ]
        exported = run("contacts", "export", "-", "--format", "jsonl").stdout.splitlines()
        noor = json.loads(exported[-1])
        assert (noor["name"], noor["job_title"]) == ("Noor", "Buyer")

    @pytest.mark.usefixtures("sqlite_store")
    def test_cells_are_as_in_the_file_and_run_in_no_spreadsheet(
        self, run: Command, folder: Path, write: Callable[..., None]
    ) -> None:
        write("advertiser_id,email,name,Note", '1001,maya@example.com,"=1+1",@x')

        run(*IMPORT)

        (row,) = report(folder)
        assert (row["name"], row["Note"]) == ("'=1+1", "'@x")

    @pytest.mark.usefixtures("sqlite_store")
    def test_the_first_refused_rows_are_listed_by_line_and_column(
        self, run: Command, write: Callable[..., None]
    ) -> None:
        write("Advertiser ID,Mail", *["1001,nobody"] * 12)

        result = run("contacts", "import", "contacts.csv")

        assert "Line 2: invalid, `Mail`\n" in result.stderr
        assert "Line 11: invalid, `Mail`\n… --report lists all rows.\n" in result.stderr
        assert "nobody" not in result.stderr

    @pytest.mark.usefixtures("sqlite_store")
    def test_the_refused_rows_of_a_long_file_are_listed_no_further(
        self, run: Command, write: Callable[..., None]
    ) -> None:
        write("Advertiser ID,Mail", *["1001,nobody"] * 1100)

        result = run("contacts", "import", "contacts.csv")

        assert result.stderr.count("Line ") == 10
        assert result.stderr.endswith("       1,100 invalid\n")

    @pytest.mark.usefixtures("sqlite_store")
    @pytest.mark.parametrize(
        ("target", "message"),
        [
            ("contacts.csv", "It is the file that is imported."),
            ("report.txt", "Use a file that ends in .csv."),
        ],
    )
    def test_an_unusable_report_is_refused(
        self, run: Command, folder: Path, write: Callable[..., None], target: str, message: str
    ) -> None:
        write(HEADER, MAYA)

        result = run("contacts", "import", "contacts.csv", "--report", target)

        assert result.exit_code == 2
        assert message in " ".join(result.stderr.replace("│", " ").split())
        assert (folder / "contacts.csv").read_text(encoding="utf-8") == f"{HEADER}\n{MAYA}\n"

    @pytest.mark.usefixtures("sqlite_store")
    @pytest.mark.parametrize(
        ("target", "message"),
        [
            ("missing/report.csv", "No such file or directory"),
            (f"{'a' * 249}.csv", "File name too long"),
        ],
        ids=["folder", "name"],
    )
    def test_a_report_that_cannot_be_written_ends_the_import(
        self, run: Command, write: Callable[..., None], target: str, message: str
    ) -> None:
        write(HEADER, MAYA)

        result = run("contacts", "import", "contacts.csv", "--report", target)

        assert result.exit_code == 2
        assert result.stderr == f"Error: {target}: {message}.\n"


def test_a_file_that_is_gone_after_the_arguments_are_read_is_refused(folder: Path) -> None:
    with pytest.raises(ContactFileError, match=r"contacts\.csv: No such file or directory\."):
        opened(folder / "contacts.csv", None).__enter__()


@pytest.mark.usefixtures("sqlite_store")
@pytest.mark.parametrize(
    ("file", "error"),
    [
        ("-", "Standard input is closed."),
        (
            "contacts.csv --through https://contacts.example",
            "GATEWAY_API_KEY is not set. Put the API key of a gateway admin into it.",
        ),
    ],
    ids=["file", "key"],
)
def test_nothing_is_read_from_a_closed_standard_input(
    folder: Path, write: Callable[..., None], file: str, error: str
) -> None:
    write(HEADER, MAYA)

    result = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -m contact_gateway contacts import {file} <&-"],  # noqa: S607
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=WATCHDOG_SECONDS,
        check=False,
    )

    assert (result.returncode, result.stderr) == (2, f"Error: {error}\n")


@pytest.mark.usefixtures("sqlite_store")
@pytest.mark.parametrize(
    ("lines", "arguments", "message"),
    [
        ((), (), "The file is empty."),
        (("name,email", "x,y"), (), "No column means `advertiser_id` or `advertiser`."),
        ((HEADER,), ("--map", "x=email"), "The file has no column `x`."),
        ((HEADER,), ("--map", "email"), "write COLUMN=FIELD."),
        (
            (HEADER,),
            ("--map", "x=email", "--map", "x=name"),
            "x=name: the column has another field already.",
        ),
        ((HEADER,), ("--through", "http://contacts.example"), "it must start with https://"),
        ((HEADER,), ("--through", "https://contacts.example"), "GATEWAY_API_KEY is not set."),
    ],
    ids=["empty", "columns", "map", "map-form", "map-twice", "clear-text", "key"],
)
def test_what_cannot_be_imported_ends_with_status_2(
    run: Command,
    write: Callable[..., None],
    lines: Sequence[str],
    arguments: Sequence[str],
    message: str,
) -> None:
    write(*lines)

    result = run("contacts", "import", "contacts.csv", *arguments)

    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())


def _process_environment(**variables: str) -> dict[str, str]:
    return {**clean_environment(), **variables}


SAYS_WHEN_IT_BEGINS = """
import sys
from contact_gateway import __main__
from contact_gateway.contact_files.importing import Import

def run(importing, rows):
    print("begins", file=sys.stderr, flush=True)
    return original(importing, rows)

original, Import.run = Import.run, run
__main__.run()
"""


async def _import_process(
    folder: Path, *arguments: str, program: str | None = None, **variables: str
) -> asyncio.subprocess.Process:
    command = ("-m", "contact_gateway") if program is None else ("-c", program)
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *(*command, "contacts", "import", *arguments),
        cwd=folder,
        env=_process_environment(**variables),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@pytest.mark.anyio
class TestProcesses:
    async def test_standard_input_is_imported(self, folder: Path) -> None:
        store = filled_store(folder)
        process = await _import_process(folder, "-", CONTACT_GATEWAY_DATABASE_URL=store.url)

        _, errors = await process.communicate(f"{HEADER}\n{MAYA}\n".encode())

        assert process.returncode == 0
        assert errors.endswith(b"           1 created\n")

    async def test_two_imports_of_one_file_at_once_double_nothing(
        self, folder: Path, database_url: str, write: Callable[..., None]
    ) -> None:
        store = await filled_store_at(database_url, folder)
        write(HEADER, *(f"1001,{n}@example.com,," for n in range(2000)))

        processes = [
            await _import_process(
                folder,
                *("contacts.csv", "--report", f"{n}.csv"),
                CONTACT_GATEWAY_DATABASE_URL=store.url,
            )
            for n in range(2)
        ]
        await asyncio.gather(*(process.communicate() for process in processes))

        assert [process.returncode for process in processes] == [0, 0]
        rows = await asyncio.to_thread(stored, store.url)
        assert len(rows) == 2000
        first, second = (
            [row["import_contact_id"] for row in report(folder, f"{n}.csv")] for n in range(2)
        )
        assert first == second
        created = [outcome for n in range(2) for _, outcome in outcomes(folder, f"{n}.csv")].count(
            "created"
        )
        assert created == 2000

    @pytest.mark.parametrize(
        "signals",
        [(signal.SIGINT,), (signal.SIGTERM, signal.SIGTERM), (signal.SIGHUP, signal.SIGHUP)],
        ids=["SIGINT", "SIGTERM twice", "SIGHUP twice"],
    )
    async def test_an_interrupt_finishes_the_rows_in_flight_and_is_continued(
        self, folder: Path, write: Callable[..., None], signals: Sequence[signal.Signals]
    ) -> None:
        write(HEADER, *(f"1001,{n}@example.com,," for n in range(120)))
        async with fake_hienergy() as hienergy:
            variables = {
                "CONTACT_GATEWAY_UPSTREAM_URL": hienergy.url,
                "CONTACT_GATEWAY_DATABASE_URL": filled_store(folder).url,
                "HIENERGY_API_KEY": KEY,
            }
            hienergy.upstream.gate.clear()
            process = await _import_process(
                folder, "contacts.csv", "--report", "report.csv", **variables
            )
            async with asyncio.timeout(WATCHDOG_SECONDS):
                await hienergy.upstream.is_connected.wait()
                first, *repeated = signals
                process.send_signal(first)
                assert process.stderr is not None
                stopping = await process.stderr.readline()
                for number in repeated:
                    process.send_signal(number)
                hienergy.upstream.gate.set()
                _, errors = await process.communicate()

            assert b"Stopping after the rows that are in flight." in stopping
            assert process.returncode == 128 + first
            assert b"Interrupted. The same command continues the import." in errors
            assert len(outcomes(folder, "report.csv.partial")) == 50
            assert len(hienergy.contacts) == 50
            assert not (folder / "report.csv").exists()

            again = await _import_process(
                folder, "contacts.csv", "--report", "report.csv", **variables
            )
            await again.communicate()

        assert again.returncode == 0
        assert len(hienergy.contacts) == 120
        assert [outcome for _, outcome in outcomes(folder)] == [
            *["exists"] * 50,
            *["created"] * 70,
        ]
        assert not (folder / "report.csv.partial").exists()

    @pytest.mark.parametrize("rows", [1, 1100], ids=["before a chunk", "after a chunk"])
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    async def test_a_signal_ends_an_import_whose_pipe_has_no_further_rows(
        self, folder: Path, rows: int, number: signal.Signals
    ) -> None:
        # The import begins after the mebibyte that the encoding is recognised by.
        padding = "x" * (HEAD_SIZE // rows)
        lines = (f"{HEADER},Notes", *(f"1001,{n}@example.com,,,{padding}" for n in range(rows)))
        process = await _import_process(
            folder,
            *("-", "--format", "csv", "--report", "report.csv"),
            program=SAYS_WHEN_IT_BEGINS,
            CONTACT_GATEWAY_DATABASE_URL=filled_store(folder).url,
        )
        assert process.stdin is not None
        assert process.stderr is not None
        async with asyncio.timeout(WATCHDOG_SECONDS):
            process.stdin.write("".join(f"{line}\n" for line in lines).encode())
            assert await process.stderr.readline() == b"begins\n"
            process.send_signal(number)
            # Its input stays open.
            errors = await process.stderr.read()
            status = await process.wait()
        process.stdin.close()

        assert status == 128 + number
        assert b"Interrupted. The same command continues the import." in errors
        assert b"Traceback" not in errors


@pytest.mark.anyio
class TestInFrontOfHiEnergy:
    @pytest.fixture(autouse=True)
    def settings(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HIENERGY_API_KEY", KEY)
        monkeypatch.setenv("CONTACT_GATEWAY_DATABASE_URL", filled_store(folder).url)

    async def test_rows_are_created_and_repeats_create_no_others(
        self,
        run: Command,
        folder: Path,
        write: Callable[..., None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        write(HEADER, MAYA, KAI, "77,a@example.com,,")
        async with fake_hienergy() as hienergy:
            monkeypatch.setenv("CONTACT_GATEWAY_UPSTREAM_URL", hienergy.url)
            command = partial(run, *IMPORT)

            first = await asyncio.to_thread(command)
            first_outcomes = [outcome for _, outcome in outcomes(folder)]
            second = await asyncio.to_thread(command)

        assert (first.exit_code, second.exit_code) == (1, 1)
        assert first_outcomes == ["created", "created", "not_found"]
        assert [outcome for _, outcome in outcomes(folder)] == ["exists", "exists", "not_found"]
        assert len(hienergy.contacts) == 2

    async def test_the_import_waits_for_the_next_hour_and_ends(
        self,
        run: Command,
        folder: Path,
        write: Callable[..., None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        write(HEADER, *(f"1001,{n}@example.com,," for n in range(20)))
        traits = Traits(calls_per_hour=25, reset_in_seconds_from_now=True)
        hour = datetime(2026, 1, 31, 10, tzinfo=UTC)
        async with fake_hienergy(traits) as hienergy:
            # One second is left of each hour until its calls are used up.
            hienergy.now = lambda: (
                hour + timedelta(hours=len(hienergy.requests) // 26, minutes=59, seconds=59)
            )
            monkeypatch.setenv("CONTACT_GATEWAY_UPSTREAM_URL", hienergy.url)

            result = await asyncio.to_thread(run, *IMPORT)

        assert result.exit_code == 0
        assert "HiEnergy's hourly limit is reached. Waiting until " in result.stderr
        assert [outcome for _, outcome in outcomes(folder)] == ["created"] * 20
        assert len(hienergy.contacts) == 20

    async def test_a_lost_answer_is_reported_as_unknown_and_not_sent_again(
        self,
        run: Command,
        folder: Path,
        write: Callable[..., None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        write(HEADER, MAYA, KAI)
        async with fake_hienergy() as hienergy:
            hienergy.faults.append(Fault.CLOSED_AFTER)
            monkeypatch.setenv("CONTACT_GATEWAY_UPSTREAM_URL", hienergy.url)

            result = await asyncio.to_thread(run, *IMPORT)

        assert result.exit_code == 1
        assert [outcome for _, outcome in outcomes(folder)] == ["unknown", "created"]
        assert len(hienergy.creations) == 2

    async def test_a_refused_key_ends_the_import_at_once(
        self,
        run: Command,
        folder: Path,
        write: Callable[..., None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        write(HEADER, *(f"1001,{n}@example.com,," for n in range(200)))
        async with fake_hienergy() as hienergy:
            monkeypatch.setenv("CONTACT_GATEWAY_UPSTREAM_URL", hienergy.url)
            monkeypatch.setenv("HIENERGY_API_KEY", MEMBER_KEY)

            result = await asyncio.to_thread(run, *IMPORT)

        assert result.exit_code == 2
        assert "Admin access required. The same command continues the import." in result.stderr
        assert outcomes(folder, "report.csv.partial") == []
        assert len(hienergy.creations) == 0


class TestThroughAGateway:
    @pytest.fixture
    def gateway(self, folder: Path, store: Store) -> Iterator[GatewayProcess]:
        with gateway_process(folder, store=store) as process:
            yield process

    @pytest.fixture
    def through(
        self,
        run: Command,
        gateway: GatewayProcess,
        store: Store,
        monkeypatch: pytest.MonkeyPatch,
    ) -> Command:
        """Return the command, with an admin's key and without a database of its own."""
        monkeypatch.setenv("GATEWAY_API_KEY", store.keys["admin"])
        monkeypatch.setenv("CONTACT_GATEWAY_DATABASE_URL", "sqlite:///missing/folder.sqlite3")

        def run_through(*arguments: str) -> Result:
            return run(
                *IMPORT,
                *("--through", gateway.address, *arguments),
            )

        return run_through

    def test_rows_have_the_outcomes_of_the_database(
        self, through: Command, folder: Path, store: Store, write: Callable[..., None]
    ) -> None:
        write(
            "advertiser,email,name",
            "1001,maya@example.com,Maya",
            "1001,MAYA@example.com,Maya",
            "northwind,maya@example.com,M.",
            "1001,nobody,",
            "77,a@example.com,",
            "nowhere,a@example.com,",
        )

        result = through()

        assert result.exit_code == 1
        rows = report(folder)
        assert [row["import_outcome"] for row in rows] == [
            "created",
            "exists",
            "conflict",
            "invalid",
            "not_found",
            "not_found",
        ]
        ((contact_id, *_),) = stored(store.url)
        assert [row["import_contact_id"] for row in rows[:3]] == [str(contact_id)] * 3
        assert rows[3]["problem_email"]
        assert "use --resolve-names" in rows[5]["problem_advertiser"]

    def test_the_same_command_again_finds_all_rows_there(
        self, through: Command, folder: Path, store: Store, write: Callable[..., None]
    ) -> None:
        write(HEADER, *(f"1001,{n}@example.com,," for n in range(250)))
        assert through().exit_code == 0
        before = stored(store.url)

        result = through()

        assert result.exit_code == 0
        assert [outcome for _, outcome in outcomes(folder)] == ["exists"] * 250
        assert stored(store.url) == before
        assert len(before) == 250

    def test_a_dry_run_creates_nothing(
        self, through: Command, folder: Path, store: Store, write: Callable[..., None]
    ) -> None:
        write(HEADER, MAYA)

        assert through("--dry-run").exit_code == 0

        assert outcomes(folder) == [("2", "checked")]
        assert stored(store.url) == []

    def test_a_refused_key_ends_the_import(
        self,
        through: Command,
        store: Store,
        write: Callable[..., None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        write(HEADER, MAYA)
        monkeypatch.setenv("GATEWAY_API_KEY", store.keys["member"])

        result = through()

        assert result.exit_code == 2
        assert "Only an admin's API key may create contacts." in result.stderr


def test_a_gateway_that_takes_fewer_rows_gets_fewer(
    run: Command, folder: Path, write: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled_store(folder)
    write(HEADER, *(f"1001,{n}@example.com,," for n in range(120)))
    monkeypatch.setenv("GATEWAY_API_KEY", store.keys["admin"])
    settings = {"CONTACT_GATEWAY_MAX_BATCH_SIZE": "30"}
    with gateway_process(folder, store=store, environment=settings) as gateway:
        result = run("contacts", "import", "contacts.csv", "--through", gateway.address)

    assert result.exit_code == 0
    assert len(stored(store.url)) == 120


@pytest.mark.anyio
async def test_an_import_through_a_gateway_waits_for_its_hourly_limit(
    run: Command, folder: Path, write: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(HEADER, MAYA)
    created = {"data": [{"index": 0, "status": 201, "data": {"id": "7"}, "meta": {}}]}
    answers = iter(
        [
            recorded(429, "{}", headers={"Retry-After": "1"}),
            recorded(200, json.dumps(created)),
        ]
    )
    async with recorded_upstream(lambda _: next(answers)) as gateway:
        monkeypatch.setenv("GATEWAY_API_KEY", "key")
        base_url = gateway.url.removesuffix("/api/v1")

        result = await asyncio.to_thread(
            run,
            *IMPORT,
            *("--through", base_url),
        )

    assert result.exit_code == 0
    assert "The gateway's hourly limit is reached. Waiting until " in result.stderr
    assert [row["import_contact_id"] for row in report(folder)] == ["7"]
    first, second = gateway.requests
    assert first.body == second.body
    assert b'"idempotency_key":"import-' in first.body


@pytest.mark.anyio
async def test_a_url_that_is_no_gateway_ends_the_import(
    run: Command, write: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(HEADER, MAYA)
    answer = recorded(404, "<html>", media_type="text/html")
    async with recorded_upstream(lambda _: answer) as other:
        monkeypatch.setenv("GATEWAY_API_KEY", "key")

        result = await asyncio.to_thread(
            run, "contacts", "import", "contacts.csv", "--through", other.url
        )

    assert result.exit_code == 2
    assert "The gateway responds with 404." in result.stderr
