"""The database file is replaced or deleted under a running gateway. Nothing is acknowledged."""

import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from contact_gateway.store import contacts
from support.faces import FACES, Json
from support.gateway import Gateway, Store, filled_store, running_gateway
from support.process import GatewayProcess, gateway_process

pytestmark = pytest.mark.anyio

MAYA: Final[dict[str, Json]] = {"advertiser_id": 2001, "email": "maya@example.com"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return filled_store(tmp_path)


@pytest.fixture
def process(store: Store) -> Iterator[GatewayProcess]:
    with gateway_process(store.folder, store=store) as running:
        yield running


def _replace(file: Path) -> None:
    copy = file.with_name("copy")
    shutil.copy(file, copy)
    copy.replace(file)


async def _check_is_unavailable(gateway: Gateway) -> None:
    for face in FACES.values():
        answer = await face.submit(gateway, MAYA, gateway.admin)
        # For agents, which see no status, an outage is a result.
        status = 200 if face is FACES["MCP"] else 503
        assert (answer.outcome, answer.status) == ("SERVICE_UNAVAILABLE", status)
    assert (await gateway.rest("/contacts", gateway.member)).status_code == 503
    assert (await gateway.client.get("/readyz")).status_code == 503
    assert (await gateway.client.get("/healthz")).status_code == 200


@pytest.mark.parametrize(
    ("lose", "word"), [(_replace, "replaced"), (Path.unlink, "deleted")], ids=["mv", "rm"]
)
async def test_a_gateway_without_its_file_answers_503_and_says_how_to_restore(
    store: Store, process: GatewayProcess, lose: Callable[[Path], None], word: str
) -> None:
    async with process.gateway(store) as gateway:
        assert (await gateway.client.get("/readyz")).status_code == 200
        lose(store.file)
        existed = store.file.exists()

        await _check_is_unavailable(gateway)

    assert store.file.exists() == existed
    lines = [json.loads(line) for line in process.log().splitlines()]
    (lost,) = (line for line in lines if line["event"] == "database file lost")
    assert lost["file"] == str(store.file)
    assert f"{store.file} was {word} while" in lost["cause"]
    assert "`contact-gateway store restore COPY`" in lost["cause"]


async def test_a_gateway_whose_file_is_put_back_goes_on(
    store: Store, process: GatewayProcess
) -> None:
    aside = store.file.with_name("aside")
    async with process.gateway(store) as gateway:
        store.file.rename(aside)
        await _check_is_unavailable(gateway)

        aside.rename(store.file)

        assert (await gateway.client.get("/readyz")).status_code == 200
        created = await FACES["REST"].submit(gateway, MAYA, gateway.admin)
        assert created.outcome == "CONTACT"
        assert await gateway.contact_rows() == 1


async def test_a_file_that_is_replaced_during_a_commit_acknowledges_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = contacts.create

    def create_and_lose(*arguments: Json) -> Json:
        outcomes = create(*arguments)
        _replace(store.file)
        return outcomes

    monkeypatch.setattr(contacts, "create", create_and_lose)
    async with running_gateway(store.folder) as gateway:
        answer = await FACES["REST"].submit(gateway, MAYA, gateway.admin)

    assert answer.outcome == "SERVICE_UNAVAILABLE"


async def test_database_errors_in_the_log_name_the_file(store: Store, log: io.StringIO) -> None:
    async with running_gateway(store.folder) as gateway:
        store.file.write_bytes(b"this is no database" * 1000)
        store.file.with_name(f"{store.file.name}-wal").write_bytes(b"nor this" * 1000)
        await gateway.rest("/contacts", gateway.member)

    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    causes = [line["cause"] for line in lines if line["event"] == "source unavailable"]
    assert [cause.partition(": ")[0] for cause in causes] == [str(store.file)]
