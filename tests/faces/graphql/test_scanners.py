"""What scanners of GraphQL servers look for, in the way of graphql-cop: none of it is here.

All in the production profile, without a key and with one.
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
    """A request of a scanner: none may be executed."""

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
    Probe("fields again and again", _query("{ " + "__typename " * 500 + "}")),
    Probe("directives", _query("{ __typename " + "@aa" * 10 + " }")),
    Probe("known directives", _query("{ __typename " + "@include(if: true) " * 60 + "}")),
    Probe("a batch", [_query("{ __typename }")] * 10),
    Probe("a batch of one", [_query("{ __typename }")]),
    Probe("an empty batch", []),
    Probe("introspection", _query("{ __schema { types { name fields { name } } } }")),
    Probe("a type by its name", _query('{ __type(name: "Contact") { name } }')),
    Probe(
        "introspection within a fragment",
        _query("{ ...F } fragment F on Query { __schema { queryType { name } } }"),
    ),
    Probe(
        "introspection in circles",
        _query(
            "{ __schema { types { fields { type { fields { type { fields { type { fields "
            "{ type { name } } } } } } } } } } }"
        ),
    ),
    Probe(
        "fragments in circles",
        _query("{ ...A } fragment A on Query { ...B } fragment B on Query { ...A }"),
    ),
    Probe(
        "depth",
        _query("{ advertiser(id: 1) { " + "hienergy { " * 20 + "id" + " }" * 20 + " } }"),
    ),
    Probe("a field that is nearly one", _query("{ viewr { label } }")),
    Probe("an argument that is nearly one", _query("{ contact(idd: 1) { id } }")),
    Probe("a type that is nearly one", _query("query ($a: CreateContactInpu) { __typename }")),
    Probe("no document", _query("qwerty cop { abc }")),
    Probe("a mutation by GET", method="GET", path="/graphql?query=mutation+%7B__typename%7D"),
    Probe(
        "a form",
        headers={"Content-Type": FORM},
        content="query=%7B__typename%7D",
    ),
    Probe(
        "a form of files",
        headers={"Content-Type": "multipart/form-data; boundary=b"},
        content='--b\r\nContent-Disposition: form-data; name="operations"\r\n\r\n{}\r\n--b--\r\n',
    ),
    Probe("plain text", headers={"Content-Type": "text/plain"}, content='{"query":"{__typename}"}'),
    Probe("the explorer", method="GET", headers={"Accept": "text/html"}),
    Probe("the explorer's files", method="GET", path="/graphql/explorer/graphiql.js"),
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


async def test_nothing_of_the_server_is_told(gateway: Gateway) -> None:
    """Not in headers, and no extension traces what was done, not even for who asks."""
    asked = {"X-Apollo-Tracing": "1"}
    response = await gateway.post_json("/graphql", {"query": "{ __typename }"}, asked)

    assert response.json() == {"data": {"__typename": "Query"}}
    assert not {"server", "x-powered-by"} & response.headers.keys()


async def test_a_query_still_comes_through(gateway: Gateway) -> None:
    response = await gateway.graphql("{ viewer { role } }", gateway.admin)

    assert response.json() == {"data": {"viewer": {"role": "ADMIN"}}}


def test_what_is_set_stands_in_any_profile() -> None:
    chosen = Settings.model_validate({"profile": "production", "introspection": "true"})

    assert (chosen.introspection, chosen.graphiql) == (True, False)


def test_the_profile_for_those_who_build_shows_all() -> None:
    by_itself = Settings()

    assert by_itself.profile is Profile.DEVELOPMENT
    assert (by_itself.introspection, by_itself.graphiql) == (True, True)
    assert by_itself.log_format in {None, *LogFormat}
