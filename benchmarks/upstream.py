"""The gateway and Hive Gateway in front of one upstream API, in interleaved rounds of one run.

Run it with `scripts/bench upstream`.
"""

import argparse
import itertools
import json
import operator
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks import peers, servers
from benchmarks.load import ask_once, send
from benchmarks.measuring import Measured, measure, started
from benchmarks.operations import (
    CREATE,
    CREATE_BY_REST,
    CREATE_IDEMPOTENT,
    SNAKE_CASE,
    Operation,
    graphql,
)
from benchmarks.report import Target, conditions, figures, ratios
from benchmarks.run import LOGS, commit, python, session
from benchmarks.servers import BenchmarkError, Server

OPERATIONS: Final[Mapping[str, Operation]] = {
    "upstream-graphql": CREATE,
    "upstream-rest": CREATE_BY_REST,
    "upstream-idempotent": CREATE_IDEMPOTENT,
}
"""The operations in front of an upstream API, by their names on the command line."""

_HIVE_CREATION: Final = graphql(
    "createContact by Hive Gateway",
    """mutation CreateContact($input: NewContact_Input!) {
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
}""",
    input={"contact": SNAKE_CASE | {"advertiser_id": 42}},
)
_MIN_UPSTREAM_RATE: Final = 8_000
_TARGETS: Final = {
    "answers/s": Target(lambda each: each.load.per_second, operator.ge, 4),
    "p99": Target(lambda each: each.load.p99_ms, operator.le, 1),
    "memory": Target(lambda each: each.memory_mb, operator.le, 1 / 3),
}


@dataclass(frozen=True, slots=True)
class _Contestant:
    """A gateway in front of the upstream on a port, and one way to create contacts through it."""

    name: str
    operation: Operation
    start: Callable[[Path, int], AbstractContextManager[Server]]

    def started(self, upstream: Server) -> AbstractContextManager[tuple[Server, float]]:
        """Start the gateway and wait for its first right answer."""
        log = LOGS / f"{re.sub('[^a-z]+', '-', self.name.lower())}.log"
        return started(self.start(log, upstream.port), self.operation)


def gateway(
    log: Path,
    upstream_port: int,
    program: Path = servers.GATEWAY,
    *,
    looks_first: bool = False,
) -> AbstractContextManager[Server]:
    """Run the gateway in front of the upstream API, with a new ledger.

    It sends a creation at once, unless `looks_first`: then it first looks for the address.
    """
    ledger = log.with_suffix(".sqlite3")
    for file in ledger.parent.glob(f"{ledger.name}*"):
        file.unlink()
    settings = {
        "CONTACT_GATEWAY_UPSTREAM_URL": f"http://127.0.0.1:{upstream_port}/api/v1",
        "CONTACT_GATEWAY_DATABASE_URL": f"sqlite+aiosqlite:///{ledger}",
        "CONTACT_GATEWAY_RATE_LIMIT_PER_HOUR": "0",
    }
    # Commits without the setting never look first.
    sources = program.parents[2] / "src" / "contact_gateway"
    if not looks_first and "upstream_refuses_duplicates" in (sources / "settings.py").read_text():
        settings["CONTACT_GATEWAY_UPSTREAM_REFUSES_DUPLICATES"] = "yes"
    return servers.gateway(log, settings, program)


_GATEWAYS: Final = (
    _Contestant("contact-gateway, GraphQL", CREATE, gateway),
    _Contestant("contact-gateway, REST", CREATE_BY_REST, gateway),
    _Contestant("contact-gateway, GraphQL with idempotency keys", CREATE_IDEMPOTENT, gateway),
    _Contestant(
        "contact-gateway, REST, looking first", CREATE_BY_REST, partial(gateway, looks_first=True)
    ),
)
_PEERS: Final = (
    _Contestant("Hive Gateway", _HIVE_CREATION, peers.hive),
    _Contestant("Hive Gateway, installed Node", _HIVE_CREATION, peers.hive_on_installed_node),
)


def counter(upstream: Server) -> Callable[[], int]:
    """Return a function that counts the contacts created upstream, by creating another."""
    own = itertools.count(1)

    def created() -> int:
        newest = json.loads(ask_once(CREATE_BY_REST, upstream.port))["data"]["id"]
        return int(newest) - next(own)

    return created


def main() -> None:
    """Measure, and print the results as markdown."""
    parser = argparse.ArgumentParser(prog="scripts/bench upstream", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=6, help="length of a round")
    parser.add_argument("--warm-up", type=int, default=10, help="seconds of load before the rounds")
    options = parser.parse_args()
    with session(requires=peers.REQUIREMENTS):
        peers.install_hive()
        head = (
            f"contact-gateway at {commit()} on {python()}, {peers.hive_versions()}. "
            "The gateway on one core, the load and the upstream on another. "
            f"{conditions(options.rounds, options.seconds, options.warm_up)}"
        )
        gateways, alone = _measure(options.rounds, options.seconds, options.warm_up)
    ours, others = gateways[: len(_GATEWAYS)], gateways[len(_GATEWAYS) :]
    compared = (ratios(ours, peer, _TARGETS) for peer in others)
    sys.stdout.write("\n\n".join((head, figures((*gateways, alone)), *compared)) + "\n")


def _measure(rounds: int, seconds: float, warm_up: float) -> tuple[list[Measured], Measured]:
    """Return the figures of each gateway, and of the upstream API without one."""
    contestants = (*_GATEWAYS, *_PEERS)
    gateways = [Measured(contestant.name) for contestant in contestants]
    alone = Measured("the upstream API alone, REST")
    with ExitStack() as stack:
        upstream = stack.enter_context(servers.upstream(LOGS / "upstream.log"))
        created = counter(upstream)
        alone.rounds.append(measure(alone.name, CREATE_BY_REST, upstream, seconds, created))
        if alone.rounds[0].load.per_second < _MIN_UPSTREAM_RATE:
            raise BenchmarkError("The upstream API is too slow here to compare gateways.")
        for contestant, measured in zip(contestants, gateways, strict=True):
            measured.starts = [_seconds_to_start(contestant, upstream) for _ in range(rounds)]
        running = [stack.enter_context(each.started(upstream))[0] for each in contestants]
        for contestant, server in zip(contestants, running, strict=True):
            send(contestant.operation, server.port, warm_up)
        for _ in range(rounds):
            for contestant, server, measured in zip(contestants, running, gateways, strict=True):
                measured.rounds.append(
                    measure(contestant.name, contestant.operation, server, seconds, created)
                )
        for server, measured in zip((*running, upstream), (*gateways, alone), strict=True):
            measured.peak_memory_mb = server.memory_mb("VmHWM")
    return gateways, alone


def _seconds_to_start(contestant: _Contestant, upstream: Server) -> float:
    with contestant.started(upstream) as (_, seconds):
        return seconds


if __name__ == "__main__":
    main()
