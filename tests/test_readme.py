"""The README keeps its word: its commands are there, and its tables are true of the code."""

import re
import shlex
from pathlib import Path
from typing import get_args

import httpx
import pytest

from contact_gateway.contacts.outcomes import ErrorCode, ReadRefusal
from contact_gateway.faces.http import TransportCode
from contact_gateway.faces.rest.documents import STATUSES
from contact_gateway.settings import PREFIX, Settings
from support.process import gateway_process
from support.upstream import UpstreamGateway

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
CURL_CALLS = re.findall(r"^    curl .*(?:\n(?: {4}.*)?)*", README, re.MULTILINE)


def test_the_first_two_shell_blocks_run_and_test_the_gateway() -> None:
    blocks = re.findall(
        r"^```(?:sh|bash|shell|console)\n(.*?)^```", README, re.MULTILINE | re.DOTALL
    )

    assert [block.strip() for block in blocks[:2]] == ["scripts/serve", "scripts/test"]
    for block in blocks[:2]:
        assert (ROOT / block.strip()).stat().st_mode & 0o111


@pytest.mark.parametrize("code", ErrorCode)
def test_the_table_of_outcomes_is_that_of_the_code(code: ErrorCode) -> None:
    type_name = "".join(word.capitalize() for word in code.split("_")) + "Error"

    assert re.search(rf"\| `{type_name}`.*\| {STATUSES[code]} `{code}` \|", README)


def test_the_codes_of_graphql_errors_are_those_of_the_code() -> None:
    (sentences,) = re.findall(r"`extensions\.code`:(.*?)\.\n", README, re.DOTALL)
    of_reads = {refusal.code for refusal in get_args(ReadRefusal)}
    # There is one route, and what is not there is told in REST's envelope.
    of_transport = set(TransportCode) - {TransportCode.NOT_FOUND}

    told = re.findall(r"`([A-Z_]+)`", sentences)

    assert set(told) == {*of_reads, *of_transport, "PERSISTED_QUERY_NOT_SUPPORTED"}


def test_the_settings_are_those_of_the_code() -> None:
    told = set(re.findall(rf"^\| `({PREFIX}[A-Z_]+)`", README, re.MULTILINE))

    assert told == {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}


def test_every_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_curl_calls_create_contacts(tmp_path: Path) -> None:
    _, *calls = CURL_CALLS
    with gateway_process(tmp_path, "--demo") as gateway:
        answers = [
            _call(call, gateway.address, gateway.admin_key) for call in calls for _ in range(2)
        ]

    first_graphql, second_graphql, first_rest, second_rest = answers
    assert first_graphql.json()["data"]["createContact"]["__typename"] == "Contact"
    assert second_graphql.json()["data"]["createContact"]["__typename"] == "ConflictError"
    assert first_rest.status_code == 201
    assert second_rest.headers["Idempotent-Replayed"] == "true"
    assert second_rest.json() == first_rest.json()


def test_one_command_puts_the_gateway_in_front_of_hienergy(
    tmp_path: Path, upstream: UpstreamGateway
) -> None:
    """The commands are the README's own; only the address of HiEnergy's API is another."""
    (command,) = re.findall(r"^    (CONTACT_GATEWAY_UPSTREAM_URL=.*)$", README, re.MULTILINE)
    command = f'cd "$0" && exec env {command} "$@"'.replace(
        "https://app.hienergy.ai/api/v1", upstream.url
    )
    call, *_ = CURL_CALLS
    creation = call.replace('"dryRun": true', '"dryRun": false')
    admin = upstream.keys["admin"]
    ledger = {"CONTACT_GATEWAY_DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path}/ledger.sqlite3"}
    with gateway_process(
        tmp_path, environment=ledger, command=("sh", "-c", command, str(ROOT))
    ) as gateway:
        tried, created, repeated = (
            _call(each, gateway.address, admin).json()["data"]["createContact"]
            for each in (call, creation, creation)
        )
        ready = httpx.get(f"{gateway.address}/readyz", trust_env=False)

    assert tried["__typename"] == "ContactPreview"
    assert created["__typename"] == "Contact"
    assert repeated == created
    assert upstream.contacts() == 1
    assert ready.status_code == 200


def _call(command: str, address: str, key: str) -> httpx.Response:
    """Make a curl call of the README, as far as its options go."""
    words = shlex.split(command.replace("\\\n", " "))
    url = next(word for word in words if word.startswith("http://"))
    headers = [words[at + 1] for at, word in enumerate(words) if word == "-H"]
    return httpx.post(
        url.replace("http://127.0.0.1:8000", address),
        headers=dict(header.replace("$API_KEY", key).split(": ", maxsplit=1) for header in headers),
        content=words[words.index("-d") + 1],
        trust_env=False,
    )
