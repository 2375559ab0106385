"""`contact-gateway contacts export`: all contacts in a file or on standard output."""

import asyncio
import csv
import json
import signal
import stat
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from typer.testing import CliRunner

from contact_gateway.access.principals import Credential
from contact_gateway.cli import main
from contact_gateway.contacts.contact import NewContact, new_contact
from contact_gateway.contacts.outcomes import Created
from contact_gateway.contacts.source import Creation
from contact_gateway.store.source import SqlSource, StoreAccess
from support.clock import WATCHDOG_SECONDS
from support.databases import database_at
from support.gateway import Store, filled_store_at
from support.hienergy import Traits, fake_hienergy
from support.process import Command, clean_environment
from support.upstream import KEY, recorded, recorded_upstream

MAYA = {
    "advertiser_id": 2001,
    "email": "maya@example.com",
    "given_name": "Maya",
    "family_name": "Lindqvíst",
    "phone": "+46 8 123 45 67",
}
KAI = {"advertiser_id": 1002, "email": "kai@example.com", "name": "=1+1"}


@pytest.fixture
def store(folder: Path, database_url: str) -> Store:
    """Return a database of each engine with two contacts, which the commands use."""
    return asyncio.run(_store(folder, database_url))


async def _store(folder: Path, url: str) -> Store:
    store = await filled_store_at(url, folder)
    database = database_at(url)
    source = SqlSource(database)
    access = await source.authenticate(Credential.of(store.keys["admin"]))
    assert isinstance(access, StoreAccess)
    for raw in (MAYA, KAI):
        contact = new_contact(raw)
        assert isinstance(contact, NewContact)
        outcome = await access.create_contact(Creation(contact, None, dry_run=False))
        assert isinstance(outcome, Created)
    await source.close()
    await database.close()
    return store


def _rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(text, newline="")))


def _names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


@pytest.mark.usefixtures("store")
class TestOfTheDatabase:
    def test_a_csv_file_is_for_spreadsheets(self, run: Command, folder: Path) -> None:
        result = run("contacts", "export", "contacts.csv")

        assert (result.exit_code, result.stdout) == (0, "")
        assert result.stderr.endswith("Exported 2 contacts.\n")
        content = (folder / "contacts.csv").read_bytes()
        assert content.startswith(b"\xef\xbb\xbfid,advertiser_id,advertiser_name,email,name,")
        maya, kai = _rows(content.decode("utf-8-sig"))
        assert maya["advertiser_id"] == "1001"
        assert maya["advertiser_name"] == "Northwind Outfitters"
        assert maya["name"] == "Maya Lindqvíst"
        assert maya["phone"] == "'+46 8 123 45 67"
        assert kai["name"] == "'=1+1"

    def test_json_lines_have_the_same_names(self, run: Command, folder: Path) -> None:
        assert run("contacts", "export", "contacts.jsonl").exit_code == 0
        assert run("contacts", "export", "contacts.csv").exit_code == 0

        lines = (folder / "contacts.jsonl").read_text(encoding="utf-8").splitlines()
        maya, kai = map(json.loads, lines)
        text = (folder / "contacts.csv").read_text(encoding="utf-8-sig")
        assert list(maya) == list(_rows(text)[0])
        assert (maya["advertiser_id"], maya["phone"], maya["status"]) == (1001, MAYA["phone"], None)
        assert int(maya["id"]) < int(kai["id"])

    def test_standard_output_has_csv_without_a_mark(self, run: Command, folder: Path) -> None:
        before = _names(folder)

        result = run("contacts", "export", "-")

        assert result.exit_code == 0
        assert [row["email"] for row in _rows(result.stdout)] == [MAYA["email"], KAI["email"]]
        assert result.stdout.startswith("id,")
        assert _names(folder) == before

    @pytest.mark.usefixtures("run")
    @pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
    def test_standard_output_is_utf_8_in_any_locale(self, encoding: str) -> None:
        result = CliRunner(charset=encoding).invoke(main, ("contacts", "export", "-"))

        assert result.exit_code == 0
        maya, _ = _rows(result.stdout_bytes.decode())
        assert maya["family_name"] == MAYA["family_name"]

    def test_standard_output_has_json_lines_on_request(self, run: Command) -> None:
        result = run("contacts", "export", "-", "--format", "jsonl")

        emails = [json.loads(line)["email"] for line in result.stdout.splitlines()]
        assert emails == [MAYA["email"], KAI["email"]]

    @pytest.mark.parametrize("name", ["1001", "2001", "northwind", "Northwind Outfitters"])
    def test_one_brand_is_selected_by_any_of_its_records(self, run: Command, name: str) -> None:
        result = run("contacts", "export", "-", "--advertiser", name)

        assert [row["email"] for row in _rows(result.stdout)] == [MAYA["email"]]
        assert result.stderr.endswith("Exported 1 contact.\n")

    def test_candidates_are_listed_if_several_brands_match(
        self, run: Command, folder: Path
    ) -> None:
        before = _names(folder)

        result = run("contacts", "export", "contacts.csv", "--advertiser", "e")

        assert result.exit_code == 1
        assert "1001  Northwind Outfitters  HiEnergy  northwind.example\n" in result.stderr
        assert "1002  Kestrel  HiEnergy\n" in result.stderr
        assert "--advertiser: Several advertisers match." in result.stderr
        assert _names(folder) == before

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("77", "--advertiser: No advertiser has this id, slug, domain or name."),
            ("3001", "Advertiser 3001 has no HiEnergy advertiser, so it has no contacts."),
        ],
    )
    def test_an_advertiser_without_contacts_is_an_error(
        self, run: Command, folder: Path, name: str, message: str
    ) -> None:
        result = run("contacts", "export", "contacts.csv", "--advertiser", name)

        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == f"Error: {message}\n"
        assert not (folder / "contacts.csv").exists()

    def test_a_file_is_replaced_only_when_forced(self, run: Command, folder: Path) -> None:
        file = folder / "contacts.csv"
        file.write_text("precious", encoding="utf-8")

        refused = run("contacts", "export", "contacts.csv")

        assert refused.exit_code == 1
        assert refused.stderr == "Error: contacts.csv exists. Use --force to replace it.\n"
        assert file.read_text(encoding="utf-8") == "precious"
        assert run("contacts", "export", "contacts.csv", "--force").exit_code == 0
        assert len(_rows(file.read_text(encoding="utf-8-sig"))) == 2
        assert stat.S_IMODE(file.stat().st_mode) == 0o600

    def test_no_address_is_on_standard_error(self, run: Command) -> None:
        result = run("contacts", "export", "contacts.csv")

        assert "@" not in result.stderr


@pytest.mark.usefixtures("database_url")
def test_an_empty_database_has_the_heading_alone(run: Command) -> None:
    result = run("contacts", "export", "-")

    assert result.stdout.startswith("id,advertiser_id,")
    assert _rows(result.stdout) == []
    assert result.stderr.endswith("Exported 0 contacts.\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("contacts.txt",), "'FILE': Use a file that ends in .csv or .jsonl, or - for standard"),
        (("contacts.csv", "--format", "csv"), "'--format': It is for standard output."),
        (("-", "--advertiser", " "), "is required"),
    ],
    ids=["ending", "format", "advertiser"],
)
def test_wrong_arguments_are_refused(
    run: Command, folder: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = run("contacts", "export", *arguments)

    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert _names(folder) == []


@pytest.mark.anyio
class TestOfHiEnergy:
    @pytest.fixture(autouse=True)
    def key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HIENERGY_API_KEY", KEY)

    async def test_all_pages_are_exported_without_a_database(
        self, run: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with fake_hienergy(Traits(page_cap=3, odd_rows=True)) as hienergy:
            monkeypatch.setenv("CONTACT_GATEWAY_UPSTREAM_URL", hienergy.url)
            for number in range(7):
                hienergy.add(f"c{number}@example.com", name="+1")

            result = await asyncio.to_thread(run, "contacts", "export", "contacts.csv")

        assert (result.exit_code, result.stdout) == (0, "")
        assert result.stderr.endswith(
            "Exported 7 contacts.\nLeft out 2 rows without an id or an advertiser.\n"
        )
        assert "@" not in result.stderr
        assert _names(folder) == ["contacts.csv"]
        rows = _rows((folder / "contacts.csv").read_text(encoding="utf-8-sig"))
        assert sorted(row["email"] for row in rows) == [f"c{n}@example.com" for n in range(7)]
        assert {row["name"] for row in rows} == {"'+1"}

    async def test_standard_output_has_nothing_but_contacts(
        self, run: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with fake_hienergy(Traits(odd_rows=True)) as hienergy:
            monkeypatch.setenv("CONTACT_GATEWAY_UPSTREAM_URL", hienergy.url)
            hienergy.add("maya@example.com")

            result = await asyncio.to_thread(
                run, "contacts", "export", "-", "--format", "jsonl", "--advertiser", "northwind"
            )

        assert [json.loads(line)["email"] for line in result.stdout.splitlines()] == [
            "maya@example.com"
        ]

    @pytest.mark.parametrize(
        ("status", "message"),
        [
            (401, "HiEnergy refuses page 1: HiEnergy does not accept this API key."),
            (503, "CONTACT_GATEWAY_UPSTREAM_URL: HiEnergy does not answer: "),
        ],
    )
    async def test_a_refusal_leaves_no_file(
        self,
        run: Command,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        status: int,
        message: str,
    ) -> None:
        answer = recorded(status, "", headers={"Retry-After": "7"})
        async with recorded_upstream(lambda _: answer) as upstream:
            monkeypatch.setenv("CONTACT_GATEWAY_UPSTREAM_URL", upstream.url)

            result = await asyncio.to_thread(run, "contacts", "export", "contacts.csv")

        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.splitlines()[-1].startswith(f"Error: {message}")
        assert _names(folder) == []

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    async def test_an_interrupted_export_leaves_no_file(
        self, folder: Path, number: signal.Signals
    ) -> None:
        async with fake_hienergy() as hienergy:
            hienergy.upstream.gate.clear()
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "contact_gateway", "contacts", "export", "contacts.csv"),
                cwd=folder,
                env={
                    **clean_environment(),
                    "CONTACT_GATEWAY_UPSTREAM_URL": hienergy.url,
                    "HIENERGY_API_KEY": KEY,
                },
                stderr=subprocess.PIPE,
            )
            async with asyncio.timeout(WATCHDOG_SECONDS):
                await hienergy.upstream.is_connected.wait()
                (partial,) = _names(folder)
                process.send_signal(number)
                _, errors = await process.communicate()

        assert partial.endswith(".partial")
        assert process.returncode == 128 + number
        assert b"Traceback" not in errors
        assert _names(folder) == []
