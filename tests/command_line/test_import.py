"""`contact-gateway advertisers import`: a file is imported completely or not at all."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from contact_gateway.app import create_app
from contact_gateway.settings import load_settings
from support.clock import WATCHDOG_SECONDS
from support.process import Command, clean_environment

Names = Callable[[], dict[str, str]]
HEADER = "id,name,display_name,slug,domain,network_name,publisher_name,status,hienergy_id"
CSV = f"{HEADER}\n1,Tern,,,tern.example,HiEnergy,,active,\n2,Tern US,,,,CJ,,active,1\n"
JSONL = (
    '{"id": 1, "name": "Tern", "network_name": "HiEnergy"}\n'
    "\n"
    '{"id": "2", "name": "Tern US", "network_name": "CJ", "hienergy_id": 1}\n'
)


@pytest.fixture
def names(run: Command) -> Names:
    """Return a function that reads the advertisers' names by id, as a caller does."""

    async def fetch(key: str) -> dict[str, str]:
        app = create_app(load_settings())
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(
                transport=httpx.ASGITransport(app),
                base_url="http://gateway",
                headers={"X-Api-Key": key},
            ) as client,
        ):
            page = (await client.get("/api/v1/advertisers", params={"per_page": 100})).json()
        return {record["id"]: record["attributes"]["name"] for record in page["data"]}

    def read() -> dict[str, str]:
        key = run("keys", "create", "--role", "member", "--label", "reader").stdout.strip()
        return asyncio.run(fetch(key))

    return read


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("catalogue.csv", CSV),
        ("catalogue.jsonl", JSONL),
        pytest.param("CATALOGUE.CSV", CSV, id="ending in capitals"),
        pytest.param("bom.csv", "\ufeff" + CSV, id="CSV with a byte order mark"),
        pytest.param("bom.jsonl", "\ufeff" + JSONL, id="JSONL with a byte order mark"),
        pytest.param("dos.csv", CSV.replace("\n", "\r\n"), id="CSV with CRLF"),
        pytest.param("last.csv", CSV.removesuffix("\n"), id="CSV without a last line break"),
    ],
)
def test_a_file_is_imported(run: Command, names: Names, folder: Path, file: str, text: str) -> None:
    (folder / file).write_bytes(text.encode())

    result = run("advertisers", "import", file)

    assert (result.exit_code, result.stdout) == (0, "")
    assert "Imported 2 advertisers: 2 new, 0 changed, 0 unchanged." in result.stderr
    assert names() == {"1": "Tern", "2": "Tern US"}


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("second.csv", "id,name,network_name\n1,Arctic Tern,HiEnergy\n3,Puffin,HiEnergy\n"),
        (
            "second.jsonl",
            (
                '{"id": 1, "name": "Arctic Tern", "network_name": "HiEnergy"}\n'
                '{"id": 3, "name": "Puffin", "network_name": "HiEnergy"}\n'
            ),
        ),
    ],
    ids=["CSV", "JSONL"],
)
def test_a_second_file_replaces_and_adds_but_removes_nothing(
    run: Command, names: Names, folder: Path, file: str, text: str
) -> None:
    (folder / "first.csv").write_text(CSV, encoding="utf-8")
    (folder / file).write_text(text, encoding="utf-8")
    run("advertisers", "import", "first.csv")

    result = run("advertisers", "import", file)

    assert result.exit_code == 0
    assert "Imported 2 advertisers: 1 new, 1 changed, 0 unchanged." in result.stderr
    assert names() == {"1": "Arctic Tern", "2": "Tern US", "3": "Puffin"}


def test_a_file_that_says_what_is_stored_changes_nothing(run: Command, folder: Path) -> None:
    (folder / "catalogue.csv").write_text(CSV, encoding="utf-8")
    run("advertisers", "import", "catalogue.csv")

    result = run("advertisers", "import", "catalogue.csv")

    assert result.exit_code == 0
    assert "Imported 2 advertisers: 0 new, 0 changed, 2 unchanged." in result.stderr


def test_a_network_record_may_name_a_later_record_or_one_of_an_earlier_file(
    run: Command, names: Names, folder: Path
) -> None:
    (folder / "first.csv").write_text(
        "id,name,network_name,hienergy_id\n2,Tern US,CJ,1\n1,Tern,HiEnergy,1\n", encoding="utf-8"
    )
    (folder / "second.csv").write_text(
        "id,name,network_name,hienergy_id\n4,Tern UK,Awin,1\n", encoding="utf-8"
    )

    assert run("advertisers", "import", "first.csv").exit_code == 0
    assert run("advertisers", "import", "second.csv").exit_code == 0

    assert names() == {"1": "Tern", "2": "Tern US", "4": "Tern UK"}


GOOD = "9,Auk,,,,HiEnergy,,,\n"


@pytest.mark.parametrize(
    ("file", "text", "line"),
    [
        pytest.param("x.csv", f"{HEADER}\n{GOOD}8,B,,,,CJ,,,77\n", 3, id="unknown hienergy_id"),
        pytest.param("x.csv", f"{HEADER}\n8,B,,,,CJ,,,2\n{GOOD}", 2, id="a network's hienergy_id"),
        pytest.param(
            "x.csv", f"{HEADER}\n{GOOD}8,B,,,,HiEnergy,,,9\n", 3, id="HiEnergy's of other"
        ),
        pytest.param("x.csv", f"{HEADER}\n{GOOD}{GOOD}", 3, id="an id twice"),
        pytest.param("x.csv", f"{HEADER}\n{GOOD}eight,B,,,,CJ,,,\n", 3, id="id not a number"),
        pytest.param("x.csv", f"{HEADER}\n{GOOD}{2**63},B,,,,CJ,,,\n", 3, id="id beyond 64 bits"),
        pytest.param("x.csv", f"{HEADER}\n{GOOD}8,,,,,CJ,,,\n", 3, id="no name"),
        pytest.param("x.csv", f"{HEADER}\n{GOOD}8,B,CJ\n", 3, id="too few columns"),
        pytest.param("x.csv", f"{HEADER}\n{GOOD}8,B,,,,CJ,,,,\n", 3, id="too many columns"),
        pytest.param(
            "x.csv",
            f'{HEADER}\n{GOOD}8,"B"C,,,,CJ,,,\n',
            3,
            id="wrong quotes",
        ),
        pytest.param("x.csv", f"{HEADER},colour\n{GOOD}", 1, id="unknown column"),
        pytest.param("x.csv", "id,name\n9,Auk\n", 1, id="missing column"),
        pytest.param("x.csv", "", 1, id="empty CSV"),
        pytest.param("x.jsonl", JSONL + '{"id": 8\n', 4, id="not JSON"),
        pytest.param("x.jsonl", JSONL + "[8]\n", 4, id="not an object"),
        pytest.param(
            "x.jsonl",
            JSONL + '{"id": 8, "name": "B", "network_name": "CJ", "hienergy_id": 77}\n',
            4,
            id="unknown hienergy_id in JSONL",
        ),
        pytest.param(
            "x.jsonl",
            JSONL + '{"id": 8, "name": "B", "network_name": "CJ", "colour": "red"}\n',
            4,
            id="unknown field",
        ),
    ],
)
def test_an_invalid_file_changes_nothing_and_the_line_is_named(
    run: Command, names: Names, file: str, text: str, line: int
) -> None:
    Path("first.csv").write_text(CSV.replace("Tern", "Skua"), encoding="utf-8")
    run("advertisers", "import", "first.csv")
    Path(file).write_text(text, encoding="utf-8")

    result = run("advertisers", "import", file)

    assert (result.exit_code, result.stdout) == (1, "")
    assert f"{file}: line {line}: " in result.stderr
    assert result.stderr.endswith("No advertiser was imported.\n")
    assert names() == {"1": "Skua", "2": "Skua US"}


def test_an_error_ends_with_one_full_stop(run: Command, folder: Path) -> None:
    (folder / "x.csv").write_text("id,name,network_name\nx,Tern,HiEnergy\n", encoding="utf-8")

    assert ".." not in run("advertisers", "import", "x.csv").stderr


@pytest.mark.parametrize("file", ["latin.csv", "latin.jsonl"])
def test_a_file_that_is_not_utf_8_is_refused_and_changes_nothing(
    run: Command, names: Names, folder: Path, file: str
) -> None:
    text = CSV if file.endswith(".csv") else JSONL
    (folder / file).write_bytes(text.replace("Tern US", "Café").encode("latin-1"))

    result = run("advertisers", "import", file)

    assert (result.exit_code, result.stdout) == (1, "")
    assert (
        f"{file}: not UTF-8. Save the file in UTF-8. No advertiser was imported." in result.stderr
    )
    assert names() == {}


@pytest.mark.parametrize("file", ["catalogue.xlsx", "catalogue", "catalogue.csv.gz"])
def test_another_file_type_is_refused_before_the_file_is_read(
    run: Command, folder: Path, file: str
) -> None:
    (folder / file).write_text(CSV, encoding="utf-8")

    result = run("advertisers", "import", file)

    assert (result.exit_code, result.stdout) == (2, "")
    assert ".csv or .jsonl" in result.stderr
    assert [path.name for path in folder.iterdir()] == [file]


def test_a_missing_file_exits_with_2(run: Command) -> None:
    assert run("advertisers", "import", "nowhere.csv").exit_code == 2


def test_an_import_that_finds_no_room_for_its_temporary_file_is_an_error(folder: Path) -> None:
    rows = "".join(f"{number},{'Tern' * 60},HiEnergy\n" for number in range(1, 40_001))
    (folder / "big.csv").write_text(f"id,name,network_name\n{rows}", encoding="utf-8")

    result = subprocess.run(
        (sys.executable, "-c", _WITHOUT_ROOM, "advertisers", "import", "big.csv"),
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        encoding="utf-8",
        timeout=WATCHDOG_SECONDS,
        check=False,
    )

    assert result.returncode == 1
    assert "SQLITE_TMPDIR" in result.stderr
    assert "Traceback" not in result.stderr


_WITHOUT_ROOM = """
import resource
import sys
from contact_gateway.cli import main
# Some Pythons leave truncated bytecode where it finds no room (gh-126606).
sys.dont_write_bytecode = True
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
main()
"""
