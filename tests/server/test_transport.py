"""`CoalescingTransport`: one write for all that is written in one step of the event loop."""

import asyncio

import pytest

from contact_gateway.server.transport import CoalescingTransport
from support.process import GatewayProcess
from support.raw_http import HEALTHZ, connect
from support.recorded_transport import RecordedTransport

pytestmark = pytest.mark.anyio


def test_a_response_is_one_write(process: GatewayProcess) -> None:
    with connect(process) as connection:
        for _ in range(20):
            connection.sendall(HEALTHZ)
            response = connection.recv(65536)

            assert response.startswith(b"HTTP/1.1 200 OK\r\n")
            assert response.endswith(b'\r\n\r\n{"status":"ok"}')


async def test_writes_of_one_step_are_joined() -> None:
    recorded = RecordedTransport()
    transport = CoalescingTransport(recorded)
    transport.write(b"head ")
    transport.write(b"body")
    assert recorded.calls == []
    await asyncio.sleep(0)
    transport.write(b"more")
    await asyncio.sleep(0)

    assert recorded.calls == [b"head body", b"more"]


async def test_close_flushes_first() -> None:
    recorded = RecordedTransport()
    transport = CoalescingTransport(recorded)
    transport.write(b"last")
    transport.close()
    await asyncio.sleep(0)

    assert recorded.calls == [b"last", "close"]


async def test_abort_discards_the_buffer() -> None:
    recorded = RecordedTransport()
    transport = CoalescingTransport(recorded)
    transport.write(b"last")
    transport.abort()
    await asyncio.sleep(0)

    assert recorded.calls == ["abort"]


async def test_nothing_is_written_to_a_closed_connection() -> None:
    recorded = RecordedTransport()
    transport = CoalescingTransport(recorded)
    transport.write(b"last")
    recorded.is_closed = True
    await asyncio.sleep(0)

    assert recorded.calls == []
