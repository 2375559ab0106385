"""What is compared: each row's gateway, and the request that creates a contact through it."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

from benchmarks import hive, servers
from benchmarks.load import Creation
from benchmarks.servers import Launch, Server
from benchmarks.upstream_server import PATH

# Starts a gateway, given a file for its log and the port of the upstream.
Start = Callable[[Path, int], AbstractContextManager[Server]]

_CONTACT: Final = {
    "email": "{n}@example.com",
    "name": "Noor Haddad",
    "phone": "+1 555 0100",
    "source": "benchmark",
}
_SNAKE_CASE: Final = {
    "advertiser_id": 42,
    **_CONTACT,
    "given_name": "Noor",
    "family_name": "Haddad",
    "job_title": "Buyer",
}
_CAMEL_CASE: Final = {
    "advertiserId": "42",
    **_CONTACT,
    "givenName": "Noor",
    "familyName": "Haddad",
    "jobTitle": "Buyer",
}
_SELECTION: Final = """{
  __typename
  ... on Contact { id advertiserId email name givenName familyName phone jobTitle createdAt }
  ... on ApiError { code message }
}"""
_OURS: Final = f"""mutation CreateContact($input: CreateContactInput!) {{
  createContact(input: $input) {_SELECTION}
}}"""
_OURS_KEYED: Final = f"""mutation CreateContact($input: CreateContactInput!, $key: String) {{
  createContact(input: $input, idempotencyKey: $key) {_SELECTION}
}}"""
_HIVES: Final = """mutation CreateContact($input: NewContact_Input!) {
  createContact(input: $input) {
    __typename
    ... on CreatedContact {
      data {
        id
        attributes {
          advertiser_id email name given_name family_name phone job_title created_at
        }
      }
    }
    ... on Error { error { code message } }
  }
}"""


@dataclass(frozen=True, slots=True)
class Row:
    """One gateway and one way to create contacts through it."""

    name: str
    creation: Creation
    start: Start


def _graphql(document: str, **variables: object) -> Creation:
    body = json.dumps({"query": document, "variables": variables})
    return Creation("/graphql", body, HTTPStatus.OK)


def _ours(log: Path, upstream_port: int) -> AbstractContextManager[Server]:
    """Start this project's gateway with a new ledger."""
    ledger = log.with_suffix(".sqlite3")
    for file in ledger.parent.glob(f"{ledger.name}*"):
        file.unlink()
    port = servers.free_port()
    settings = {
        "CONTACT_GATEWAY_UPSTREAM_URL": f"http://127.0.0.1:{upstream_port}/api/v1",
        "CONTACT_GATEWAY_DATABASE_URL": f"sqlite+aiosqlite:///{ledger.name}",
        "CONTACT_GATEWAY_RATE_LIMIT_PER_HOUR": "0",
    }
    command = (str(servers.PYTHON.with_name("contact-gateway")), "serve", "--port", str(port))
    return servers.running(Launch(command, port, log, folder=log.parent, settings=settings))


REST: Final = Creation(PATH, json.dumps({"contact": _SNAKE_CASE}), HTTPStatus.CREATED)
OURS: Final = (
    Row("contact-gateway, GraphQL", _graphql(_OURS, input=_CAMEL_CASE), _ours),
    Row("contact-gateway, REST", REST, _ours),
    Row(
        "contact-gateway, GraphQL with idempotency keys",
        _graphql(_OURS_KEYED, input=_CAMEL_CASE, key="{n}"),
        _ours,
    ),
)
_HIVES_CREATION: Final = _graphql(_HIVES, input={"contact": _SNAKE_CASE})
PEERS: Final = (
    Row("Hive Gateway", _HIVES_CREATION, hive.start),
    Row("Hive Gateway, system's Node", _HIVES_CREATION, hive.start_on_the_systems_node),
)
