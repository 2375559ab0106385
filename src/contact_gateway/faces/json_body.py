"""JSON request bodies: limits of size, time and depth, and strict parsing."""

import asyncio
import json
import re
from codecs import BOM_UTF8
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, NoReturn

from starlette.requests import ClientDisconnect, Request

from contact_gateway.faces.http import TransportCode, TransportError

MAX_DIGITS: Final = 40
"""Longer whole numbers are cut to this many digits. They stay out of every field's range, and
Python would refuse to parse more than 4,300."""

BODY_IS_BUFFERED: Final = "contact_gateway.body_is_buffered"
"""The ASGI extension by which the server says that the whole body has arrived, so reading it needs
no timeout."""

# A string, or a bracket outside strings. The repetition is possessive, so an unterminated string
# matches once, to the end, and not again from each quote in it.
_STRING_OR_BRACKET: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """The limits of a request body: its size, the time to receive it, and its depth as JSON."""

    max_bytes: int
    timeout_seconds: float
    max_json_depth: int


async def read_json(request: Request, headers: Mapping[str, str], limits: BodyLimits) -> object:
    """Read and parse the JSON body of a request. `headers` has lower-case names.

    Raises:
        TransportError: the body is not JSON, not declared as JSON, too large, too deep or too slow.
    """
    content_type = headers.get("content-type", "")
    if content_type != "application/json":
        media_type, _, parameters = content_type.partition(";")
        charset = re.search(r'charset\s*=\s*"?([^\s";]+)', parameters, re.IGNORECASE)
        is_utf_8 = charset is None or charset[1].lower() in {"utf-8", "utf8", "us-ascii"}
        if media_type.strip().lower() != "application/json" or not is_utf_8:
            raise TransportError(
                TransportCode.UNSUPPORTED_MEDIA_TYPE,
                "Unsupported content type. Send the body as application/json in UTF-8.",
                {"Accept": "application/json"},
            )
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise TransportError(
            TransportCode.UNSUPPORTED_MEDIA_TYPE,
            "Unsupported content encoding. Send the body uncompressed.",
        )
    if BODY_IS_BUFFERED in request.scope.get("extensions", ()):
        body = await _receive(request, limits.max_bytes)
    else:
        declared = headers.get("content-length", "").lstrip("0")[:MAX_DIGITS]
        if declared.isdecimal() and int(declared) > limits.max_bytes:
            raise _too_large(limits.max_bytes)
        try:
            async with asyncio.timeout(limits.timeout_seconds):
                body = await _receive(request, limits.max_bytes)
        except TimeoutError:
            raise TransportError(
                TransportCode.REQUEST_TIMEOUT,
                f"The body did not arrive within {limits.timeout_seconds:g} seconds. Retry.",
                {"Connection": "close"},
            ) from None
    return parse_json(body, limits.max_json_depth)


async def _receive(request: Request, max_bytes: int) -> bytes:
    body, more = bytearray(), True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
    return bytes(body)


def _too_large(max_bytes: int) -> TransportError:
    return TransportError(
        TransportCode.PAYLOAD_TOO_LARGE,
        f"The body is too large. At most {max_bytes} bytes are allowed.",
    )


def parse_json(text: bytes, max_depth: int) -> object:
    """Parse JSON strictly: without NaN, infinities, or duplicate names in an object.

    Fractions become decimals, so none is rounded to a whole number. A byte order mark is ignored,
    since some Windows programs write one (RFC 8259, section 8.1).

    Raises:
        TransportError: `BAD_REQUEST`.
    """
    # Counting brackets is quick, and few texts have so many that their depth has to be computed.
    brackets = text.count(b"[") + text.count(b"{")
    if brackets > max_depth and _is_deeper_than(max_depth, text):
        raise TransportError(
            TransportCode.BAD_REQUEST,
            f"The JSON is nested too deeply. At most {max_depth} levels are allowed.",
        )
    try:
        return _STRICT.decode(text.removeprefix(BOM_UTF8).decode("utf-8"))
    except json.JSONDecodeError as error:
        raise TransportError(
            TransportCode.BAD_REQUEST,
            f"This is not valid JSON. See line {error.lineno}, column {error.colno}.",
        ) from None
    except (ValueError, ArithmeticError, RecursionError):
        raise TransportError(
            TransportCode.BAD_REQUEST,
            "This is not valid JSON in UTF-8. NaN, infinities and duplicate names are not allowed.",
        ) from None


def _is_deeper_than(max_depth: int, text: bytes) -> bool:
    depth = 0
    for token in _STRING_OR_BRACKET.finditer(text):
        if token[0] in {b"[", b"{"}:
            depth += 1
        elif token[0] in {b"]", b"}"}:
            depth -= 1
        if depth > max_depth:
            return True
    return False


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _number(text: str) -> int | Decimal:
    """Return a number with a fraction or an exponent. 2.0 is a whole number, as in JSON Schema."""
    number = Decimal(text)
    # 1e999999999 has more digits than the memory holds.
    is_whole = number.adjusted() < MAX_DIGITS and number == number.to_integral_value()
    return int(number) if is_whole else number


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate name in an object")
    return members


_STRICT: Final = json.JSONDecoder(
    parse_constant=_refuse_constant,
    parse_int=lambda digits: int(digits[:MAX_DIGITS]),
    parse_float=_number,
    object_pairs_hook=_object,
)
