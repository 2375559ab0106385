"""What is compared: each row's gateway, and the request that creates a contact through it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks import hive, servers
from benchmarks.load import Operation
from benchmarks.operations import CREATE, CREATE_BY_REST, CREATE_KEYED, SNAKE_CASE, graphql
from benchmarks.servers import Launch, Server

# Starts a gateway, given a file for its log and the port of the upstream.
Start = Callable[[Path, int], AbstractContextManager[Server]]

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
    operation: Operation
    start: Start


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


OURS: Final = (
    Row("contact-gateway, GraphQL", CREATE, _ours),
    Row("contact-gateway, REST", CREATE_BY_REST, _ours),
    Row("contact-gateway, GraphQL with idempotency keys", CREATE_KEYED, _ours),
)
_HIVES_CREATION: Final = graphql(_HIVES, input={"contact": SNAKE_CASE | {"advertiser_id": 42}})
PEERS: Final = (
    Row("Hive Gateway", _HIVES_CREATION, hive.start),
    Row("Hive Gateway, system's Node", _HIVES_CREATION, hive.start_on_the_systems_node),
)
