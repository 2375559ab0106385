"""Two gateways on a PostgreSQL primary and its synchronous standby, under load.

Whatever is killed, no acknowledged contact is lost, changed or duplicated, and callers get a short
503 at worst. `scripts/failover` runs more rounds, on the servers of the operating system.
"""

import asyncio
import os
import random
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import psycopg
import pytest
from psycopg.rows import class_row

from support.gateway import Store, filled_store_at
from support.load import Load, Shown, findings
from support.postgresql_cluster import Cluster, postgresql_cluster
from support.process import GatewayProcess, gateway_process

FAILOVERS: Final = int(os.environ.get("FAILOVERS", "1"))
MOST_BEFORE_A_FAULT: Final = 100
CONTACTS_AFTER_A_FAULT: Final = 20
WORKERS: Final = 2
ENVIRONMENT: Final = {
    "CONTACT_GATEWAY_RATE_LIMIT_PER_HOUR": "0",
    # A killed process writes no coverage data, and measuring slows it down.
    "COVERAGE_PROCESS_CONFIG": "",
}
STORED: Final = "SELECT id, advertiser_id, email, name, job_title FROM contacts"


def _fail_over(cluster: Cluster, _: Sequence[GatewayProcess]) -> None:
    cluster.primary.kill()
    cluster.promote()


def _restart(cluster: Cluster, _: Sequence[GatewayProcess]) -> None:
    cluster.primary.restart()


def _kill_a_worker(_: Cluster, processes: Sequence[GatewayProcess]) -> None:
    process = random.choice(processes)  # noqa: S311 - no secret
    os.kill(process.workers(WORKERS)[0], signal.SIGKILL)


FAULTS: Final[Mapping[str, Callable[[Cluster, Sequence[GatewayProcess]], None]]] = {
    "primary killed, standby promoted": _fail_over,
    "primary crashed and restarted": _restart,
    "worker killed": _kill_a_worker,
}


class Round(NamedTuple):
    """What callers saw of one fault, in seconds."""

    fault: str
    from_first_to_last_503: float
    until_both_gateways_created_contacts: float


def test_no_acknowledged_contact_is_lost_changed_or_duplicated(tmp_path: Path) -> None:
    with postgresql_cluster() as cluster:
        store = asyncio.run(filled_store_at(cluster.url, tmp_path))
        with _gateways(tmp_path, store) as processes:
            load, rounds = asyncio.run(_under_load(cluster, processes, store))
            logs = "".join(each.log() for each in processes)
        found = findings(load.created.values(), _stored(cluster))

    _print_figures(rounds)
    sys.stdout.write(
        f"{len(load.created)} acknowledged contacts: {len(found.lost)} lost, {len(found.changed)}"
        f" changed, {len(found.duplicated)} addresses twice; {len(load.unavailable)} answers of"
        f" 503, {load.unanswered} calls without an answer, {len(load.unexpected)} other answers\n"
    )
    assert found == ([], [], [])
    assert load.unexpected == []
    assert "Traceback" not in logs
    assert '"level":"error"' not in logs


@contextmanager
def _gateways(folder: Path, store: Store) -> Iterator[Sequence[GatewayProcess]]:
    """Run two gateways with two workers each, as on two hosts."""
    for name in ("one", "two"):
        (folder / name).mkdir()
    run = partial(gateway_process, store=store, environment=ENVIRONMENT)
    workers = ("--workers", str(WORKERS))
    with run(folder / "one", *workers) as one, run(folder / "two", *workers) as two:
        yield one, two


async def _under_load(
    cluster: Cluster, processes: Sequence[GatewayProcess], store: Store
) -> tuple[Load, Sequence[Round]]:
    """Let faults happen at random moments of a load; after each, wait until all is as before."""
    rounds: list[Round] = []
    async with AsyncExitStack() as gateways:
        load = Load([await gateways.enter_async_context(each.gateway(store)) for each in processes])
        async with load.running():
            for name, fault in list(FAULTS.items()) * FAILOVERS:
                count = random.randint(1, MOST_BEFORE_A_FAULT)  # noqa: S311 - no secret
                await load.wait_for_contacts(count)
                earlier, began_at = len(load.unavailable), time.monotonic()
                await asyncio.to_thread(fault, cluster, processes)
                await load.wait_for_contacts(CONTACTS_AFTER_A_FAULT)
                served_at = time.monotonic()
                times = load.unavailable[earlier:] or [began_at]
                rounds.append(Round(name, max(times) - min(times), served_at - began_at))
                await asyncio.to_thread(cluster.heal)
    return load, rounds


def _print_figures(rounds: Sequence[Round]) -> None:
    for name in FAULTS:
        of_fault = [each for each in rounds if each.fault == name]
        seconds = [each.from_first_to_last_503 for each in of_fault]
        served = [each.until_both_gateways_created_contacts for each in of_fault]
        sys.stdout.write(
            f"{name}, {len(of_fault)} times: 503 for {statistics.median(seconds):.2f} s (median),"
            f" {max(seconds):.2f} s at most; {CONTACTS_AFTER_A_FAULT} contacts by each gateway"
            f" after {statistics.median(served):.2f} s, {max(served):.2f} s at most\n"
        )


@pytest.mark.skipif(
    "FAILOVERS" not in os.environ, reason="it tests the test above, with scripts/failover"
)
def test_an_asynchronous_standby_loses_what_it_has_not_received(tmp_path: Path) -> None:
    with postgresql_cluster(synchronous=False) as cluster:
        store = asyncio.run(filled_store_at(cluster.url, tmp_path))
        with gateway_process(tmp_path, store=store, environment=ENVIRONMENT) as process:
            load = asyncio.run(_without_standby(cluster, process, store))
        found = findings(load.created.values(), _stored(cluster))

    sys.stdout.write(f"asynchronous standby: {len(found.lost)} contacts lost, as expected\n")
    assert len(found.lost) >= CONTACTS_AFTER_A_FAULT
    assert found.duplicated == []


async def _without_standby(cluster: Cluster, process: GatewayProcess, store: Store) -> Load:
    """Create contacts while the standby does not run, and kill the primary."""
    async with process.gateway(store) as gateway:
        load = Load([gateway])
        async with load.running():
            await asyncio.to_thread(cluster.standby.kill)
            await load.wait_for_contacts(CONTACTS_AFTER_A_FAULT)
            await asyncio.to_thread(cluster.primary.kill)
            await asyncio.to_thread(cluster.standby.start)
            await asyncio.to_thread(cluster.promote)
    return load


def test_contacts_that_are_lost_changed_or_duplicated_are_found() -> None:
    contact = Shown(1, 1001, "maya@example.com", "Maya", "Buyer")
    changed, again = contact._replace(name="Noor"), contact._replace(id=2)

    assert findings([contact], [contact]) == ([], [], [])
    assert findings([contact], []).lost == [contact]
    assert findings([contact], [changed]).changed == [contact]
    assert findings([], [contact, again]).duplicated == [contact.address]


def _stored(cluster: Cluster) -> Sequence[Shown]:
    with psycopg.connect(cluster.url, row_factory=class_row(Shown)) as connection:
        return connection.execute(STORED).fetchall()
