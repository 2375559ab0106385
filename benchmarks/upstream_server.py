"""The benchmarks' upstream API: HiEnergy's contacts, as fast as a server in Python can be.

It stores nothing and answers every creation with a new id, so that a benchmark measures the gateway
in front of it. Run it with `python -m benchmarks.upstream_server PORT`.
"""

import asyncio
import itertools
import json
import sys
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final, cast

import httptools
import uvloop

PATH: Final = "/api/v1/contacts"
_ATTRIBUTES: Final = (
    "advertiser_id",
    "email",
    "name",
    "given_name",
    "family_name",
    "phone",
    "job_title",
    "source",
    "status",
    "linkedin_profile_url",
)
_NO_CONTACTS: Final = {
    "data": [],
    "meta": {"current_page": 1, "next_page": None, "per_page": 25, "has_more": False},
}
_ids: Final = itertools.count(1)


class Connection(asyncio.Protocol):
    """A keep-alive connection of a gateway."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Create the parser."""
        self._transport = cast(asyncio.Transport, transport)
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, which calls the methods below."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_message_begin(self) -> None:
        """Start a request."""
        self._target = b""
        self._body = b""
        self._has_key = False

    def on_url(self, url: bytes) -> None:
        """Append a piece of the request target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Look for an API key; any value is valid."""
        if name.lower() == b"x-api-key" and value:
            self._has_key = True

    def on_body(self, body: bytes) -> None:
        """Append a piece of the body."""
        self._body += body

    def on_message_complete(self) -> None:
        """Answer the request."""
        status, document = self._answer()
        body = json.dumps(document).encode()
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\n"
            "Content-Type: application/json; charset=utf-8\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        self._transport.write(head.encode() + body)
        if not self._parser.should_keep_alive():
            self._transport.close()

    def _answer(self) -> tuple[HTTPStatus, object]:
        if not self._has_key:
            return HTTPStatus.UNAUTHORIZED, _error("UNAUTHORIZED", "Invalid or missing API key")
        if self._parser.get_method() != b"POST":
            return HTTPStatus.OK, _NO_CONTACTS
        if self._target.split(b"?", 1)[0] != PATH.encode():
            return HTTPStatus.NOT_FOUND, _error("NOT_FOUND", "Not found")
        try:
            return HTTPStatus.CREATED, _created(json.loads(self._body)["contact"])
        except (ValueError, KeyError, TypeError):
            return HTTPStatus.UNPROCESSABLE_ENTITY, _error("INVALID_INPUT", "contact is invalid")


def _created(contact: dict[str, object]) -> object:
    attributes = {name: contact.get(name) for name in _ATTRIBUTES}
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    attributes |= {
        "advertiser_id": int(str(contact["advertiser_id"])),
        "email": str(contact["email"]),
        "advertiser_name": "Example",
        "created_at": now,
        "updated_at": now,
    }
    return {
        "data": {"id": str(next(_ids)), "type": "contact", "attributes": attributes},
        "meta": {},
    }


def _error(code: str, message: str) -> object:
    return {"error": {"code": code, "message": message}}


async def _serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
