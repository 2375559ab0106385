"""The name and version of a client: in the log and the metrics, if a program can have them."""

import io
import json
from pathlib import Path

import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st

from contact_gateway.access.principals import Credential
from contact_gateway.faces.client_name import MAX_LENGTH, Client, client_of
from support.databases import Engine
from support.faces import FACES
from support.gateway import Gateway, credentials, running_gateway

NAMES = (
    "web",
    "Apollo Kotlin",
    "com.example.shop",
    "web:production (staging)",
    "Hive CLI/2.0+linux",
    "a" * MAX_LENGTH,
)
NO_NAMES = (
    "",
    "maya@example.com",
    "maya%40example.com",
    "@example/web",
    "+49 170 1234567",
    "49 170 1234567",
    "a" * (MAX_LENGTH + 1),
    "web\nlevel=error",
    "web\u00e9",
    "web, web",
    '"web"',
    "<script>",
    "cgw_" + "0aB" * 16 + "00",
    "web cgw_0aB0aB",
    "550e8400-e29b-41d4-a716-446655440000",
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9",
    "961757de4b96db7c1c36770d26de3e4fb6f16f24",
    "web key-of-hienergy",
)
CREDENTIAL = Credential.of("key-of-hienergy")


@pytest.fixture(scope="module")
def engine_of_module() -> Engine:
    """Run these tests on SQLite alone: names do not depend on the store."""
    return Engine.SQLITE


@pytest.mark.parametrize("prefix", ["apollographql", "graphql", "x-graphql"])
def test_the_headers_of_apollo_and_of_hive_are_read(prefix: str) -> None:
    headers = {f"{prefix}-client-name": "web", f"{prefix}-client-version": "1.4.0"}

    assert client_of(headers, None) == Client("web", "1.4.0")


@pytest.mark.parametrize("name", NAMES)
def test_names_of_programs_are_accepted(name: str) -> None:
    headers = {"apollographql-client-name": name, "apollographql-client-version": name}

    assert client_of(headers, CREDENTIAL) == Client(name, name)


@pytest.mark.parametrize("name", NO_NAMES)
def test_other_names_count_as_not_given(name: str) -> None:
    assert client_of({"apollographql-client-name": name}, CREDENTIAL) is None


@pytest.mark.parametrize("version", [each for each in NO_NAMES if each[:2] != "49"])
def test_a_name_is_accepted_without_its_unusable_version(version: str) -> None:
    headers = {"apollographql-client-name": "web", "apollographql-client-version": version}

    assert client_of(headers, CREDENTIAL) == Client("web", None)


def test_a_long_text_takes_linear_time() -> None:
    """In quadratic time, 60 kB took half a minute; 2 MB would take hours."""
    long = "a" * 2_000_000

    assert client_of({"graphql-client-name": long}, None) is None
    headers = {"graphql-client-name": "web", "graphql-client-version": long}
    assert client_of(headers, None) == Client("web", None)


def test_a_version_without_a_name_is_ignored() -> None:
    assert client_of({"apollographql-client-version": "1.4.0"}, None) is None


def test_a_version_belongs_to_the_name_of_the_same_kind() -> None:
    headers = {"apollographql-client-name": "web", "graphql-client-version": "1.4.0"}

    assert client_of(headers, None) == Client("web", None)


@given(st.text(max_size=100))
def test_no_text_becomes_more_than_a_short_line_without_an_address(text: str) -> None:
    client = client_of({"graphql-client-name": text}, None)

    if client is not None:
        assert client.name == text
        assert len(text) <= MAX_LENGTH
        assert text.isascii()
        assert text.isprintable()
        assert not set(text) & set("@\"'<>=,;{}\\")


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/graphql", "/api/v1/contacts"])
async def test_a_request_is_logged_with_its_client(
    gateway: Gateway, log: io.StringIO, path: str
) -> None:
    headers = {"apollographql-client-name": "web", "apollographql-client-version": "1.4.0"}
    for sent in (headers, {"graphql-client-name": "maya@example.com"}):
        await gateway.post_json(path, {}, credentials(gateway.admin) | sent)
    # Lines are written in the next iteration of the event loop.
    await checkpoint()

    named, unnamed = (json.loads(line) for line in log.getvalue().splitlines())
    assert (named["client_name"], named["client_version"]) == ("web", "1.4.0")
    assert unnamed.keys() == named.keys() - {"client_name", "client_version"}
    assert "maya" not in log.getvalue()


@pytest.mark.anyio
@pytest.mark.parametrize("name", FACES)
async def test_every_face_answers_as_without_a_name(tmp_path: Path, name: str) -> None:
    contact = {"advertiser_id": 1001, "email": "maya@example.com"}
    async with running_gateway(tmp_path, metrics=True) as gateway:
        gateway.client.headers["graphql-client-name"] = "a\u00e9"
        answer = await FACES[name].submit(gateway, contact, gateway.admin)

    assert answer.outcome == "CONTACT"
