"""The probes of GraphQL scanners such as graphql-cop find nothing.

They run in the production profile, with and without a key.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from contact_gateway.settings import LogFormat, Profile, Settings
from support.faces import Json
from support.gateway import Gateway, credentials, running_gateway

pytestmark = pytest.mark.anyio

JSON: Final = "application/json"
FORM: Final = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Probe:
    """A scanner's request, which must not be executed."""

    name: str
    body: Json = None
    method: str = "POST"
    path: str = "/graphql"
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": JSON})
    content: str | None = None


def _query(document: str) -> Json:
    return {"query": document}


PROBES: Final = (
    Probe("aliases", _query("{ " + " ".join(f"a{n}: __typename" for n in range(101)) + " }")),
    Probe("repeated fields", _query("{ " + "__typename " * 500 + "}")),
    Probe("directives", _query("{ __typename " + "@aa" * 10 + " }")),
    Probe("known directives", _query("{ __typename " + "@include(if: true) " * 60 + "}")),
    Probe("a batch", [_query("{ __typename }")] * 10),
    Probe("a batch of one", [_query("{ __typename }")]),
    Probe("an empty batch", []),
    Probe("introspection", _query("{ __schema { types { name fields { name } } } }")),
    Probe("a type by name", _query('{ __type(name: "Contact") { name } }')),
    Probe(
        "introspection in a fragment",
        _query("{ ...F } fragment F on Query { __schema { queryType { name } } }"),
    ),
    Probe(
        "cyclic introspection",
        _query(
            "{ __schema { types { fields { type { fields { type { fields { type { fields "
            "{ type { name } } } } } } } } } } }"
        ),
    ),
    Probe(
        "cyclic fragments",
        _query("{ ...A } fragment A on Query { ...B } fragment B on Query { ...A }"),
    ),
    Probe(
        "depth",
        _query("{ advertiser(id: 1) { " + "hienergy { " * 20 + "id" + " }" * 20 + " } }"),
    ),
    Probe("a misspelt field", _query("{ viewr { label } }")),
    Probe("a misspelt argument", _query("{ contact(idd: 1) { id } }")),
    Probe("a misspelt type", _query("query ($a: CreateContactInpu) { __typename }")),
    Probe("not a document", _query("qwerty cop { abc }")),
    Probe("a mutation by GET", method="GET", path="/graphql?query=mutation+%7B__typename%7D"),
    Probe(
        "a form",
        headers={"Content-Type": FORM},
        content="query=%7B__typename%7D",
    ),
    Probe(
        "a form with files",
        headers={"Content-Type": "multipart/form-data; boundary=b"},
        content='--b\r\nContent-Disposition: form-data; name="operations"\r\n\r\n{}\r\n--b--\r\n',
    ),
    Probe("plain text", headers={"Content-Type": "text/plain"}, content='{"query":"{__typename}"}'),
    Probe("the explorer", method="GET", headers={"Accept": "text/html"}),
    Probe("the explorer's files", method="GET", path="/graphql/explorer/graphiql.js"),
    Probe("the REST reference", method="GET", path="/docs", headers={"Accept": "text/html"}),
    Probe("another explorer", method="GET", path="/graphiql", headers={"Accept": "text/html"}),
    Probe("a playground", method="GET", path="/playground", headers={"Accept": "text/html"}),
    Probe("a console", method="GET", path="/console", headers={"Accept": "text/html"}),
)


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running_gateway(tmp_path, profile="production") as gateway:
        yield gateway


@pytest.mark.parametrize("has_key", [False, True], ids=["without a key", "with a key"])
@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
async def test_a_probe_finds_nothing(gateway: Gateway, probe: Probe, *, has_key: bool) -> None:
    headers = dict(probe.headers) | credentials(gateway.admin if has_key else None)
    response = await gateway.client.request(
        probe.method,
        probe.path,
        headers=headers,
        **({"json": probe.body} if probe.content is None else {"content": probe.content}),
    )

    assert 400 <= response.status_code < 500 or response.json().keys() == {"errors"}
    assert '"data"' not in response.text
    assert "Did you mean" not in response.text
    assert "Traceback" not in response.text
    assert response.headers["Content-Type"].startswith("application/")
    if "errors" in response.json():
        assert len(response.json()["errors"]) < 10


async def test_responses_do_not_identify_the_server(gateway: Gateway) -> None:
    """Neither by headers, nor by a tracing extension that the client requests."""
    headers = {"X-Apollo-Tracing": "1"}
    response = await gateway.post_json("/graphql", {"query": "{ __typename }"}, headers)

    assert response.json() == {"data": {"__typename": "Query"}}
    assert not {"server", "x-powered-by"} & response.headers.keys()


async def test_a_query_is_executed(gateway: Gateway) -> None:
    response = await gateway.graphql("{ viewer { role } }", gateway.admin)

    assert response.json() == {"data": {"viewer": {"role": "ADMIN"}}}


def test_settings_override_the_profile() -> None:
    chosen = Settings.model_validate({"profile": "production", "introspection": "true"})

    assert (chosen.introspection, chosen.graphiql) == (True, False)


def test_the_development_profile_enables_introspection_and_the_explorer() -> None:
    default = Settings()

    assert default.profile is Profile.DEVELOPMENT
    assert (default.introspection, default.graphiql) == (True, True)
    assert default.log_format in {None, *LogFormat}
