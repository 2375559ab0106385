"""The GraphQL API: reads, the header Idempotency-Key, statuses, the rate limit and the explorer."""

import io
import json
from itertools import count
from pathlib import Path
from threading import Event

import pytest
from anyio.lowlevel import checkpoint

from contact_gateway.store import contacts
from contact_gateway.store.connection_threads import LostRaceError
from support.faces import CREATE_CONTACT, FACES, Json
from support.gateway import BIG_ID, Gateway, credentials, running_gateway

pytestmark = pytest.mark.anyio

MAYA = {"advertiser_id": 2001, "email": "maya@example.com"}
MAYA_INPUT = {"advertiserId": 2001, "email": "maya@example.com"}
TWO = """mutation ($a: CreateContactInput!, $b: CreateContactInput!) {
  a: createContact(input: $a) { __typename }
  ...Second
}
fragment Second on Mutation { b: createContact(input: $b) { __typename } }
"""


async def test_viewer_is_the_key_in_use(gateway: Gateway) -> None:
    response = await gateway.graphql("{ viewer { label role } }", gateway.member)

    assert response.json() == {"data": {"viewer": {"label": "member", "role": "MEMBER"}}}


@pytest.mark.parametrize(
    "field",
    [
        "viewer { label }",
        "contact(id: 1) { id }",
        "contacts { nodes { id } }",
        "advertisers { nodes { id } }",
        "advertiser(id: 1001) { id }",
    ],
)
@pytest.mark.parametrize("key", [None, "nonsense"])
async def test_a_read_without_a_valid_key_is_null_with_a_code(
    gateway: Gateway, field: str, key: str | None
) -> None:
    response = await gateway.graphql(f"{{ {field} }}", key)

    body = response.json()
    assert response.status_code == 200
    assert list(body["data"].values()) == [None]
    assert [error["extensions"] for error in body["errors"]] == [
        {"code": "UNAUTHORIZED", "requestId": response.headers["X-Request-Id"]}
    ]


async def test_a_created_contact_can_be_read_with_its_advertisers(gateway: Gateway) -> None:
    created = await FACES["GraphQL"].submit(gateway, MAYA, gateway.admin)
    assert created.contact is not None
    response = await gateway.graphql(
        """query ($id: ID!) {
          contact(id: $id) {
            email advertiser { id hienergy { id } equivalents { id networkName } }
          }
          contacts(advertiserId: 2002, email: "MAYA@example.com", q: "maya") {
            nodes { id } pageInfo { currentPage perPage nextPage prevPage hasNextPage }
          }
        }""",
        gateway.member,
        {"id": created.contact["id"]},
    )

    assert response.json()["data"] == {
        "contact": {
            "email": "maya@example.com",
            "advertiser": {
                "id": "1001",
                "hienergy": {"id": "1001"},
                "equivalents": [
                    {"id": "2001", "networkName": "CJ"},
                    {"id": "2002", "networkName": "Awin"},
                ],
            },
        },
        "contacts": {
            "nodes": [{"id": created.contact["id"]}],
            "pageInfo": {
                "currentPage": 1,
                "perPage": 25,
                "nextPage": None,
                "prevPage": None,
                "hasNextPage": False,
            },
        },
    }


CREATE = """mutation %s {
  createContact(input: {advertiserId: 1001, email: "maya@example.com" %s}, idempotencyKey: "k" %s) {
    ... on Contact { id }
  }
}"""
DETAILS = ("name", "givenName", "familyName", "phone", "jobTitle", "source", "status")


@pytest.mark.parametrize(
    ("variables", "text", "boolean"),
    [
        ("", "null", "null"),
        ("($s: String, $b: Boolean)", "$s", "$b"),
        ("($s: String = null, $b: Boolean = null)", "$s", "$b"),
    ],
    ids=["null", "missing variables", "variables of null"],
)
async def test_null_in_a_creation_is_the_same_as_nothing(
    gateway: Gateway, variables: str, text: str, boolean: str
) -> None:
    """The same input under one idempotency key is one contact; another input is refused."""
    nulls = " ".join(f"{name}: {text}" for name in DETAILS)
    created = await gateway.graphql(CREATE % ("", "", ""), gateway.admin)
    again = await gateway.graphql(CREATE % (variables, nulls, f"dryRun: {boolean}"), gateway.admin)

    assert created.json()["data"]["createContact"]["id"]
    assert again.json()["data"] == created.json()["data"]


async def test_null_in_a_read_is_the_same_as_nothing(gateway: Gateway) -> None:
    response = await gateway.graphql(
        """query ($id: ID, $text: String, $number: Int) {
          all: advertisers { ...Page }
          null: advertisers(q: null, domain: null, page: null, perPage: null) { ...Page }
          missing: advertisers(q: $text, domain: $text, page: $number, perPage: $number) { ...Page }
          contacts(advertiserId: $id, email: $text, q: null, page: null) { nodes { id } }
          advertiser(id: $id, slug: "northwind") { id }
        }
        fragment Page on AdvertiserPage {
          nodes { id } pageInfo { currentPage perPage nextPage prevPage hasNextPage skipped }
        }""",
        gateway.member,
    )

    data = response.json()["data"]
    assert data["all"]["nodes"]
    assert data["null"] == data["missing"] == data["all"]
    assert data["contacts"] == {"nodes": []}
    assert data["advertiser"] is not None


async def test_pages_name_their_neighbours(gateway: Gateway) -> None:
    response = await gateway.graphql(
        """{
          second: advertisers(page: 2, perPage: 1) { ...Page }
          empty: advertisers(page: 99, perPage: 1) { ...Page }
        }
        fragment Page on AdvertiserPage { pageInfo { nextPage prevPage hasNextPage } }""",
        gateway.member,
    )

    assert response.json()["data"] == {
        "second": {"pageInfo": {"nextPage": 3, "prevPage": 1, "hasNextPage": True}},
        "empty": {"pageInfo": {"nextPage": None, "prevPage": 98, "hasNextPage": False}},
    }


async def test_an_advertiser_is_found_by_id_or_slug(gateway: Gateway) -> None:
    response = await gateway.graphql(
        f"""{{
          network: advertiser(id: 2001) {{ hienergy {{ id }} equivalents {{ id }} }}
          big: advertiser(id: "{BIG_ID}") {{ id equivalents {{ id }} }}
          alone: advertiser(id: 3001) {{ hienergy {{ id }} equivalents {{ id }} }}
          named: advertiser(slug: "northwind") {{ id }}
          unknown: advertiser(slug: "nope") {{ id }}
          noId: contact(id: "abc") {{ id }}
        }}""",
        gateway.member,
    )

    assert response.json() == {
        "data": {
            "network": {"hienergy": {"id": "1001"}, "equivalents": [{"id": "2002"}]},
            "big": {"id": str(BIG_ID), "equivalents": [{"id": "2006"}]},
            "alone": {"hienergy": None, "equivalents": []},
            "named": {"id": "1001"},
            "unknown": None,
            "noId": None,
        }
    }


@pytest.mark.parametrize(
    ("field", "path"),
    [
        ("contacts(page: 0) { nodes { id } }", "page"),
        ("contacts(perPage: 0) { nodes { id } }", "perPage"),
        ('contacts(advertiserId: "x y") { nodes { id } }', "advertiserId"),
        ("advertisers(page: -1) { nodes { id } }", "page"),
        ("advertiser { id }", "id"),
        ('advertiser(id: 1, slug: "x") { id }', "id"),
        ('advertiser(slug: " ") { id }', "slug"),
        (r'advertiser(slug: "\u0000") { id }', "slug"),
    ],
)
async def test_invalid_arguments_of_a_read_are_invalid_input(
    gateway: Gateway, field: str, path: str
) -> None:
    body = (await gateway.graphql(f"{{ {field} }}", gateway.member)).json()

    extensions = body["errors"][0]["extensions"]
    assert extensions["code"] == "INVALID_INPUT"
    assert [problem["path"] for problem in extensions["problems"]] == [path]


async def test_a_refused_read_has_the_problem_and_the_request_id(gateway: Gateway) -> None:
    response = await gateway.graphql("{ contacts(perPage: 0) { nodes { id } } }", gateway.member)

    (error,) = response.json()["errors"]
    sentence = "The smallest allowed value is 1."
    assert error["message"] == f"`perPage`: {sentence}"
    assert error["extensions"] == {
        "code": "INVALID_INPUT",
        "problems": [{"path": "perPage", "code": "OUT_OF_RANGE", "message": sentence}],
        "requestId": response.headers["X-Request-Id"],
    }


async def test_the_error_of_a_read_with_several_problems_counts_them(gateway: Gateway) -> None:
    document = "{ contacts(page: 0, perPage: 0) { nodes { id } } }"
    response = await gateway.graphql(document, gateway.member)

    (error,) = response.json()["errors"]
    assert error["message"] == "The input has 2 problems."
    assert [problem["path"] for problem in error["extensions"]["problems"]] == ["page", "perPage"]


async def test_the_paths_of_problems_are_in_camel_case(gateway: Gateway) -> None:
    bad = {"advertiserId": "x", "email": "x", "linkedinProfileUrl": "x"}
    variables = {"input": bad, "idempotencyKey": ""}
    body = (await gateway.graphql(CREATE_CONTACT, gateway.admin, variables)).json()

    problems = body["data"]["createContact"]["problems"]
    assert [problem["path"] for problem in problems] == [
        "input.advertiserId",
        "input.email",
        "input.linkedinProfileUrl",
        "idempotencyKey",
    ]


@pytest.mark.parametrize("text", ['"\u0130"', '"\\u0130"', '"\\u{130}"'])
async def test_a_text_with_a_longer_lower_case_is_no_value_of_an_enum(
    gateway: Gateway, text: str
) -> None:
    document = (
        f"mutation {{ createContacts(submissions: [], onConflict: {text}) {{ __typename }} }}"
    )
    response = await gateway.graphql(document)

    assert response.status_code == 400
    assert "OnConflict" in response.json()["errors"][0]["message"]


# A plan has at most four conditions.
BY_GRAPHQL_CORE = """
    mutation ($input: CreateContactInput!, $a: Boolean!, $b: Boolean!, $c: Boolean!,
              $d: Boolean!, $e: Boolean!) {
      createContact(input: $input) {
        __typename
        ... @skip(if: $a) { ... @skip(if: $b) { ... @skip(if: $c) { __typename } } }
        ... @skip(if: $d) { ... @skip(if: $e) { __typename } }
      }
    }
"""


@pytest.mark.parametrize("document", [CREATE_CONTACT, BY_GRAPHQL_CORE])
async def test_a_field_with_a_longer_lower_case_is_unknown(gateway: Gateway, document: str) -> None:
    """graphql-core's search for similar names raises an exception for U+0130."""
    fields = {"advertiserId": 1001, "email": "maya@example.com", "nam\u0130": "Maya"}
    variables = {"input": fields, **dict.fromkeys("abcde", True)}
    response = await gateway.graphql(document, gateway.admin, variables)

    assert response.status_code == 400
    assert response.json()["errors"][0]["message"].endswith("unknown field 'nam\u0130'.")


async def test_the_header_replaces_the_argument_of_a_single_creation(gateway: Gateway) -> None:
    headers = {"Idempotency-Key": "k"}
    variables = {"input": MAYA_INPUT}
    first = await gateway.graphql(CREATE_CONTACT, gateway.admin, variables, **headers)
    again = await gateway.graphql(CREATE_CONTACT, gateway.admin, variables, **headers)
    argument = await gateway.graphql(
        CREATE_CONTACT, gateway.admin, variables | {"idempotencyKey": "other"}, **headers
    )

    assert first.json()["data"]["createContact"]["__typename"] == "Contact"
    assert again.json()["data"] == first.json()["data"]
    assert argument.json()["data"]["createContact"]["__typename"] == "ConflictError"


async def test_the_header_ignores_operations_that_are_not_executed(
    gateway: Gateway,
) -> None:
    document = CREATE_CONTACT.replace("mutation (", "mutation Run (").replace(
        "  createContact(", "  ... on Mutation { __typename } createContact("
    ) + TWO.replace("mutation (", "mutation Other (")
    answers = [
        await gateway.client.post(
            "/graphql",
            json={
                "query": document,
                "operationName": "Run",
                "variables": {"input": MAYA_INPUT},
            },
            headers=credentials(gateway.admin) | {"Idempotency-Key": "k"},
        )
        for _ in range(2)
    ]

    assert answers[0].json()["data"]["createContact"]["__typename"] == "Contact"
    assert answers[1].json()["data"] == answers[0].json()["data"]
    assert answers[1].headers["Idempotent-Replayed"] == "true"


async def test_nested_fragments_are_read_once_each(gateway: Gateway) -> None:
    levels = 60
    fragments = "".join(
        f"fragment f{level} on Mutation {{ ...f{level + 1} ...f{level + 1} }} "
        for level in range(levels)
    )
    deepest = f"fragment f{levels} on Mutation {{ createContact(input: $input) {{ __typename }} }}"
    document = f"mutation ($input: CreateContactInput!) {{ ...f0 }} {fragments} {deepest}"
    variables = {"input": MAYA_INPUT}
    # In exponential time, this would never end.
    response = await gateway.graphql(document, gateway.admin, variables, **{"Idempotency-Key": "k"})

    assert response.json() == {"data": {"createContact": {"__typename": "Contact"}}}


async def test_the_header_does_not_replace_the_arguments_of_two_creations(gateway: Gateway) -> None:
    other = {"advertiserId": 1002, "email": "maya@example.com"}
    response = await gateway.graphql(
        TWO, gateway.admin, {"a": MAYA_INPUT, "b": other}, **{"Idempotency-Key": "k"}
    )

    assert response.json() == {
        "data": {"a": {"__typename": "Contact"}, "b": {"__typename": "Contact"}}
    }


async def test_a_replay_is_named_beside_the_data(gateway: Gateway) -> None:
    variables = {"input": MAYA_INPUT, "idempotencyKey": "k"}
    first = await gateway.graphql(CREATE_CONTACT, gateway.admin, variables)
    again = await gateway.graphql(CREATE_CONTACT, gateway.admin, variables)
    preview = await gateway.graphql(CREATE_CONTACT, gateway.admin, variables | {"dryRun": True})

    for not_replayed in (first, preview):
        assert "extensions" not in not_replayed.json()
        assert "Idempotent-Replayed" not in not_replayed.headers
    assert again.json() == first.json() | {"extensions": {"idempotentReplayed": ["createContact"]}}
    assert again.headers["Idempotent-Replayed"] == "true"


async def test_each_replay_of_a_document_is_named(gateway: Gateway) -> None:
    """The header cannot say which of two creations it is about."""
    document = """mutation ($input: CreateContactInput!) {
      one: createContact(input: $input, idempotencyKey: "k") { __typename }
      two: createContact(input: $input, idempotencyKey: "k") { __typename }
      three: createContact(input: $input, idempotencyKey: "other") { __typename }
    }"""
    response = await gateway.graphql(document, gateway.admin, {"input": MAYA_INPUT})

    assert response.json() == {
        "data": {
            "one": {"__typename": "Contact"},
            "two": {"__typename": "Contact"},
            "three": {"__typename": "ConflictError"},
        },
        "extensions": {"idempotentReplayed": ["two"]},
    }
    assert "Idempotent-Replayed" not in response.headers


async def test_creations_that_an_outage_interrupts_can_be_repeated_with_their_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No field has data then, so the caller does not learn which contacts are created."""
    document = """mutation ($a: CreateContactInput!, $b: CreateContactInput!) {
      a: createContact(input: $a, idempotencyKey: "a") { __typename }
      b: createContact(input: $b, idempotencyKey: "b") { __typename }
    }"""
    variables = {"a": MAYA_INPUT, "b": {"advertiserId": 2001, "email": "noor@example.com"}}
    create, calls, repeats = contacts.create, count(), Event()

    def create_once_or_again(*arguments: Json) -> Json:
        if next(calls) and not repeats.is_set():
            raise LostRaceError
        return create(*arguments)

    monkeypatch.setattr(contacts, "create", create_once_or_again)
    async with running_gateway(tmp_path) as gateway:
        interrupted = await gateway.graphql(document, gateway.admin, variables)
        repeats.set()
        repeated = await gateway.graphql(document, gateway.admin, variables)

    assert interrupted.status_code == 503
    assert interrupted.json()["data"] is None
    assert [error["path"] for error in interrupted.json()["errors"]] == [["b"]]
    assert repeated.json() == {
        "data": {"a": {"__typename": "Contact"}, "b": {"__typename": "Contact"}},
        "extensions": {"idempotentReplayed": ["a"]},
    }


async def test_each_creation_of_a_document_counts_as_an_operation(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, rate_limit_per_hour=1) as gateway:
        response = await gateway.graphql(TWO, gateway.admin, {"a": MAYA_INPUT, "b": MAYA_INPUT})

    assert response.json()["data"] == {
        "a": {"__typename": "Contact"},
        "b": {"__typename": "RateLimitedError"},
    }


async def test_all_reads_of_a_document_count_as_one_operation(tmp_path: Path) -> None:
    document = "{ a: viewer { label } b: viewer { label } contacts { nodes { id } } }"
    async with running_gateway(tmp_path, rate_limit_per_hour=1) as gateway:
        allowed = await gateway.graphql(document, gateway.member)
        refused = await gateway.graphql(document, gateway.member)

    assert "errors" not in allowed.json()
    assert allowed.headers["X-RateLimit-Remaining"] == "0"
    assert {error["extensions"]["code"] for error in refused.json()["errors"]} == {"RATE_LIMITED"}
    assert int(refused.headers["Retry-After"]) > 0


async def test_introspection_needs_no_key_and_does_not_count(new_gateway: Gateway) -> None:
    without = await new_gateway.graphql("{ __schema { mutationType { name } } }")
    with_key = await new_gateway.graphql("{ __typename }", new_gateway.member)

    assert without.json() == {"data": {"__schema": {"mutationType": {"name": "Mutation"}}}}
    assert with_key.headers["X-RateLimit-Remaining"] == "10000"


async def test_introspection_can_be_switched_off(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, introspection=False) as gateway:
        schema = await gateway.graphql("{ __schema { mutationType { name } } }")
        misspelt = await gateway.graphql("{ viewr { label } }")

    assert schema.status_code == 400
    assert "viewer" not in misspelt.text


@pytest.mark.parametrize(
    ("accept", "status", "media_type"),
    [
        ("application/graphql-response+json", 400, "application/graphql-response+json"),
        ("application/json", 200, "application/json"),
        ("*/*", 400, "application/json"),
        ("", 400, "application/json"),
        (
            "application/json;q=0.5, application/graphql-response+json",
            400,
            "application/graphql-response+json",
        ),
        ("application/json, application/graphql-response+json;q=0.9", 200, "application/json"),
        ("text/html, */*;q=0.1", 400, "application/json"),
        ("application/json;q=0, */*", 400, "application/graphql-response+json"),
        ("application/*, application/json;q=0.1", 400, "application/graphql-response+json"),
        ("application/*;q=0.1, */*", 400, "application/json"),
    ],
)
async def test_the_status_of_an_invalid_document_depends_on_the_media_type(
    gateway: Gateway, accept: str, status: int, media_type: str
) -> None:
    response = await gateway.graphql("{ nope }", None, Accept=accept)

    assert response.status_code == status
    assert response.headers["Content-Type"] == f"{media_type}; charset=utf-8"


async def test_queries_can_be_sent_by_get(gateway: Gateway) -> None:
    response = await gateway.client.get(
        "/graphql",
        params={"query": "query ($n: Int) { contacts(page: $n) { nodes { id } } }"}
        | {"variables": '{"n": 1}'},
        headers=credentials(gateway.member),
    )

    assert response.json() == {"data": {"contacts": {"nodes": []}}}


async def test_browsers_get_the_explorer_with_a_strict_policy(gateway: Gateway) -> None:
    page = await gateway.client.get("/graphql", headers={"Accept": "text/html"})
    script = await gateway.client.get("/graphql/explorer/explorer.js")
    missing = await gateway.client.get("/graphql/explorer/nope.js")
    without_policy = await gateway.client.get("/graphql/explorer/explorer.html")

    assert page.headers["Content-Type"].startswith("text/html")
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert script.status_code == 200
    assert missing.json()["error"]["code"] == "NOT_FOUND"
    assert without_policy.status_code == 404


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "text/html"),
        ("TEXT/HTML", "text/html"),
        ("text/html, application/json", "text/html"),
        ("application/json, text/html;q=0", "application/json"),
        ("application/json, text/html;q=0.9", "application/json"),
        ("application/json, text/*", "application/json"),
        ("*/*", "application/json"),
    ],
)
async def test_the_explorer_is_for_clients_that_prefer_html(
    gateway: Gateway, accept: str, media_type: str
) -> None:
    page = await gateway.client.get("/graphql", headers={"Accept": accept})

    assert page.headers["Content-Type"].startswith(media_type)


@pytest.mark.parametrize("accept", ["text/html", "text/html,application/xml;q=0.9,*/*;q=0.8"])
async def test_the_explorer_can_be_switched_off(tmp_path: Path, accept: str) -> None:
    async with running_gateway(tmp_path, graphiql=False) as gateway:
        page = await gateway.client.get("/graphql", headers={"Accept": accept})
        script = await gateway.client.get("/graphql/explorer/explorer.js")

    (error,) = page.json()["errors"]
    assert page.status_code == 400
    assert error["message"] == "GraphiQL is switched off here. Send GraphQL documents by POST."
    assert script.status_code == 404


async def test_a_websocket_is_refused_with_what_is_offered_instead(gateway: Gateway) -> None:
    handshake = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Protocol": "graphql-transport-ws",
    }
    response = await gateway.client.get("/graphql", headers=handshake)

    (error,) = response.json()["errors"]
    assert response.status_code == 400
    assert error["message"].startswith("WebSockets are not supported")
    assert error["message"].endswith("Send queries and mutations by POST.")


async def test_a_stream_is_refused_with_what_is_offered_instead(gateway: Gateway) -> None:
    response = await gateway.post_json(
        "/graphql", {"query": "{ viewer { label } }"}, {"Accept": "text/event-stream"}
    )

    (error,) = response.json()["errors"]
    assert response.status_code == 406
    assert error["message"].endswith("Answers are not streamed.")


async def test_other_origins_are_allowed_only_by_the_setting(
    tmp_path: Path, gateway: Gateway
) -> None:
    origin = "https://app.example.com"
    preflight = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": (
            "apollographql-client-name, baggage, content-type, idempotency-key, sentry-trace, "
            "traceparent, tracestate, x-api-key, x-requested-with"
        ),
    }
    folder = tmp_path / "cors"
    folder.mkdir()
    async with running_gateway(folder, cors_origins=origin) as open_gateway:
        allowed = await open_gateway.client.options("/graphql", headers=preflight)
        read = preflight | {"Access-Control-Request-Method": "GET"}
        allowed_read = await open_gateway.client.options("/graphql", headers=read)
        answered = await open_gateway.client.post("/graphql", headers={"Origin": origin})
    refused = await gateway.client.options("/graphql", headers=preflight)

    assert (allowed.status_code, allowed_read.status_code) == (200, 200)
    assert allowed.headers["Access-Control-Allow-Origin"] == origin
    assert (
        allowed.headers["Access-Control-Allow-Headers"]
        == preflight["Access-Control-Request-Headers"]
    )
    assert answered.headers["Access-Control-Allow-Origin"] == origin
    assert "Access-Control-Allow-Origin" not in refused.headers
    assert answered.headers["Access-Control-Expose-Headers"].split(", ") == [
        "Idempotent-Replayed",
        "Location",
        "RateLimit",
        "RateLimit-Policy",
        "Retry-After",
        "X-RateLimit-Limit",
        "X-RateLimit-Remaining",
        "X-RateLimit-Reset",
        "X-Request-Id",
        "X-Upstream-Request-Id",
    ]


APP = "https://app.example"


@pytest.mark.parametrize(
    ("origins", "origin", "method", "logged", "reason"),
    [
        (APP, "https://other.example", "POST", "https://other.example", "Disallowed CORS origin"),
        (APP, APP, "DELETE", APP, "Disallowed CORS method"),
        (APP, "https://maya@other.example", "POST", None, "Disallowed CORS origin"),
        (APP, "null", "PUT", "null", "Disallowed CORS origin, method"),
        # No origin is allowed by default: this is what the first page of another origin meets.
        ("", "http://localhost:5173", "POST", "http://localhost:5173", "Disallowed CORS origin"),
    ],
)
async def test_a_refused_preflight_is_logged_with_its_reason(
    tmp_path: Path,
    log: io.StringIO,
    origins: str,
    origin: str,
    method: str,
    logged: str | None,
    reason: str,
) -> None:
    preflight = {"Origin": origin, "Access-Control-Request-Method": method}
    async with running_gateway(tmp_path, cors_origins=origins) as gateway:
        response = await gateway.client.options("/graphql", headers=preflight)
    # Lines are written in the next iteration of the event loop.
    await checkpoint()

    warnings = [json.loads(line) for line in log.getvalue().splitlines() if "refused" in line]
    assert response.status_code == 400
    assert [(each["origin"], each["reason"]) for each in warnings] == [(logged, reason)]
