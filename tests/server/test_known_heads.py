"""Requests whose heads came before on their connection, which are not parsed again."""

import asyncio
import re
import socket
from collections.abc import Sequence
from pathlib import Path
from random import Random

import uvicorn
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from contact_gateway.faces.request_context import SAME_HEAD
from contact_gateway.server.protocol import HttpProtocol
from support.process import GatewayProcess, gateway_process
from support.raw_http import HEALTHZ, connect
from support.recorded_transport import RecordedTransport

POST = b"POST /%b HTTP/1.1\r\nHost: here\r\n%b\r\n\r\n%b"
WHOLE = (
    HEALTHZ,
    HEALTHZ.replace(b"GET", b"HEAD"),
    HEALTHZ.replace(b"here", b"there"),
    HEALTHZ.replace(b"/healthz", b"http://elsewhere/healthz?a=b"),
    b"\r\n" + HEALTHZ,
    POST % (b"a", b"Content-Length: 4", b"abcd"),
    POST % (b"a", b"Content-Length: 4", b"\r\n\r\n"),
    POST % (b"a", b"Content-Length: 04", b"abcd"),
    POST % (b"a", b"Content-Length: 0", b""),
    POST % (b"a", b"Content-Length: 4\r\nExpect: 100-continue", b"abcd"),
    POST % (b"b", b"Content-Length: %d" % len(HEALTHZ), HEALTHZ),
    POST % (b"c", b"Content-Length: 4\r\nConnection: Upgrade\r\nUpgrade: h2c", b"abcd"),
    POST % (b"d", b"Transfer-Encoding: chunked", b"4\r\nabcd\r\n0\r\n\r\n"),
    POST % (b"d", b"Transfer-Encoding: chunked", b"0\r\na: b\r\n\r\n"),
)
BLANK_LINES = (b"\r\n", b"\r\n\r\n")
# The second is a redirect, whose address begins with the prefix that a proxy has removed.
TARGETS_AND_MEDIA_TYPES = (
    b"?query={viewer{role}} HTTP/1.1\r\nAccept: application/json",
    b" HTTP/1.1\r\nAccept: text/html",
)
WHOLE_RESPONSE = re.compile(rb"HTTP.*?content-length: (\d+)\r.*?\r\n\r\n(.*)", re.DOTALL)
MADE_UP = re.compile(rb"date: .*|[0-9a-f]{32}")


async def _echo(scope: Scope, receive: Receive, send: Send) -> None:
    request = Request(scope, receive)
    sent = {
        "request": f"{request.method} {scope['raw_path']} {scope['query_string']}",
        "headers": request.headers.items(),
        "body": (await request.body()).decode(),
    }
    await JSONResponse(sent)(scope, receive, send)


async def _written(parts: Sequence[bytes], app: ASGIApp = _echo) -> bytes:
    """Return what is sent to a client whose requests arrive in these parts."""
    protocol = HttpProtocol(uvicorn.Config(app, log_config=None), ServerState(), {})
    transport = RecordedTransport()
    protocol.connection_made(transport)
    for part in parts:
        protocol.data_received(part)
        # More event loop steps than the responses take.
        for _ in range(50):
            await asyncio.sleep(0)
    protocol.connection_lost(None)
    return transport.written


@st.composite
def _parts(draw: st.DrawFn) -> list[bytes]:
    """Return parts in which requests may arrive: most of them whole, some cut, some together.

    All arrive three times, since heads are known the third time.
    """
    parts: list[bytes] = []
    few = draw(st.lists(st.sampled_from(WHOLE + BLANK_LINES), min_size=1, max_size=3))
    for message in draw(st.lists(st.sampled_from(few), max_size=6)):
        cut = draw(st.just(0) | st.integers(0, len(message)))
        if parts and draw(st.sampled_from([False, False, True])):
            parts[-1] += message[:cut]
        else:
            parts.append(message[:cut])
        parts.append(message[cut:])
    return parts * 3


LONG = POST % (b"e", b"Content-Length: 60", b"x" * 60)


@given(_parts())
# The first part has as many bytes after its first head as the other head has in its body.
@example([HEALTHZ + LONG[:60], LONG[60:]] * 3)
@example([HEALTHZ, HEALTHZ + b"\r\n", HEALTHZ[:-2], b"\r\n"] * 3)
def test_requests_are_the_same_however_their_bytes_arrive(parts: list[bytes]) -> None:
    sent = b"".join(parts)

    in_parts = asyncio.run(_written(parts))
    # None of these parts is a whole request.
    in_pieces = asyncio.run(_written([sent[i : i + 10] for i in range(0, len(sent), 10)]))

    assert in_parts == in_pieces


async def _findings(*parts: bytes) -> list[object]:
    """Return what the server gives requests with the same head to keep their findings in."""
    found: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        found.append(scope.get("extensions", {}).get(SAME_HEAD))
        await JSONResponse({})(scope, receive, send)

    await _written(parts, app)
    return found


def test_known_are_heads_of_whole_requests() -> None:
    head, body = WHOLE[5][:-4], WHOLE[5][-4:]

    assert asyncio.run(_findings(head, body, head, body)) == [None, None]
    assert asyncio.run(_findings(WHOLE[5] + HEALTHZ, WHOLE[5], HEALTHZ)) == [None] * 4
    assert asyncio.run(_findings(*[WHOLE[5]] * 4)) == [None, None, {}, {}]


def test_what_is_found_in_a_head_is_kept_for_that_head_alone() -> None:
    other = HEALTHZ.replace(b"here", b"there")

    *_, first, second, third = asyncio.run(_findings(*[HEALTHZ, other] * 3, HEALTHZ))

    assert first == second == {}
    assert first is third
    assert first is not second


def test_few_heads_are_known() -> None:
    others = [HEALTHZ.replace(b"here", b"here-%d" % number) for number in range(4)]
    long = HEALTHZ.replace(b"here", b"a" * 2048)

    assert asyncio.run(_findings(HEALTHZ, HEALTHZ, *others, HEALTHZ))[-1] is None
    assert asyncio.run(_findings(HEALTHZ, HEALTHZ, *others[:3], HEALTHZ))[-1] == {}
    assert asyncio.run(_findings(*[long] * 3)) == [None] * 3


def _response(connection: socket.socket, request: bytes) -> bytes:
    """Return the response to a request, without the ids and times that the server makes up."""
    connection.sendall(request)
    received = b""
    while not (found := WHOLE_RESPONSE.match(received)) or len(found[2]) < int(found[1]):
        received += connection.recv(65536)
    return MADE_UP.sub(b"", received)


def test_every_request_gets_the_response_that_it_gets_alone(tmp_path: Path) -> None:
    """A proxy sends the requests of many clients on one connection."""
    settings = {"TRUSTED_PROXIES": "127.0.0.1", "RATE_LIMIT_PER_HOUR": "0"}
    environment = {f"CONTACT_GATEWAY_{name}": value for name, value in settings.items()}
    alone: dict[bytes, bytes] = {}
    with gateway_process(tmp_path, "--demo", environment=environment) as process:
        keys = (process.admin_key.encode(), process.member_key.encode())
        credentials = [b"", *(b"X-Api-Key: %b\r\n" % key for key in keys)]
        credentials += [b"Authorization: Bearer %b\r\n" % key for key in keys]
        requests = st.builds(
            b"GET /api/v1/graphql%b\r\nHost: here\r\n%b%b%b\r\n".__mod__,
            st.tuples(
                st.sampled_from(TARGETS_AND_MEDIA_TYPES),
                st.sampled_from(credentials),
                st.sampled_from([b"", b"X-Request-Id: 1\r\n", b"X-Request-Id: 2\r\n"]),
                st.sampled_from(
                    [b"", b"X-Forwarded-Prefix: /a\r\n", b"X-Forwarded-Prefix: /b\r\n"]
                ),
            ),
        )

        @given(st.lists(requests, min_size=1, max_size=3), st.randoms(use_true_random=False))
        def check(few: list[bytes], random: Random) -> None:
            for request in few:
                if request not in alone:
                    with connect(process) as connection:
                        alone[request] = _response(connection, request)
            with connect(process) as connection:
                for request in random.choices(few, k=12):
                    assert _response(connection, request) == alone[request]

        check()

    shown = b"".join(alone.values())
    assert all(each in shown for each in (b"ADMIN", b"MEMBER", b"UNAUTHORIZED", b"/a/graphql"))


def test_each_request_has_its_own_id(process: GatewayProcess) -> None:
    with connect(process) as connection:
        ids = set()
        for _ in range(4):
            connection.sendall(HEALTHZ)
            ids |= set(re.findall(rb"x-request-id: (\w+)\r", connection.recv(65536)))

    assert len(ids) == 4
