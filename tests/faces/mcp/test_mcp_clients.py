"""Third-party clients: that of the SDK, and the command line of the MCP inspector."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx2
import pytest
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client

from support.clock import WATCHDOG_SECONDS
from support.faces import Json
from support.gateway import Store, filled_store
from support.process import GatewayProcess, gateway_process
from support.programs import node_with_packages

INSPECTOR: Final = Path(__file__).parent / "inspector"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return filled_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def process(store: Store) -> Iterator[GatewayProcess]:
    """Run two workers: each call of a client may reach another one."""
    with gateway_process(store.folder, "--workers", "2", store=store) as running:
        yield running


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["legacy", "auto"], ids=["with a handshake", "without one"])
async def test_the_sdks_client_lists_and_calls_the_tools(
    process: GatewayProcess, store: Store, mode: str
) -> None:
    email = f"{mode}@example.com"
    headers = {"Authorization": f"Bearer {store.keys['admin']}"}
    async with httpx2.AsyncClient(
        headers=headers, timeout=WATCHDOG_SECONDS, trust_env=False
    ) as http:
        transport = streamable_http_client(f"{process.address}/mcp", http_client=http)
        # The client validates each result against the schema of its tool.
        async with Client(transport, mode=mode, read_timeout_seconds=WATCHDOG_SECONDS) as client:
            tools = (await client.list_tools()).tools
            created = await client.call_tool(
                "add_contact_for_advertiser",
                {"advertiser": "northwind.example", "email": email, "idempotency_key": mode},
            )
            taken = await client.call_tool(
                "add_contact", {"contact": {"advertiser_id": 2001, "email": email}}
            )
            found = await client.call_tool("find_contacts", {"email": email})

    assert len(tools) == 10
    assert not created.is_error
    assert created.structured_content["data"]["attributes"]["advertiser_id"] == 1001
    assert taken.is_error
    assert taken.structured_content["error"]["code"] == "CONFLICT"
    assert found.structured_content["data"] == [created.structured_content["data"]]
    assert "Traceback" not in process.log()


@pytest.fixture(scope="module")
def inspector(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Return the command of the MCP inspector, installed from its lock file."""
    folder = tmp_path_factory.mktemp("inspector") / "npm"
    node = node_with_packages(INSPECTOR, folder)
    return node, str(folder / "node_modules" / ".bin" / "mcp-inspector"), "--cli"


def _inspect(
    inspector: tuple[str, ...], folder: Path, address: str, key: str, *options: str
) -> Json:
    ran = subprocess.run(
        (
            *(*inspector, f"{address}/mcp", "--transport", "http"),
            *("--header", f"X-Api-Key: {key}", *options),
        ),
        # It writes to the home directory.
        env={**os.environ, "HOME": str(folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=WATCHDOG_SECONDS,
        check=False,
    )
    assert ran.stdout, ran.stderr
    return json.loads(ran.stdout)


def test_the_inspectors_command_line_lists_and_calls_the_tools(
    inspector: tuple[str, ...], process: GatewayProcess, store: Store, tmp_path: Path
) -> None:
    def run(*options: str) -> Json:
        return _inspect(inspector, tmp_path, process.address, store.keys["admin"], *options)

    listed = run("--method", "tools/list")
    call = ("--method", "tools/call", "--tool-name")
    arguments = ("advertiser=Northwind UK", "email=inspector@example.com", "dry_run=true")
    previewed = run(
        *call,
        "add_contact_for_advertiser",
        *(part for argument in arguments for part in ("--tool-arg", argument)),
    )
    missing = run(*call, "get_advertiser", "--tool-arg", "id=nobody")

    assert {"add_contact", "get_advertiser"} <= {tool["name"] for tool in listed["tools"]}
    assert previewed["structuredContent"]["data"]["attributes"]["advertiser_id"] == 1001
    assert previewed["structuredContent"]["meta"]["dry_run"]
    assert missing["isError"]
    assert missing["structuredContent"]["error"]["code"] == "NOT_FOUND"
