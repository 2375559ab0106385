"""`/metrics`: requests by face, operation and outcome, and the commits of the store."""

import os
import shutil
import signal
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.parser import text_string_to_metric_families

from contact_gateway.access.caller import Caller
from contact_gateway.access.principals import Credential, KeyRefusal
from contact_gateway.faces.request_context import RequestContext
from contact_gateway.settings import Settings
from contact_gateway.telemetry.metrics import (
    MAX_CLIENT_NAMES,
    MAX_VERSIONS_PER_CLIENT,
    Metrics,
    shared_between_workers,
    shared_folder,
)
from support.databases import Engine, locked
from support.faces import FACES, Face
from support.gateway import Gateway, credentials, running_gateway
from support.process import GatewayProcess, gateway_process, refused_start
from support.upstream import UpstreamGateway

pytestmark = pytest.mark.anyio

MAYA = {"advertiser_id": 2001, "email": "maya@example.com"}
Labels = Mapping[str, str]


@pytest.fixture(autouse=True)
def _restore_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "ValueClass", values.MutexValue)


def _samples(text: str, name: str) -> dict[tuple[str, ...], float]:
    """Return the values of a metric by the values of its labels, in the labels' order."""
    return {
        tuple(sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


@pytest.fixture
async def measured(
    tmp_path: Path,
    engine: Engine,  # noqa: ARG001 - of this engine
) -> AsyncIterator[Gateway]:
    async with running_gateway(tmp_path, metrics=True) as gateway:
        yield gateway


async def _metrics(gateway: Gateway) -> str:
    response = await gateway.client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    return response.text


@pytest.mark.parametrize(
    ("name", "face", "operation"),
    [
        ("REST", "rest", "create_contact"),
        ("GraphQL", "graphql", "create_contact"),
        ("MCP", "mcp", "add_contact"),
    ],
)
async def test_requests_are_counted_by_face_operation_and_outcome(
    measured: Gateway, name: str, face: str, operation: str
) -> None:
    submit = FACES[name].submit
    for key in (measured.admin, measured.admin, measured.member, None):
        await submit(measured, MAYA, key)
    requests = _samples(await _metrics(measured), "contact_gateway_requests_total")

    assert requests == {
        (face, operation, "CREATED"): 1,
        (face, operation, "CONFLICT"): 1,
        (face, operation, "FORBIDDEN"): 1,
        (face, operation, "UNAUTHORIZED"): 1,
    }


async def test_the_duration_of_each_request_is_measured(measured: Gateway) -> None:
    for _ in range(3):
        await measured.rest("/contacts", measured.member)
    text = await _metrics(measured)

    name = "contact_gateway_request_duration_seconds"
    assert _samples(text, f"{name}_count") == {("rest", "contacts"): 3}
    assert _samples(text, f"{name}_sum")["rest", "contacts"] > 0


async def test_commits_are_counted_with_their_jobs(measured: Gateway) -> None:
    for number in range(3):
        await FACES["REST"].submit(
            measured, MAYA | {"email": f"{number}@example.com"}, measured.admin
        )
    text = await _metrics(measured)

    assert _samples(text, "contact_gateway_commit_jobs_count")[()] == 3
    assert _samples(text, "contact_gateway_commit_jobs_sum")[()] == 3
    assert _samples(text, "contact_gateway_commit_duration_seconds_count")[()] == 3
    assert _samples(text, "contact_gateway_waiting_jobs")[()] == 1


@pytest.mark.parametrize("face", FACES.values(), ids=list(FACES))
@pytest.mark.usefixtures("engine", "impatient_store")
async def test_failures_of_the_store_are_counted(tmp_path: Path, face: Face) -> None:
    async with running_gateway(tmp_path, metrics=True) as gateway:
        with locked(gateway.database.address):
            answer = await face.submit(gateway, MAYA, gateway.admin)
        text = await _metrics(gateway)

    assert answer.outcome == "SERVICE_UNAVAILABLE"
    assert _samples(text, "contact_gateway_store_errors_total") == {("unavailable",): 1}


async def test_no_label_contains_what_a_caller_sent(measured: Gateway) -> None:
    await measured.rest("/secret-path", measured.admin, email="secret@example.com")
    await measured.graphql("query secretName { viewer { label } }", measured.admin)
    await measured.client.request("SECRET", "/graphql", headers=credentials(measured.admin))
    text = await _metrics(measured)

    assert "secret" not in text.lower()
    assert measured.admin not in text
    assert set(_samples(text, "contact_gateway_requests_total")) == {
        ("rest", "none", "NOT_FOUND"),
        ("graphql", "graphql", "OK"),
        ("graphql", "graphql", "METHOD_NOT_ALLOWED"),
    }


CLIENTS = "contact_gateway_client_requests_total"


async def _call(gateway: Gateway, key: str | None, name: str, version: str | None = None) -> None:
    headers = {"apollographql-client-name": name}
    if version is not None:
        headers["apollographql-client-version"] = version
    await gateway.graphql("{ viewer { label } }", key, None, **headers)


async def test_requests_are_counted_by_client_name_and_version(measured: Gateway) -> None:
    for version in ("1.0", "1.0", "1.1", None):
        await _call(measured, measured.member, "web", version)
    await measured.rest("/contacts", measured.member)
    counts = _samples(await _metrics(measured), CLIENTS)

    assert counts == {("web", "1.0"): 2, ("web", "1.1"): 1, ("web", "none"): 1}


async def test_a_name_has_its_own_label_after_a_request_with_a_valid_key(
    measured: Gateway,
) -> None:
    """Strangers could otherwise use up the names."""
    for key in (None, measured.unknown, measured.revoked):
        await _call(measured, key, "web", "1.0")
    before = _samples(await _metrics(measured), CLIENTS)
    await _call(measured, measured.admin, "web", "1.0")
    await _call(measured, None, "web", "1.0")
    await _call(measured, None, "web", "2.0")
    after = _samples(await _metrics(measured), CLIENTS)

    assert before == {("other", "other"): 3}
    assert after == {("other", "other"): 3, ("web", "1.0"): 2, ("web", "other"): 1}


@pytest.mark.parametrize("face", FACES.values(), ids=list(FACES))
async def test_in_front_of_hienergy_a_key_is_valid_once_hienergy_accepts_it(
    tmp_path: Path, upstream: UpstreamGateway, face: Face
) -> None:
    async with running_gateway(
        tmp_path, upstream.store, upstream_url=upstream.url, metrics=True
    ) as gateway:
        gateway.client.headers["apollographql-client-name"] = "web"
        await face.submit(gateway, MAYA, gateway.unknown)
        before = _samples(await _metrics(gateway), CLIENTS)
        await face.submit(gateway, MAYA, gateway.admin)
        after = _samples(await _metrics(gateway), CLIENTS)

    assert before == {("other", "other"): 1}
    assert after["web", "none"] == 1


async def test_the_names_and_versions_of_clients_are_bounded(measured: Gateway) -> None:
    for number in range(MAX_VERSIONS_PER_CLIENT + 2):
        await _call(measured, measured.admin, "web", f"1.{number}")
    for number in range(MAX_CLIENT_NAMES + 1):
        await _call(measured, measured.admin, f"program-{number}")
    counts = _samples(await _metrics(measured), CLIENTS)

    assert len(counts) == MAX_VERSIONS_PER_CLIENT + MAX_CLIENT_NAMES + 1
    assert counts["web", "other"] == 2
    assert counts["other", "other"] == 2


async def test_only_get_and_head_are_allowed(measured: Gateway) -> None:
    read = await measured.client.head("/metrics")
    refused = await measured.client.post("/metrics")

    assert read.status_code == 200
    assert refused.status_code == 405
    assert refused.headers["Allow"] == "GET, HEAD"
    assert refused.json()["error"]["code"] == "METHOD_NOT_ALLOWED"


async def test_metrics_are_off_by_default(gateway: Gateway) -> None:
    assert (await gateway.client.get("/metrics")).status_code == 404
    assert Settings().metrics is False


def test_each_worker_serves_the_sum_of_all(tmp_path: Path) -> None:
    environment = {"CONTACT_GATEWAY_METRICS": "true"}
    with gateway_process(tmp_path, "--demo", "--workers", "2", environment=environment) as process:
        for _ in range(20):
            with process.client(process.member_key) as client:
                assert client.get("/api/v1/contacts").status_code == 200
        # A worker counts a request after it has answered it.
        while _reads(process) < 20:
            pass
        counts = [_reads(process) for _ in range(10)]

    assert counts == [20] * 10


def _reads(process: GatewayProcess) -> float:
    with process.client() as client:
        text = client.get("/metrics").text
    return _samples(text, "contact_gateway_requests_total")["rest", "contacts", "OK"]


SHARED = {"CONTACT_GATEWAY_METRICS": "true"}


def test_the_folder_of_several_workers_is_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    environment = SHARED | {"PROMETHEUS_MULTIPROC_DIR": str(folder)}
    with gateway_process(tmp_path, "--workers", "2", environment=environment) as process:
        _ready(process)
        (own,) = folder.iterdir()
        shutil.rmtree(own)
        (killed, _) = process.workers(2)
        os.kill(killed, signal.SIGKILL)
        process.workers(2, without=killed)
        _ready(process)
        with process.client() as client:
            metrics = [client.get("/metrics") for _ in range(10)]

        assert {response.status_code for response in metrics} == {200}
        assert process.stop() == 0
        # The worker that was killed has a successor, and this one started.
        assert process.log().count("starting another") == 1
    assert list(folder.iterdir()) == []


def _ready(process: GatewayProcess) -> None:
    with process.client() as client:
        assert client.get("/readyz").status_code == 200


def test_a_folder_that_is_lost_is_made_again_by_the_next_request() -> None:
    context = RequestContext("id", Caller(None, _refuse))
    with shared_between_workers():
        folder = shared_folder()
        assert folder is not None
        metrics = Metrics(folder)
        metrics.answered(context, 1)
        shutil.rmtree(folder)
        for _ in range(2):
            metrics.answered(context, 1)
        counts = _samples(_read(folder), "contact_gateway_requests_total")

    assert counts == {("none", "none", "none"): 2}


async def _refuse(_: Credential) -> KeyRefusal:
    return KeyRefusal.UNKNOWN


def test_the_gauges_of_a_worker_that_has_ended_do_not_count() -> None:
    with shared_between_workers() as forget:
        folder = shared_folder()
        assert folder is not None
        metrics = Metrics(folder)
        metrics.batch_started(7)
        metrics.committed(3, 1)
        before = _read(folder)
        forget(os.getpid())
        after = _read(folder)

    assert _samples(before, "contact_gateway_waiting_jobs")[()] == 7
    assert _samples(after, "contact_gateway_waiting_jobs") == {}
    # What it has done still counts.
    assert _samples(after, "contact_gateway_commit_jobs_sum")[()] == 3


def _read(folder: Path) -> str:
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder))  # type: ignore[no-untyped-call]
    return generate_latest(registry).decode()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_unusable_folder_is_reported_or_not_needed(tmp_path: Path, workers: str) -> None:
    environment = SHARED | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "nowhere")}
    if workers == "1":
        with gateway_process(tmp_path, environment=environment) as process:
            with process.client() as client:
                assert client.get("/metrics").status_code == 200
            return
    result = refused_start(tmp_path, "--workers", workers, environment=environment)

    assert (result.returncode, result.stdout.strip()) == (1, "")
    assert "Error: PROMETHEUS_MULTIPROC_DIR: no folder can be made in " in result.stderr
    assert "Traceback" not in result.stderr
