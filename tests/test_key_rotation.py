"""A rotated key is the same key with another secret, to callers and to the operator."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import httpx
import pytest
from sqlalchemy import Connection, select

from contact_gateway.access.api_keys import Rotation, rotate
from contact_gateway.store import api_keys
from contact_gateway.store.tables import contacts
from support.faces import FACES, Face, Json
from support.gateway import Gateway, Store, filled_store, running_gateway
from support.process import CONTACT_GATEWAY, GatewayProcess, completed, gateway_process

pytestmark = pytest.mark.usefixtures("engine")

ADMIN_ID: Final = 1
MAYA: Final[dict[str, Json]] = {"advertiser_id": 2001, "email": "maya@example.com"}
KAI: Final[dict[str, Json]] = {"advertiser_id": 2001, "email": "kai@example.com"}
HOUR: Final = timedelta(hours=1)
EVERY_FACE = pytest.mark.parametrize("face", FACES.values(), ids=list(FACES))


async def _rotate(gateway: Gateway, overlap: timedelta) -> str:
    """Rotate the admin's key as another process does; return its new text."""

    def replace_secret(connection: Connection) -> str:
        record = api_keys.by_id(connection, [ADMIN_ID])[ADMIN_ID]
        rotation = rotate(record, overlap, datetime.now(UTC))
        assert isinstance(rotation, Rotation)
        api_keys.replace_secret(connection, rotation.record)
        return rotation.minted.text

    return await gateway.database.write(replace_secret)


@pytest.mark.anyio
@EVERY_FACE
async def test_both_secrets_share_idempotency_keys_rate_limit_and_audit(
    tmp_path: Path, face: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The hour of the limit does not end.
    monkeypatch.setattr(time, "time", lambda: 1_750_000_000.0)
    async with running_gateway(tmp_path, rate_limit_per_hour=4) as gateway:
        first = await face.submit(gateway, MAYA, gateway.admin, idempotency_key="k")
        new = await _rotate(gateway, HOUR)
        replayed = await face.submit(gateway, MAYA, new, idempotency_key="k")
        by_new = await face.submit(gateway, KAI, new)
        again = await face.submit(gateway, KAI, gateway.admin)
        over = await face.submit(gateway, MAYA, new)
        creators = await gateway.database.read(
            lambda connection: connection.execute(select(contacts.c.created_by_key_id)).all()
        )

    assert replayed.contact == first.contact
    assert by_new.outcome == "CONTACT"
    assert again.outcome == "CONFLICT"
    assert over.outcome == "RATE_LIMITED"
    assert [row[0] for row in creators] == [ADMIN_ID] * 2


@pytest.mark.anyio
@EVERY_FACE
async def test_a_cached_secret_without_overlap_creates_nothing(tmp_path: Path, face: Face) -> None:
    async with running_gateway(tmp_path) as gateway:
        await face.submit(gateway, MAYA, gateway.admin, dry_run=True)
        new = await _rotate(gateway, timedelta())
        by_old = await face.submit(gateway, MAYA, gateway.admin)
        by_new = await face.submit(gateway, MAYA, new)

    assert by_old.outcome == "UNAUTHORIZED"
    assert by_old.message == "This API key has been replaced. Use the new one."
    assert by_new.outcome == "CONTACT"


@pytest.mark.anyio
async def test_an_ended_secret_is_not_a_guess(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, key_guesses_per_minute=1) as gateway:
        new = await _rotate(gateway, timedelta())
        refused = [await gateway.rest("/contacts", gateway.admin) for _ in range(4)]
        accepted = await gateway.rest("/contacts", new)

    assert {answer.status_code for answer in refused} == {401}
    assert accepted.status_code == 200


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return filled_store(tmp_path)


@pytest.fixture
def process(store: Store) -> Iterator[GatewayProcess]:
    _run(store, "rotate", str(ADMIN_ID), "--expires-in-days", "3")
    with gateway_process(store.folder, store=store) as running:
        yield running


def _run(store: Store, *arguments: str) -> str:
    environment = {"CONTACT_GATEWAY_DATABASE_URL": store.url}
    ran = completed((*CONTACT_GATEWAY, "keys", *arguments), store.folder, environment)
    ran.check_returncode()
    return ran.stdout


def test_a_running_gateway_stores_the_use_of_keys_and_logs_those_that_end(
    process: GatewayProcess, store: Store
) -> None:
    on = {f"{datetime.now(UTC):%Y-%m-%d}"}
    for name in ("admin", "member"):
        with process.client(store.keys[name]) as client:
            assert client.get("/api/v1/contacts").status_code == httpx.codes.OK
    assert process.stop() == 0
    on.add(f"{datetime.now(UTC):%Y-%m-%d}")

    used = {key["label"]: key["last_used_on"] for key in json.loads(_run(store, "list", "--json"))}
    assert {label for label, day in used.items() if day in on} == {"admin", "member"}
    assert {day for day in used.values() if day not in on} == {None}
    lines = [json.loads(line) for line in process.log().splitlines()]
    assert [
        (line["event"], line["key_id"], line["days_left"])
        for line in lines
        if line["level"] == "warning"
    ] == [("API key expires soon", ADMIN_ID, 2), ("old secret of an API key in use", ADMIN_ID, 0)]
