"""Every file of `examples/` does what it says, against the demo."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from graphql import OperationDefinitionNode, build_schema, parse, validate

from support.clock import WATCHDOG_SECONDS
from support.process import GatewayProcess, clean_environment, gateway_process
from support.programs import skip_or_fail
from support.proxy import Fault, FaultyProxy
from support.upstream import Recording, Request, recorded, recorded_upstream

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
DOCUMENTS = sorted((EXAMPLES / "graphql").glob("*.graphql"))
SCRIPTS = sorted((EXAMPLES / "curl").glob("*.sh"))

# A JSON answer of any shape.
Json = Any


@dataclass(frozen=True, slots=True)
class Typed:
    """An example whose types are generated."""

    program: tuple[str, ...]
    """The program that its run command has built, without arguments."""
    later: Callable[[Path], None]
    """Adds an outcome to the schema in a folder."""


@dataclass(frozen=True, slots=True)
class Built:
    """A typed example in a folder of its own, installed and run by the commands of its README."""

    name: str
    folder: Path
    first_run: subprocess.CompletedProcess[str]

    def run(self, arguments: str, address: str, key: str) -> subprocess.CompletedProcess[str]:
        program = (*TYPED[self.name].program, *arguments.split())
        return run(program, address, key, self.folder)


LATER_MEMBER = """
type QuarantinedError implements ApiError { code: ErrorCode! message: String! requestId: ID! }
extend union CreateContactResult = QuarantinedError
"""


def add_member(folder: Path) -> None:
    with (folder / "schema.graphql").open("a", encoding="utf-8") as schema:
        schema.write(LATER_MEMBER)


def add_code(folder: Path) -> None:
    file = folder / "openapi.json"
    document = json.loads(file.read_text("utf-8"))
    forbidden = json.dumps(document["components"]["schemas"]["ForbiddenError"])
    error = json.loads(forbidden.replace("FORBIDDEN", "QUARANTINED"))
    schema = {"type": "object", "properties": {"error": error}, "required": ["error"]}
    document["paths"]["/contacts"]["post"]["responses"]["451"] = {
        "description": "The contact waits for an approval.",
        "content": {"application/json": {"schema": schema}},
    }
    file.write_text(json.dumps(document), "utf-8")


TYPED = {
    "typescript": Typed(("node", "build/main.js"), add_member),
    "rest-typescript": Typed(("node", "build/main.js"), add_code),
    "python": Typed((".venv/bin/python", "contact.py"), add_member),
}


def run(
    program: Sequence[str | Path], address: str, key: str, folder: Path = EXAMPLES
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        program,
        cwd=folder,
        env=environment() | {"CONTACT_GATEWAY": address, "API_KEY": key},
        capture_output=True,
        encoding="utf-8",
        # On a busy machine, the installation of 350 packages takes minutes.
        timeout=3 * WATCHDOG_SECONDS,
        check=False,
    )


def environment() -> dict[str, str]:
    """Return the environment for commands of a README, without the gateway's address and key."""
    inherited = clean_environment()
    for name in ("CONTACT_GATEWAY", "API_KEY", "VIRTUAL_ENV"):
        inherited.pop(name, None)
    return inherited | {
        "PATH": f"{ROOT / '.uv' / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "UV_PYTHON": sys.executable,
        "UV_PYTHON_DOWNLOADS": "never",
        # npm caches packages, so only the first run needs the registry.
        "npm_config_prefer_offline": "true",
        "npm_config_ignore_scripts": "true",
        "npm_config_update_notifier": "false",
    }


def commands_of(folder: str) -> list[str]:
    """Return the commands of a folder's README."""
    readme = (EXAMPLES / folder / "README.md").read_text("utf-8")
    return re.findall(r"^    (.*)$", readme, re.MULTILINE)


def run_curl(name: str, demo: GatewayProcess, key: str | None = None) -> Json:
    completed = run((EXAMPLES / "curl" / name,), demo.address, key or demo.admin_key)
    assert (completed.returncode, completed.stderr) == (0, "")
    return json.loads(completed.stdout)


def ask(name: str, demo: GatewayProcess, key: str | None = None) -> Mapping[str, Json]:
    variables = EXAMPLES / "graphql" / f"{name}.variables.json"
    body = {
        "query": (EXAMPLES / "graphql" / f"{name}.graphql").read_text("utf-8"),
        "variables": json.loads(variables.read_text("utf-8")) if variables.exists() else {},
    }
    with demo.client(key or demo.admin_key) as client:
        answer: Json = client.post("/graphql", json=body).json()
    assert "errors" not in answer, answer
    return dict(answer["data"])


class TestIndex:
    INDEX = (EXAMPLES / "README.md").read_text("utf-8")

    def test_it_has_every_folder_and_links_every_file_that_has_no_folder_of_its_own(self) -> None:
        linked = set(re.findall(r"\]\((.*?)\)", self.INDEX))
        folders = {path for path in EXAMPLES.iterdir() if path.is_dir()}
        with_readme = {folder for folder in folders if (folder / "README.md").exists()}
        others = folders - with_readme

        wanted = {folder / "README.md" for folder in with_readme} | others
        wanted |= {path for folder in others for path in folder.iterdir()}
        assert linked == {path.relative_to(EXAMPLES).as_posix() for path in wanted}

    def test_its_commands_are_those_of_the_folders(self) -> None:
        rows = re.findall(
            r"^\| \[`(.*?)`\]\(\1/README.md\) \|.*\|(.*)\|$", self.INDEX, re.MULTILINE
        )

        assert {name for name, _ in rows} >= TYPED.keys()
        for name, commands in rows:
            assert re.findall("`(.*?)`", commands) == commands_of(name)

    def test_its_first_command_starts_the_demo(self) -> None:
        serve, *settings = re.findall(r"^    (.*)$", self.INDEX, re.MULTILINE)

        assert serve == "scripts/serve"
        assert all(setting.startswith("export ") for setting in settings)


@pytest.mark.usefixtures("curl")
class TestCurl:
    def test_create_by_rest(self, demo: GatewayProcess) -> None:
        answers = [run_curl("create-by-rest.sh", demo) for _ in range(2)]

        attributes = answers[0]["data"]["attributes"]
        assert (attributes["advertiser_id"], attributes["name"]) == (1001, "Maya Lindqvist")
        assert answers[0] == answers[1]

    def test_create_by_graphql(self, demo: GatewayProcess) -> None:
        answers = [run_curl("create-by-graphql.sh", demo) for _ in range(2)]

        contact = answers[0]["data"]["createContact"]
        assert (contact["__typename"], contact["advertiserId"]) == ("Contact", "1001")
        assert contact["name"] == "Noor Haddad"
        replay = {"extensions": {"idempotentReplayed": ["createContact"]}}
        assert answers[1] == answers[0] | replay

    def test_dry_run(self, demo: GatewayProcess) -> None:
        answer = run_curl("dry-run.sh", demo)

        assert answer["meta"]["dry_run"] is True
        assert answer["data"]["id"] is None
        assert answer["data"]["attributes"]["advertiser_id"] == 1002

    def test_repeat_safely(self, demo: GatewayProcess) -> None:
        completed = run((EXAMPLES / "curl" / "repeat-safely.sh",), demo.address, demo.admin_key)

        assert (completed.returncode, completed.stderr) == (0, "")
        first, second = (line.split() for line in completed.stdout.splitlines())
        assert first[0] == "201"
        assert second == [*first[:2], "true"]

    def test_read_back(self, demo: GatewayProcess) -> None:
        created = run_curl("create-by-rest.sh", demo)["data"]

        listed = run_curl("read-back.sh", demo, demo.member_key)["data"]

        assert created in listed

    @pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
    def test_a_missing_variable_stops_it_before_anything_is_sent(self, script: Path) -> None:
        completed = subprocess.run(
            (script,), env=environment(), capture_output=True, encoding="utf-8", check=False
        )

        assert completed.returncode != 0
        assert "CONTACT_GATEWAY" in completed.stderr

    def test_a_refusal_prints_the_envelope_and_fails(self, demo: GatewayProcess) -> None:
        script = EXAMPLES / "curl" / "create-by-rest.sh"

        completed = run((script,), demo.address, demo.member_key)

        assert completed.returncode == 22
        assert json.loads(completed.stdout)["error"]["code"] == "FORBIDDEN"


class TestGraphQL:
    @pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
    def test_it_is_valid_and_has_one_named_operation(self, path: Path) -> None:
        schema = build_schema((ROOT / "schema.graphql").read_text("utf-8"))
        document = parse(path.read_text("utf-8"))

        assert validate(schema, document) == []
        (operation,) = (
            node for node in document.definitions if isinstance(node, OperationDefinitionNode)
        )
        assert operation.name is not None
        in_words = "".join(word.capitalize() for word in path.stem.split("-"))
        assert operation.name.value == in_words

    def test_create_contact_handles_every_member_of_the_union(self) -> None:
        sdl = (ROOT / "schema.graphql").read_text("utf-8")
        (line,) = (
            line for line in sdl.splitlines() if line.startswith("union CreateContactResult")
        )
        members = line.partition("=")[2].replace(" ", "").split("|")
        document = (EXAMPLES / "graphql" / "create-contact.graphql").read_text("utf-8")

        assert [member for member in members if f" on {member} {{" not in document] == []

    def test_create_contact(self, demo: GatewayProcess) -> None:
        contact = ask("create-contact", demo)["createContact"]

        assert contact["__typename"] == "Contact"
        assert contact["name"] == "Tomas Berg"
        assert contact["advertiser"]["id"] == "1001"
        assert ask("create-contact", demo)["createContact"] == contact

    def test_dry_run(self, demo: GatewayProcess) -> None:
        preview = ask("dry-run", demo)["createContact"]

        assert preview["__typename"] == "ContactPreview"
        assert preview["advertiser"]["id"] == "9007199254740993"

    def test_recent_contacts(self, demo: GatewayProcess) -> None:
        created = ask("create-contact", demo)["createContact"]

        page = ask("recent-contacts", demo, demo.member_key)["contacts"]

        assert created["id"] in {contact["id"] for contact in page["nodes"]}
        assert page["pageInfo"]["currentPage"] == 1

    def test_find_advertiser(self, demo: GatewayProcess) -> None:
        found = ask("find-advertiser", demo, demo.member_key)["advertisers"]["nodes"]

        assert {advertiser["hienergy"]["id"] for advertiser in found} == {"1002"}
        assert {
            equivalent["networkName"] for equivalent in found[0]["hienergy"]["equivalents"]
        } == {"Rakuten", "Impact"}


@pytest.fixture(scope="module", params=TYPED)
def built(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    demo: GatewayProcess,
) -> Built:
    name: str = request.param
    folder = copied(EXAMPLES / name, tmp_path_factory.mktemp("repository"))
    install, first_run = commands_of(name)
    if shutil.which(install.split()[0], path=environment()["PATH"]) is None:
        skip_or_fail(f"{install.split()[0]} is not installed")
    installed = run(install.split(), demo.address, demo.admin_key, folder)
    if installed.returncode != 0:
        skip_or_fail(f"`{install}` fails: {installed.stderr.strip()}")
    return Built(name, folder, run(first_run.split(), demo.address, demo.admin_key, folder))


@pytest.fixture(scope="module")
def used_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Return a gateway whose rate limit is reached."""
    settings = {"CONTACT_GATEWAY_RATE_LIMIT_PER_HOUR": "1"}
    folder = tmp_path_factory.mktemp("used_up")
    with gateway_process(folder, "--demo", environment=settings) as process:
        with process.client(process.admin_key) as client:
            assert client.get("/api/v1/contacts").is_success
        yield process


def refusal(member: str, code: str) -> dict[str, object]:
    """Return an error in the form of REST and of GraphQL."""
    error = {"code": code, "message": "Wait.", "requestId": "r-1", "request_id": "r-1"}
    return {**error, "__typename": member, "retryAfterSeconds": 0}


def copied(example: Path, repository: Path) -> Path:
    """Copy an example and the schemas, without what its commands have written."""
    ignored = (example / ".gitignore").read_text("utf-8").split()
    names = {Path(line).name for line in ignored}
    folder = repository / "examples" / example.name
    shutil.copytree(example, folder, ignore=shutil.ignore_patterns(*names))
    for schema in ("schema.graphql", "openapi.json"):
        shutil.copy(ROOT / schema, repository)
    return folder


class TestTyped:
    def test_its_commands_create_a_contact(self, built: Built) -> None:
        assert built.first_run.returncode == 0, built.first_run.stderr
        created = re.search(
            r"^Created contact (\d+) on HiEnergy advertiser 1001\.\n\1 \w+@example\.com \d{4}-",
            built.first_run.stdout,
            re.MULTILINE,
        )
        assert created, built.first_run.stdout

    def test_it_lists_all_pages(self, built: Built, demo: GatewayProcess) -> None:
        addresses = {f"{built.name}-{number}@example.com" for number in range(30)}
        with demo.client(demo.admin_key) as client:
            for address in addresses:
                contact = {"advertiser_id": 1002, "email": address}
                assert client.post("/api/v1/contacts", json={"contact": contact}).is_success

        completed = built.run(f"2003 {built.name}@example.com", demo.address, demo.admin_key)

        assert completed.returncode == 0, completed.stderr
        listed = {line.split()[1] for line in completed.stdout.splitlines()[1:]}
        assert listed >= addresses | {f"{built.name}@example.com"}

    @pytest.mark.parametrize(
        ("arguments", "start"),
        [
            pytest.param("2001 nobody", "Invalid input: ", id="invalid"),
            pytest.param("3001 a@example.com", "Advertiser not found: ", id="not found"),
        ],
    )
    def test_an_error_is_printed(
        self, built: Built, demo: GatewayProcess, arguments: str, start: str
    ) -> None:
        completed = built.run(arguments, demo.address, demo.admin_key)

        assert (completed.returncode, completed.stderr) == (1, "")
        assert completed.stdout.startswith(start)

    @pytest.mark.parametrize("role", ["member", "nobody"])
    def test_a_refused_key_is_printed(self, built: Built, demo: GatewayProcess, role: str) -> None:
        key = demo.member_key if role == "member" else "cgw_typo"

        completed = built.run("2001 b@example.com", demo.address, key)

        assert (completed.returncode, completed.stderr) == (1, "")
        assert completed.stdout.startswith("The API key was refused: ")

    @pytest.mark.parametrize("missing", ["argument", "variable"])
    def test_a_missing_argument_or_variable_prints_the_usage(
        self, built: Built, missing: str
    ) -> None:
        variables = {"CONTACT_GATEWAY": "http://127.0.0.1:1", "API_KEY": "any-key"}
        email = "a@example.com"
        completed = subprocess.run(
            (*TYPED[built.name].program, "2001", *([] if missing == "argument" else [email])),
            cwd=built.folder,
            env=environment() | (variables if missing == "argument" else {}),
            capture_output=True,
            encoding="utf-8",
            check=False,
        )

        assert completed.returncode == 2
        assert "usage" in completed.stderr.lower()
        assert "Traceback" not in completed.stderr

    def test_a_repeat_with_its_key_is_the_same_contact_and_one_without_it_a_conflict(
        self, built: Built, demo: GatewayProcess
    ) -> None:
        arguments = f"2005 again-{built.name}@example.com"
        first, repeated, other, reused = (
            built.run(words, demo.address, demo.admin_key)
            for words in (
                f"{arguments} {built.name}-1",
                f"{arguments} {built.name}-1",
                arguments,
                f"2001 other-{built.name}@example.com {built.name}-1",
            )
        )

        assert (first.returncode, repeated.returncode) == (0, 0)
        created = first.stdout.splitlines()[0]
        assert repeated.stdout.splitlines()[0] == created
        assert other.stdout == f"Contact {created.split()[2]} already has this address.\n"
        assert reused.stdout == "The idempotency key belongs to another submission.\n"
        assert (other.returncode, reused.returncode) == (1, 1)

    def test_a_request_without_an_answer_is_repeated(
        self, built: Built, demo: GatewayProcess
    ) -> None:
        with FaultyProxy(demo.address).running() as proxy:
            proxy.inject(Fault.HOLD_RESPONSE)
            program = (*TYPED[built.name].program, "2001", f"lost-{built.name}@example.com")
            with subprocess.Popen(
                program,
                cwd=built.folder,
                env=environment() | {"CONTACT_GATEWAY": proxy.url, "API_KEY": demo.admin_key},
                stdout=subprocess.PIPE,
                encoding="utf-8",
            ) as process:
                proxy.wait_until_held()
                proxy.drop()
                output, _ = process.communicate(timeout=WATCHDOG_SECONDS)

        # Without the idempotency key, the second attempt would be a conflict.
        assert process.returncode == 0
        assert output.startswith("Created contact ")

    @pytest.mark.anyio
    async def test_a_retry_after_an_outage_waits_as_the_answer_says(
        self, built: Built, tmp_path: Path
    ) -> None:
        """HiEnergy refuses the first creation for a second, and the third for an hour."""
        creations = 0

        def answer(request: Request) -> Recording:
            nonlocal creations
            if request.method == "GET":
                return recorded(200, '{"data": []}')
            creations += 1
            if creations == 2:
                return recorded(201, '{"data": {"id": "7", "type": "contact", "attributes": {}}}')
            retry_after = "1" if creations == 1 else "3600"
            return recorded(503, '{"error": {}}', headers={"Retry-After": retry_after})

        async with recorded_upstream(answer) as upstream:
            settings = {"CONTACT_GATEWAY_UPSTREAM_URL": upstream.url}
            with gateway_process(tmp_path, environment=settings) as process:
                soon, in_an_hour = [
                    await asyncio.to_thread(built.run, arguments, process.address, "hienergy-key")
                    for arguments in ("2001 a@example.com key-1", "2001 b@example.com key-2")
                ]

        assert soon.returncode == 0, soon.stderr
        assert soon.stdout.startswith("Created contact 7 ")
        assert in_an_hour.returncode == 1
        assert in_an_hour.stderr.endswith("Run this again with the key key-2.\n")
        assert creations == 3

    def test_a_rate_limit_of_an_hour_is_printed_at_once(
        self, built: Built, used_up: GatewayProcess
    ) -> None:
        completed = built.run("2001 a@example.com", used_up.address, used_up.admin_key)

        assert completed.returncode == 1
        assert re.fullmatch(r"Rate limit reached\. Retry in 3\d{3} s\.\n", completed.stdout)

    @pytest.mark.anyio
    async def test_a_passing_outcome_is_retried_with_the_same_key(self, built: Built) -> None:
        """A gateway would let it wait for a minute."""
        unknown = refusal("OutcomeUnknownError", "OUTCOME_UNKNOWN")
        limited = refusal("RateLimitedError", "RATE_LIMITED")
        created = {"__typename": "Contact", "id": "7", "advertiserId": "1001"}
        owner = {"advertiser": {"data": {"type": "advertiser", "id": "1001"}}}
        members = [{"createContact": member} for member in (unknown, limited, created)]
        data = iter([*members, {"contacts": {"nodes": [], "pageInfo": {"nextPage": None}}}])
        documents = iter(
            [
                (504, {"error": unknown}),
                (429, {"error": limited}),
                (201, {"data": {"id": "7", "relationships": owner}}),
                (200, {"data": [], "meta": {"next_page": None}}),
            ]
        )

        def answer(request: Request) -> Recording:
            if request.target == "/graphql":
                return recorded(200, json.dumps({"data": next(data)}))
            status, document = next(documents)
            return recorded(status, json.dumps(document), headers={"Retry-After": "0"})

        async with recorded_upstream(answer) as gateway:
            address = gateway.url.removesuffix("/api/v1")
            completed = await asyncio.to_thread(
                built.run, "2001 a@example.com a-key", address, "any-key"
            )

        assert completed.stdout == "Created contact 7 on HiEnergy advertiser 1001.\n"
        keys = [
            request.headers.get("idempotency-key")
            or json.loads(request.body)["variables"]["idempotencyKey"]
            for request in gateway.requests[:3]
        ]
        assert keys == ["a-key"] * 3

    @pytest.mark.anyio
    async def test_an_error_of_a_later_version_is_printed(self, built: Built) -> None:
        """The gateway is of a later version, with an outcome that the example's schema lacks."""
        error = refusal("QuarantinedError", "QUARANTINED")

        def answer(request: Request) -> Recording:
            if request.target == "/graphql":
                return recorded(200, json.dumps({"data": {"createContact": error}}))
            return recorded(451, json.dumps({"error": error}))

        async with recorded_upstream(answer) as later:
            address = later.url.removesuffix("/api/v1")
            completed = await asyncio.to_thread(
                built.run, "2001 a@example.com a-key", address, "any-key"
            )

        assert completed.returncode == 1
        if built.name == "python":
            assert "QuarantinedError" in completed.stderr
            assert completed.stderr.endswith("Run this again with the key a-key.\n")
        else:
            assert completed.stdout == "QUARANTINED: Wait. (request r-1)\n"

    def test_an_outcome_that_it_does_not_handle_is_a_type_error(
        self, built: Built, tmp_path: Path, demo: GatewayProcess
    ) -> None:
        folder = copied(EXAMPLES / built.name, tmp_path)
        for installed in ("node_modules", ".venv"):
            if (built.folder / installed).exists():
                (folder / installed).symlink_to(built.folder / installed)
        TYPED[built.name].later(tmp_path)

        _, command = commands_of(built.name)
        completed = run(command.split(), demo.address, demo.admin_key, folder)

        assert completed.returncode != 0
        assert "quarantined" in (completed.stdout + completed.stderr).lower()
        assert "Created contact" not in completed.stdout
