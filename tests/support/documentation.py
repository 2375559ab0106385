"""The examples of the documentation: read from its pages, run, and compared with what they show.

A fenced `sh` or `graphql` block is an example. The `http`, `json` or `text` block after
it shows its output, in which `…` stands for any text; times, ids and keys may differ. A comment
above the fence says how the block is treated:

    <!-- not run: REASON -->     it is not run
    <!-- file: NAME -->          it is the file of that name, for the examples after it
    <!-- key: member -->         the key of a GraphQL example, `none` for no key; else the admin's
    <!-- settings: NAME=1 -->    a gateway with these settings answers; in a value, LOSES_ANSWERS
                                 is an upstream API that answers no creation
    <!-- run twice -->           the output is the second run's
"""

import json
import os
import re
import shlex
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, chdir, closing, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Final, Self

import httpx
from typer.testing import CliRunner

from contact_gateway.cli import main
from support.process import GatewayProcess, clean_environment, gateway_process

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = sorted((ROOT / "docs").glob("*.md"))

_FENCED: Final = re.compile(
    r"(?:^<!-- (?P<notes>[^\n]+) -->\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_COMMAND: Final = re.compile(
    r"^(?P<settings>(?:[A-Z_]+=\S+ )*)contact-gateway (?P<arguments>.*)$", re.MULTILINE
)
_ADDRESS: Final = "http://127.0.0.1:8000"
_RUNTIME_FOLDER: Final = "/run/contact-gateway"
EXAMPLES: Final = frozenset({"sh", "graphql"})
OUTPUTS: Final = frozenset({"http", "json", "text"})
# What differs from run to run, and what stands for it in a comparison.
_VARIABLE: Final = (
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)", "(time)"),
    (r"\b[0-9a-f]{32}\b", "(request id)"),
    (r"\b\d{4}-\d\d-\d\d \d\d:\d\d\b", "(minute)"),
    (r'(?<=")\d{1,3}(?=")|(?<=/contacts/)\d{1,3}\b', "(contact id)"),
    # The seconds that are left of an hour.
    (r"\b3[56]\d\d\b", "3600"),
    # The seconds in which HiEnergy may still process a lost call.
    (r'(?<=[Ss]econds")(: ?)6[0-2]\b', r"\g<1>62"),
    # The seconds until the circuit breaker admits a call again.
    (r'(?<=[Ss]econds")(: ?)[1-9]\b', r"\g<1>1"),
)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page. `notes` are those of the comment above it."""

    page: Path
    line: int
    language: str
    text: str
    notes: Mapping[str, str]

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def is_run(self) -> bool:
        return self.language in EXAMPLES and "not run" not in self.notes

    @property
    def serves(self) -> bool:
        """Return whether the block starts a gateway, and so does not end by itself."""
        return re.search(r"(scripts/|contact-gateway )serve\b", self.text) is not None


@dataclass(frozen=True, slots=True)
class Example:
    """A block that is run, and the block that shows its output."""

    block: Block
    output: Block | None


def delete_contacts(file: Path) -> None:
    """Delete the contacts of a demo's database."""
    with closing(sqlite3.connect(file, timeout=30)) as connection, connection:
        connection.execute("DELETE FROM idempotency_records")
        connection.execute("DELETE FROM contacts")


def blocks_of(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page, in order."""
    content = page.read_text(encoding="utf-8")
    for match in _FENCED.finditer(content):
        notes = (note.partition(":") for note in (match["notes"] or "").split("; ") if note)
        yield Block(
            page,
            content.count("\n", 0, match.start("language")) + 1,
            match["language"],
            match["text"],
            {name: value.strip() for name, _, value in notes},
        )


def examples_of(page: Path) -> Iterator[Example]:
    """Yield the examples of a page, in order."""
    for block, following in pairwise((*blocks_of(page), None)):
        if block is not None and block.is_run:
            is_output = following is not None and following.language in OUTPUTS
            yield Example(block, following if is_output else None)


class Runner:
    """Runs examples against a gateway, in a folder of their own."""

    def __init__(self, folder: Path, address: str, keys: Mapping[str, str]) -> None:
        self._folder: Final = folder
        self._address: Final = address
        self._keys: Final = keys
        self._others: Final[dict[str, Runner]] = {}
        self._stack: Final = ExitStack()
        programs = folder / ".venv" / "bin"
        if not programs.exists():
            programs.parent.mkdir(parents=True)
            programs.symlink_to(Path(sys.executable).parent)
        self._environment: Final = {
            **clean_environment(),
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "API_KEY": keys["admin"],
            "MEMBER_KEY": keys.get("member", ""),
            "CONTACT_GATEWAY_DATABASE_URL": f"sqlite+aiosqlite:///{folder}/contacts.sqlite3",
        }

    @classmethod
    def of_demo(cls, folder: Path, demo: GatewayProcess) -> Self:
        """Return a runner against the demo."""
        return cls(folder, demo.address, {"admin": demo.admin_key, "member": demo.member_key})

    def __enter__(self) -> Self:
        """Start nothing yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the gateways that examples have asked for."""
        self._stack.close()

    def run_page(self, page: Path) -> None:
        """Write the files of a page, and run and check its examples in order."""
        for block in blocks_of(page):
            if "file" in block.notes:
                (self._folder / block.notes["file"]).write_text(block.text, encoding="utf-8")
        for example in examples_of(page):
            self.check(example)

    def check(self, example: Example) -> None:
        """Run an example, and compare its output with what the page shows."""
        block, shown = example.block, example.output
        if block.serves:
            self._serve(block)
            return
        runner = self._for(block.notes.get("settings", ""))
        output = ""
        for _ in range(2 if "run twice" in block.notes else 1):
            output = runner.output_of(block)
        if shown is not None:
            wanted = _read(shown.text, shown)
            actual = _as_shown(_read(output, shown), wanted)
            assert actual == wanted, f"{shown.place} shows another output:\n{output}"

    def output_of(self, block: Block) -> str:
        """Run a block, and return what it prints."""
        if block.language == "graphql":
            return self._execute(block)
        commands = list(_COMMAND.finditer(block.text))
        is_ours = len(commands) == len(block.text.splitlines())
        output, status = self._command_line(commands) if is_ours else self._shell(block)
        assert (status != 0) is output.startswith("Error: "), f"{block.place}\n{output}"
        return output

    def _command_line(self, commands: Sequence[re.Match[str]]) -> tuple[str, int]:
        """Run the gateway's own commands in this process, which is much quicker."""
        outside = [name for name in os.environ if name.startswith("CONTACT_GATEWAY_")]
        output, status = "", 0
        for command in commands:
            settings = dict(setting.split("=", 1) for setting in command["settings"].split())
            with chdir(self._folder):
                result = CliRunner().invoke(
                    main,
                    shlex.split(command["arguments"].replace(_ADDRESS, self._address)),
                    env={**dict.fromkeys(outside), **self._environment, **settings},
                    catch_exceptions=False,
                )
            output += result.output
            status = status or result.exit_code
        return output, status

    def _shell(self, block: Block) -> tuple[str, int]:
        completed = subprocess.run(
            ("/bin/sh", "-euc", block.text.replace(_ADDRESS, self._address)),
            cwd=ROOT if block.text.startswith("scripts/") else self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=60,
            check=False,
        )
        return completed.stdout, completed.returncode

    def _execute(self, block: Block) -> str:
        key = self._keys.get(block.notes.get("key", "admin"))
        response = httpx.post(
            f"{self._address}/graphql",
            json={"query": block.text},
            headers={} if key is None else {"X-Api-Key": key},
            timeout=60,
            trust_env=False,
        )
        head = "".join(f"{name}: {value}\n" for name, value in response.headers.items())
        return f"HTTP/1.1 {response.status_code}\n{head}\n{response.text}"

    def _for(self, settings: str) -> "Runner":
        """Return the runner against a gateway with these settings, itself where there are none."""
        if not settings:
            return self
        if settings not in self._others:
            environment = dict(setting.split("=", 1) for setting in settings.split())
            for name, value in environment.items():
                if value == "LOSES_ANSWERS":
                    environment[name] = self._stack.enter_context(_api_that_loses_answers())
            folder = self._folder / f"gateway-{len(self._others)}"
            folder.mkdir()
            is_demo = "CONTACT_GATEWAY_UPSTREAM_URL" not in environment
            options = ("--demo",) if is_demo else ()
            process = self._stack.enter_context(
                gateway_process(folder, *options, environment=environment)
            )
            self._others[settings] = (
                Runner.of_demo(folder, process)
                if is_demo
                else Runner(folder, process.address, {"admin": "an-api-key"})
            )
        return self._others[settings]

    def _serve(self, block: Block) -> None:
        command = re.sub(r"(?<=_ADMIN_PORT=)\d+", "0", block.text.strip())
        command = command.replace(_RUNTIME_FOLDER, str(self._folder))
        uds = re.search(r"--uds (\S+)", command)
        with (
            gateway_process(
                self._folder,
                environment=self._environment,
                command=("sh", "-euc", f'exec env {command} "$@"', "sh"),
                address=("--port", "0") if uds is None else (),
            ) as process,
            process.admin_client() if uds is None else _unix_client(uds[1]) as client,
        ):
            assert client.get("/readyz").is_success, block.place


def _unix_client(path: str) -> httpx.Client:
    return httpx.Client(
        transport=httpx.HTTPTransport(uds=path), base_url="http://gateway", timeout=60
    )


class _LosingAnswers(BaseHTTPRequestHandler):
    """Empty lists for reads, and no answer to a creation."""

    def do_GET(self) -> None:
        body = b'{"data": []}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def _api_that_loses_answers() -> Iterator[str]:
    """Run an upstream API that answers no creation; return its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _LosingAnswers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/api/v1"
        finally:
            server.shutdown()
            thread.join()


def _read(output: str, shown: Block) -> object:
    """Return what is compared of an output: its lines, its JSON, or status, headers and JSON.

    Of the headers it is those that the page shows.
    """
    text = _common(output)
    if shown.language == "text":
        return [line.rstrip() for line in text.strip().splitlines()]
    head, _, body = text.partition("\n\n") if text.startswith("HTTP/") else ("", "", text)
    if shown.language == "json":
        return json.loads(body)
    status, *lines = head.splitlines()
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    wanted = re.findall(r"^([\w-]+): ", shown.text.partition("\n\n")[0], re.MULTILINE)
    return [
        status.split()[1],
        {name: headers.get(name.lower()) for name in wanted},
        json.loads(body) if body.strip() else None,
    ]


def _common(output: str) -> str:
    """Return an output with the same text in each place that differs from run to run."""
    text = output.replace("\r\n", "\n")
    for variable, common in _VARIABLE:
        text = re.sub(variable, common, text)
    return text


def _as_shown(actual: object, shown: object) -> object:
    """Return an output with the `…` of what is shown wherever that matches."""
    match actual, shown:
        case dict(), dict():
            return {name: _as_shown(value, shown.get(name)) for name, value in actual.items()}
        case list(), list() if len(actual) == len(shown):
            return [_as_shown(*pair) for pair in zip(actual, shown, strict=True)]
        case str(), str() if re.fullmatch(re.escape(shown).replace("…", ".*"), actual):
            return shown
        case _:
            return actual
