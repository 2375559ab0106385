"""The documentation is true: its examples run, and its tables are those of the code."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from itertools import takewhile
from pathlib import Path

import pytest
import typer.main

from contact_gateway.cli import main
from contact_gateway.contacts.outcomes import ErrorCode
from contact_gateway.contacts.problems import ProblemCode
from contact_gateway.faces.http import TransportCode
from contact_gateway.settings import Settings
from contact_gateway.telemetry.metrics import Metrics
from contact_gateway.variables import PREFIX
from support.documentation import (
    EXAMPLES,
    OUTPUTS,
    PAGES,
    ROOT,
    Runner,
    blocks_of,
    delete_contacts,
    examples_of,
)
from support.process import GatewayProcess, gateway_process
from support.upstream import UpstreamGateway

DOCS = ROOT / "docs"
SOURCE = ROOT / "src" / "contact_gateway"
IN_FRONT_OF_HIENERGY = DOCS / "upstream.md"
LINKING = [
    *PAGES,
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "examples" / "README.md",
    *sorted((ROOT / "examples").glob("*/README.md")),
    *sorted((ROOT / ".github").glob("*.md")),
]
# Blocks of these are not run: the tests have no container engine, cluster or service manager.
ENGINES = ("createuser ", "docker ", "kubectl ", "systemctl ", "useradd ")
BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def text(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def rows_of(markdown: str) -> list[list[str]]:
    """Return the rows of all tables, each as its cells."""
    rows = re.findall(r"^\| (.*) \|$", markdown, re.MULTILINE)
    return [re.split(r" \| ?", row) for row in rows]


def commands_of(command: object, *names: str) -> Iterator[tuple[str, set[str]]]:
    """Yield the names of all commands, such as `keys list`, with their options."""
    inner: Mapping[str, object] | None = getattr(command, "commands", None)
    if inner is None:
        options = (name for each in getattr(command, "params", ()) for name in each.opts)
        yield " ".join(names), {name for name in options if name.startswith("--")} - {"--help"}
    for name, child in (inner or {}).items():
        yield from commands_of(child, *names, name)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the site, built strictly: a broken link or anchor fails."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(ROOT / "mkdocs.yml", folder)
    shutil.copytree(DOCS, folder / "docs")
    built = subprocess.run(
        (Path(sys.executable).parent / "zensical", "build", "--clean", "--strict"),
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return folder / "site"


class TestExamples:
    @pytest.mark.usefixtures("curl")
    @pytest.mark.parametrize(
        "page", [page for page in PAGES if page != IN_FRONT_OF_HIENERGY], ids=name_of
    )
    def test_they_print_what_the_page_shows(
        self, page: Path, demo: GatewayProcess, demo_folder: Path, tmp_path: Path
    ) -> None:
        delete_contacts(demo_folder / "contact-gateway.sqlite3")

        with Runner.of_demo(tmp_path, demo) as runner:
            runner.run_page(page)

    @pytest.mark.usefixtures("curl")
    def test_in_front_of_hienergy(self, tmp_path: Path, upstream: UpstreamGateway) -> None:
        """Run the commands of the page with another address of HiEnergy's API."""
        serve, *calls = examples_of(IN_FRONT_OF_HIENERGY)
        command = serve.block.text.strip().replace("https://app.hienergy.ai/api/v1", upstream.url)
        ledger = {"CONTACT_GATEWAY_DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path}/l.sqlite3"}

        with gateway_process(
            tmp_path,
            environment=ledger,
            command=("sh", "-euc", f'cd "$0" && exec env {command} "$@"', str(ROOT)),
        ) as gateway:
            runner = Runner(tmp_path, gateway.address, {"admin": upstream.keys["admin"]})
            for call in calls:
                runner.check(call)
            again = runner.output_of(calls[-1].block)

        assert json.loads(again)["extensions"] == {"idempotentReplayed": ["createContact"]}
        assert upstream.contacts() == 1

    def test_every_block_is_run_or_shows_an_output(self) -> None:
        not_run = [
            block.place
            for block in BLOCKS
            if "not run" in block.notes and not block.text.startswith(ENGINES)
        ]
        unknown = {
            block.place
            for block in BLOCKS
            if block.language not in EXAMPLES | OUTPUTS and "file" not in block.notes
        }
        fences = sum(text(page.name).count("```") for page in PAGES)

        assert unknown == set()
        assert len(not_run) <= 2, not_run
        assert fences == 2 * len(BLOCKS), "a fence is indented, or has no language"

    def test_blocks_that_are_not_run_name_existing_files_and_commands(self) -> None:
        commands = dict(commands_of(typer.main.get_command(main)))
        lines = [
            shlex.split(line)
            for block in BLOCKS
            if "not run" in block.notes and block.text.startswith(ENGINES)
            for line in block.text.replace("\\\n", "").splitlines()
        ]
        files = {word for words in lines for word in words if word.startswith("deploy/")}
        run = [
            " ".join(takewhile(str.isalpha, words[index + 1 :]))
            for words in lines
            for index, word in enumerate(words)
            if re.fullmatch(r"(/opt/contact-gateway/bin/)?contact-gateway(:[\d.]+)?", word)
        ]

        assert [file for file in files if not (ROOT / file).is_file()] == []
        assert set(filter(None, run)) <= commands.keys()
        assert {"keys create", "advertisers import"} <= set(run)
        assert len(files) == 4

    def test_every_call_shows_its_answer(self) -> None:
        silent = [
            example.block.place
            for page in PAGES
            for example in examples_of(page)
            if example.output is None and "curl " in example.block.text
        ]

        assert silent == []

    def test_answers_without_a_call_are_envelopes_with_the_status_of_their_code(self) -> None:
        shown = [example.output for page in PAGES for example in examples_of(page)]
        alone = [block for block in BLOCKS if block.language == "http" and block not in shown]

        faces = "".join(file.read_text(encoding="utf-8") for file in SOURCE.glob("faces/*.py"))
        assert len(alone) == 3
        for block in alone:
            head, _, body = block.text.partition("\n\n")
            error = json.loads(body)["error"]
            assert int(head.split()[1]) == TransportCode[error["code"]].status
            assert error.keys() == {"code", "message", "timestamp", "request_id", "details"}
            # A number is a setting's value.
            assert all(words in faces for words in re.split(r"\d+", error["message"]))


class TestLinks:
    @pytest.mark.parametrize("page", LINKING, ids=name_of)
    def test_they_lead_somewhere(self, page: Path) -> None:
        content = page.read_text(encoding="utf-8")
        broken = [
            link
            for link in re.findall(r"\]\((?!https?:)([^)]+)\)", content)
            if not self.leads_somewhere(page, link)
        ]

        assert broken == []

    def leads_somewhere(self, page: Path, link: str) -> bool:
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not anchor:
            return target.exists()
        headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
        return anchor in {
            re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-")
            for heading in headings
        }


class TestTables:
    def test_the_settings_and_their_defaults_are_those_of_the_code(self) -> None:
        listed = {
            cells[0].strip("`"): cells[1]
            for cells in rows_of(text("configuration.md"))
            if cells[0].startswith(f"`{PREFIX}")
        }

        assert listed == {
            f"{PREFIX}{name.upper()}": self.default_of(name) for name in Settings.model_fields
        }

    def default_of(self, name: str) -> str:
        if name == "log_format":
            return "`console` in a terminal, else `json`"
        default: object = Settings.model_fields[name].default
        if default in {None, (), ""}:
            return "none"
        return f"`{str(default).lower() if isinstance(default, bool) else default}`"

    @pytest.mark.parametrize(
        "code", sorted({*ErrorCode, *TransportCode, "PERSISTED_QUERY_NOT_SUPPORTED"}), ids=str
    )
    def test_every_code_has_a_section_that_says_what_to_do(self, code: str) -> None:
        sections: list[str] = re.findall(
            rf"^### {code}(?::[^\n]*)?\n(.*?)(?=^##+ )",
            text("outcomes.md"),
            re.MULTILINE | re.DOTALL,
        )

        assert len(sections) == (2 if code == "NOT_FOUND" else 1)
        for section in sections:
            assert "**What to do.**" in section
            # No response has the status of an entry of a batch.
            assert ("```http" in section) is (code != ErrorCode.NOT_TRIED)

    def test_the_problem_codes_are_those_of_the_code(self) -> None:
        table = text("outcomes.md").partition("#### Problem codes")[2].partition("\n### ")[0]

        assert set(re.findall(r"^\| `([A-Z_]+)`", table, re.MULTILINE)) == set(ProblemCode)

    def test_the_metrics_are_those_of_the_code(self) -> None:
        shown = Metrics()._registry  # noqa: SLF001 - an empty one shows no labelled metrics
        names = {
            f"{metric.name}_total" if metric.type == "counter" else metric.name
            for metric in shown.collect()
        }
        listed = re.findall(r"^\| `(contact_gateway_\w+)`", text("operating.md"), re.MULTILINE)

        assert set(listed) == names

    def test_the_commands_and_their_options_are_those_of_the_command_line(self) -> None:
        (lines,) = (
            block.text.replace("\n ", "").splitlines()
            for block in blocks_of(DOCS / "operating.md")
            if block.text.startswith("contact-gateway serve [")
        )
        listed = {}
        for line in lines:
            words = takewhile(str.isalpha, line.split()[1:])
            listed[" ".join(filter(str.islower, words))] = set(re.findall(r"--[a-z-]+", line))

        assert listed == dict(commands_of(typer.main.get_command(main)))

    def test_the_code_map_names_existing_files_and_names(self) -> None:
        wrong: list[str] = []
        for cells in rows_of(text("code.md").partition("## A second operation")[0]):
            quoted = re.findall(r"`([^`]+)`", cells[1])
            paths = [SOURCE / name for name in quoted if not name.isidentifier()]
            code = "".join(path.read_text(encoding="utf-8") for path in paths if path.is_file())
            wrong += [str(path) for path in paths if not path.exists()]
            wrong += [
                name
                for name in quoted
                if name.isidentifier() and not re.search(rf"\b{name}\b", code)
            ]

        assert wrong == []


def test_the_imported_spreadsheet_is_the_file_of_the_examples() -> None:
    shown = {block.notes.get("file"): block.text for block in blocks_of(DOCS / "importing.md")}

    file = ROOT / "examples" / "import" / "contacts.csv"
    assert shown["contacts.csv"] == file.read_text(encoding="utf-8")


class TestSite:
    def test_it_has_every_page_and_finds_its_headings(self, site: Path) -> None:
        found = (site / "search.json").read_text(encoding="utf-8")

        assert {page.stem for page in PAGES} <= {page.stem for page in site.glob("*.html")}
        assert "Timeouts, retries and the circuit breaker" in found

    def test_it_loads_nothing_from_other_hosts(self, site: Path) -> None:
        loaded = re.compile(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"(https?:)?//[^\"]*")

        assert [page.name for page in site.glob("*.html") if loaded.search(page.read_text())] == []
