"""A request that offers an upgrade, as those of curl and Java do, is answered like any other."""

import pytest

from support.process import GatewayProcess
from support.raw_http import HEALTHZ, LAST_HEALTHZ, exchange, statuses

HEAD = (
    b"POST /graphql HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
)
BODY = b'{"query": "{ __typename }"}'
BY_LENGTH = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
IN_CHUNKS = (
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
)


@pytest.mark.parametrize("request_", [BY_LENGTH, IN_CHUNKS], ids=["by length", "in chunks"])
@pytest.mark.parametrize("cut", [None, -1, -20, -40], ids=str)
def test_the_body_is_read(process: GatewayProcess, request_: bytes, cut: int | None) -> None:
    pieces = (request_,) if cut is None else (request_[:cut], request_[cut:])
    responses = exchange(process, *pieces[:-1], pieces[-1] + request_ + LAST_HEALTHZ)

    assert statuses(responses) == [b"200", b"200", b"200"]
    assert responses.count(b'{"data":{"__typename":"Query"}}') == 2


def test_the_body_is_not_parsed_as_a_request(process: GatewayProcess) -> None:
    head = HEAD.replace(b"Upgrade: h2c", b"Upgrade: h2c\r\nContent-Length: %d" % len(HEALTHZ))
    responses = exchange(process, head + b"\r\n", HEALTHZ, LAST_HEALTHZ)

    assert statuses(responses) == [b"400", b"200"]


def test_many_offers_in_one_piece_are_ignored(process: GatewayProcess) -> None:
    many = 1_500
    healthz = HEALTHZ[:-2] + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"

    assert statuses(exchange(process, healthz * many + LAST_HEALTHZ)) == [b"200"] * (many + 1)
