"""Bad requests of every kind are refused with the documented code, and change nothing.

The requests of `BAD` are sent by an admin within the process, those of `ON_THE_WIRE` as bytes over
a socket, because no client library would send them.
"""

import gc
import gzip
import io
import json
import re
import socket
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import quote, urlsplit

import httpx
import pytest

from contact_gateway.contacts.outcomes import ErrorCode
from contact_gateway.faces.http import TransportCode
from support.clock import WATCHDOG_SECONDS
from support.databases import Engine
from support.faces import CREATE_CONTACT, Json
from support.gateway import Gateway, credentials, running_gateway
from support.process import GatewayProcess, gateway_process, resident_bytes

REST: Final = "/api/v1/contacts"
GRAPHQL: Final = "/graphql"
JSON: Final[Mapping[str, str]] = {"Content-Type": "application/json"}
MAYA: Final[Mapping[str, object]] = {"advertiser_id": 1001, "email": "maya@example.com"}
MAYA_INPUT: Final[Mapping[str, object]] = {"advertiserId": 1001, "email": "maya@example.com"}
CODES: Final = frozenset({*ErrorCode, *TransportCode, "PERSISTED_QUERY_NOT_SUPPORTED"})


@dataclass(frozen=True, slots=True)
class Bad:
    """A request that is refused, with its expected response.

    `problems` are the paths and codes of invalid input, in the names of the face.
    """

    name: str
    status: int
    code: str
    content: bytes = b""
    path: str = REST
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=lambda: JSON)
    problems: frozenset[tuple[str, str]] = frozenset()

    @property
    def is_graphql(self) -> bool:
        return self.path.startswith(GRAPHQL)


def _on_both_faces(requests: Iterable[Bad]) -> Iterator[Bad]:
    for request in requests:
        yield replace(request, name=f"REST, {request.name}")
        yield replace(request, name=f"GraphQL, {request.name}", path=GRAPHQL)


def _no_json(name: str, content: bytes) -> Bad:
    return Bad(name, 400, "BAD_REQUEST", content)


def _too_large(name: str, content: bytes) -> Bad:
    return Bad(name, 413, "PAYLOAD_TOO_LARGE", content)


def _of_another_kind(name: str, headers: Mapping[str, str], content: bytes = b"{}") -> Bad:
    return Bad(name, 415, "UNSUPPORTED_MEDIA_TYPE", content, headers=headers)


BOMB: Final = gzip.compress(b" " * 10_000_000)

NO_JSON_IN_UTF_8: Final = (
    _no_json("nothing", b""),
    _no_json("blanks", b" \r\n\t"),
    _no_json("a brace", b"{"),
    _no_json("a closing brace", b"}"),
    _no_json("a comma at the end", b'{"contact": {},}'),
    _no_json("single quotes", b"{'contact': {}}"),
    _no_json("a name without quotes", b"{contact: {}}"),
    _no_json("a comment", b'{"contact": {} /* none */}'),
    _no_json("two values", b"{} {}"),
    _no_json("words after the value", b"{} and more"),
    _no_json("a string without an end", b'{"contact": "'),
    _no_json("an escape without an end", b'{"contact": "\\'),
    _no_json("an unknown escape", rb'{"contact": "\x41"}'),
    _no_json("half a Unicode escape", rb'{"contact": "\u12"}'),
    _no_json("NaN", b'{"contact": NaN}'),
    _no_json("infinity", b'{"contact": Infinity}'),
    _no_json("negative infinity", b'{"contact": {"advertiser_id": -Infinity}}'),
    _no_json("a leading zero", b'{"contact": 01}'),
    _no_json("a plus sign", b'{"contact": +1}'),
    _no_json("a hexadecimal number", b'{"contact": 0x10}'),
    _no_json("a fraction without a number", b'{"contact": .5}'),
    _no_json("a number without its fraction", b'{"contact": 1.}'),
    _no_json("a sign alone", b'{"contact": -}'),
    _no_json("an exponent beyond all exponents", b'{"contact": 1e' + b"9" * 100 + b"}"),
    _no_json("True", b'{"contact": True}'),
    _no_json("undefined", b'{"contact": undefined}'),
    _no_json("a raw NUL in a string", b'{"contact": "\x00"}'),
    _no_json("a raw line break in a string", b'{"contact": "\n"}'),
    _no_json("a raw tab in a string", b'{"contact": "\t"}'),
    _no_json("a raw control character in a string", b'{"contact": "\x1b"}'),
    _no_json("NULs alone", bytes(1000)),
    _no_json("a name twice", b'{"contact": {}, "contact": {}}'),
    _no_json("a name twice, once escaped", rb'{"contact": {}, "\u0063ontact": {}}'),
    _no_json("a name twice, deep inside", b'{"a": [{"b": {"c": 1, "c": 2}}]}'),
    _no_json("an empty name twice", b'{"": 1, "": 2}'),
    _no_json("two byte order marks", b"\xef\xbb\xbf\xef\xbb\xbf{}"),
    _no_json("UTF-16", '{"contact": {}}'.encode("utf-16")),
    _no_json("UTF-16 without its mark", '{"contact": {}}'.encode("utf-16-le")),
    _no_json("UTF-32", '{"contact": {}}'.encode("utf-32")),
    _no_json("Latin-1", '{"contact": "é"}'.encode("latin-1")),
    _no_json("an overlong encoding", b'{"contact": "\xc0\xaf"}'),
    _no_json("half a character", b'{"contact": "\xe2\x82"}'),
    _no_json("a lone surrogate in raw bytes", b'{"contact": "\xed\xa0\x80"}'),
    _no_json("a character beyond Unicode", b'{"contact": "\xf4\x90\x80\x80"}'),
    _no_json("lists, 60,000 deep", b"[" * 60_000),
    _no_json("lists, 30,000 deep, with their ends", b"[" * 30_000 + b"]" * 30_000),
    _no_json("objects, 10,000 deep", b'{"a":' * 10_000),
    _no_json("objects, 10,000 deep, with their ends", b'{"a":' * 10_000 + b"1" + b"}" * 10_000),
    _no_json("a text without an end, of quotes", b"[]" * 33 + b'"' + rb"\"" * 32_000),
    _no_json("a form", b"contact%5Bemail%5D=maya%40example.com"),
    _no_json("XML", b"<contact><email>maya@example.com</email></contact>"),
    _no_json("a page", b"<!doctype html><script>alert(1)</script>"),
    _no_json("compressed bytes that are not declared", gzip.compress(b"{}")),
)
TOO_LARGE: Final = (
    _too_large("100,000 brackets", b"[" * 100_000),
    _too_large("100,000 digits", b'{"contact": ' + b"9" * 100_000 + b"}"),
    _too_large("one byte too many", b"{}" + b" " * 65_535),
    _too_large("a long string", b'{"contact": "' + b"x" * 1_000_000 + b'"}'),
    _too_large("a long name", b'{"' + b"x" * 100_000 + b'": 1}'),
    _too_large("many names", json.dumps({str(n): n for n in range(20_000)}).encode()),
)
OF_ANOTHER_KIND: Final = (
    _of_another_kind("no content type", {}),
    _of_another_kind("an empty content type", {"Content-Type": ""}),
    _of_another_kind("an invalid content type", {"Content-Type": "/"}),
    _of_another_kind("text", {"Content-Type": "text/plain"}),
    _of_another_kind("JSON as text", {"Content-Type": "text/json"}),
    _of_another_kind("lines of JSON", {"Content-Type": "application/x-ndjson"}),
    _of_another_kind("JSON:API", {"Content-Type": "application/vnd.api+json"}),
    _of_another_kind("a patch", {"Content-Type": "application/json-patch+json"}),
    _of_another_kind("two content types", {"Content-Type": "application/json, text/plain"}),
    _of_another_kind("XML, declared", {"Content-Type": "application/xml"}, b"<contact/>"),
    _of_another_kind("a form, declared", {"Content-Type": "application/x-www-form-urlencoded"}),
    _of_another_kind("a form with files", {"Content-Type": "multipart/form-data; boundary=b"}),
    _of_another_kind(
        "UTF-16, declared",
        {"Content-Type": "application/json; charset=utf-16"},
        "{}".encode("utf-16"),
    ),
    _of_another_kind("Latin-1, declared", {"Content-Type": "application/json; charset=latin-1"}),
    _of_another_kind("no charset's name", {"Content-Type": 'application/json; charset="\x01"'}),
    _of_another_kind("a gzip bomb", {**JSON, "Content-Encoding": "gzip"}, BOMB),
    _of_another_kind("invalid gzip", {**JSON, "Content-Encoding": "gzip"}),
    _of_another_kind("gzip twice", {**JSON, "Content-Encoding": "gzip, gzip"}),
    _of_another_kind("Brotli", {**JSON, "Content-Encoding": "br"}),
    _of_another_kind("an unknown encoding", {**JSON, "Content-Encoding": "rot13"}),
)


def _invalid(name: str, content: bytes, *problems: tuple[str, str], **more: Json) -> Bad:
    problems = problems or (("contact", "REQUIRED"),)
    return Bad(f"REST, {name}", 422, "INVALID_INPUT", content, problems=frozenset(problems), **more)


NO_CONTACT: Final = (
    _invalid("null", b"null"),
    _invalid("true", b"true"),
    _invalid("a number", b"1"),
    _invalid("a text", b'"contact"'),
    _invalid("an empty list", b"[]"),
    _invalid("a list of contacts", json.dumps([{"contact": dict(MAYA)}]).encode()),
    _invalid("an empty object", b"{}"),
    _invalid("a contact that is null", b'{"contact": null}'),
    _invalid("a contact without its wrapping", json.dumps(dict(MAYA)).encode()),
    _invalid("a contact in capitals", json.dumps({"CONTACT": dict(MAYA)}).encode()),
    _invalid("a list for a contact", b'{"contact": []}', ("contact", "INVALID_TYPE")),
    _invalid("a text for a contact", b'{"contact": "maya"}', ("contact", "INVALID_TYPE")),
    _invalid("a number for a contact", b'{"contact": 1}', ("contact", "INVALID_TYPE")),
    _invalid("a boolean for a contact", b'{"contact": true}', ("contact", "INVALID_TYPE")),
    _invalid("a huge fraction for a contact", b'{"contact": 1e400}', ("contact", "INVALID_TYPE")),
    _invalid(
        "a contact of lists, 30 deep",
        b'{"contact": ' + b"[" * 30 + b"]" * 30 + b"}",
        ("contact", "INVALID_TYPE"),
    ),
    _invalid(
        "an empty contact",
        b'{"contact": {}}',
        ("contact.advertiser_id", "REQUIRED"),
        ("contact.email", "REQUIRED"),
    ),
)


@dataclass(frozen=True, slots=True)
class Field:
    """A bad value of one field, with the expected code.

    `spelled` is the JSON text of a value that Python cannot represent.
    """

    name: str
    field: str
    value: object
    code: str
    by_graphql: str = ""
    spelled: str | None = None


def _email(name: str, value: object, code: str = "INVALID_EMAIL", by_graphql: str = "") -> Field:
    return Field(f"an address that is {name}", "email", value, code, by_graphql)


def _id(name: str, spelled: str, code: str = "INVALID_TYPE", by_graphql: str = "") -> Field:
    return Field(f"an id that is {name}", "advertiser_id", None, code, by_graphql, spelled=spelled)


def _url(name: str, value: object, code: str = "INVALID_URL", by_graphql: str = "") -> Field:
    return Field(f"a URL that is {name}", "linkedin_profile_url", value, code, by_graphql)


OF_ANOTHER_TYPE: Final = "BAD_REQUEST"
"""GraphQL refuses a value of the wrong type before execution."""

FIELDS: Final = (
    _email("null", None, "REQUIRED", OF_ANOTHER_TYPE),
    _email("empty", "", "REQUIRED"),
    _email("a number", 1, "INVALID_TYPE", OF_ANOTHER_TYPE),
    _email("a boolean", value=True, code="INVALID_TYPE", by_graphql=OF_ANOTHER_TYPE),
    _email("a list", ["maya@example.com"], "INVALID_TYPE", OF_ANOTHER_TYPE),
    _email("an object", {"address": "maya@example.com"}, "INVALID_TYPE", OF_ANOTHER_TYPE),
    _email("a blank", " ", "REQUIRED"),
    _email("of invisible characters", "\u3164\ufe0f\u200b\n", "REQUIRED"),
    _email("a word", "maya"),
    _email("a host", "@example.com"),
    _email("without a host", "maya@"),
    _email("with two signs", "maya@lindqvist@example.com"),
    _email("with a name", "Maya <maya@example.com>"),
    _email("two", "maya@example.com, noor@example.com"),
    _email("on this machine", "maya@localhost"),
    _email("at a number", "maya@[127.0.0.1]"),
    _email("with a dot first", ".maya@example.com"),
    _email("with two dots", "maya..l@example.com"),
    _email("with a broken label", "maya@xn--.example.com"),
    _email("with a direction mark", "maya\u202e@example.com"),
    _email("a script's URL", "javascript:alert(1)@example.com"),
    _email("followed by CR LF", "maya@example.com\r\nBcc: noor@example.com", "INVALID_CHARACTERS"),
    _email("with a line break", "maya\n@example.com", "INVALID_CHARACTERS"),
    _email("with a NUL", "maya\x00@example.com", "INVALID_CHARACTERS"),
    _email("with a lone surrogate", "maya\ud800@example.com", "INVALID_CHARACTERS"),
    _email("with the other lone surrogate", "maya\udfff@example.com", "INVALID_CHARACTERS"),
    _email("with a control character", "maya\x7f@example.com", "INVALID_CHARACTERS"),
    _email("too long by one", f"{'m' * 243}@example.com", "TOO_LONG"),
    _email("60,000 characters long", f"{'m' * 60_000}@example.com", "TOO_LONG"),
    _email("60,000 signs long", "@" * 60_000, "TOO_LONG"),
    _id("null", "null", "REQUIRED", OF_ANOTHER_TYPE),
    _id("empty", '""', "REQUIRED"),
    _id("a word", '"northwind"'),
    _id("a blank before digits", '" 1001"'),
    _id("a fraction", "1001.5", by_graphql=OF_ANOTHER_TYPE),
    _id("an exponent beyond floats", "1e400", by_graphql=OF_ANOTHER_TYPE),
    _id("an exponent of nine digits", "1e999999999", by_graphql=OF_ANOTHER_TYPE),
    _id("a negative exponent of nine digits", "1e-999999999", by_graphql=OF_ANOTHER_TYPE),
    _id("a fraction as text", '"1001.0"'),
    _id("an exponent as text", '"1e3"'),
    _id("hexadecimal", '"0x3e9"'),
    _id("with an underscore", '"1_001"'),
    _id("with a plus sign", '"+1001"'),
    _id("in full-width digits", '"\uff11\uff10\uff10\uff11"'),
    _id("a superscript", '"²"'),
    _id("followed by a line break", r'"1001\n"'),
    _id("followed by NUL", r'"1001\u0000"'),
    _id("a lone surrogate", r'"\ud800"'),
    _id("true", "true", by_graphql=OF_ANOTHER_TYPE),
    _id("false", "false", by_graphql=OF_ANOTHER_TYPE),
    _id("a list", "[1001]", by_graphql=OF_ANOTHER_TYPE),
    _id("an object", '{"id": 1001}', by_graphql=OF_ANOTHER_TYPE),
    _id("zero", "0", "OUT_OF_RANGE"),
    _id("negative zero", "-0", "OUT_OF_RANGE"),
    _id("negative", "-1001", "OUT_OF_RANGE"),
    _id("negative, as text", '"-1001"', "OUT_OF_RANGE"),
    _id("beyond 64 bits", str(2**63), "OUT_OF_RANGE"),
    _id("beyond 64 bits, as text", f'"{2**63}"', "OUT_OF_RANGE"),
    _id("60,000 digits long", "9" * 60_000, "OUT_OF_RANGE"),
    _id("60,000 digits below zero", "-" + "9" * 60_000, "OUT_OF_RANGE"),
    _id("60,000 digits long, as text", f'"{"9" * 60_000}"', "OUT_OF_RANGE"),
    _url("a script", "javascript:alert(1)"),
    _url("a script behind a host", "javascript://example.com/%0aalert(1)"),
    _url("data", "data:text/html,<script>alert(1)</script>"),
    _url("a file", "file:///etc/passwd"),
    _url("by FTP", "ftp://example.com/maya"),
    _url("without a scheme", "www.linkedin.com/in/maya"),
    _url("without its scheme's name", "//www.linkedin.com/in/maya"),
    _url("a scheme alone", "https://"),
    _url("without slashes", "https:www.linkedin.com"),
    _url("without a host", "https:///in/maya"),
    _url("a port without a host", "https://:443/"),
    _url("a dot for a host", "https://./"),
    _url("with an invalid port", "https://example.com:99999/"),
    _url("with a password", "https://maya:secret@example.com/"),
    _url("with blanks", "https://example.com/in maya"),
    _url("with backslashes", "https:\\\\example.com\\maya"),
    _url("half an address", "https://[::1/"),
    _url("with CR LF", "https://example.com/\r\nSet-Cookie: a=b", "INVALID_CHARACTERS"),
    _url("with NUL", "https://example.com/\x00", "INVALID_CHARACTERS"),
    _url("with a lone surrogate", "https://example.com/\udc00", "INVALID_CHARACTERS"),
    _url("too long by one", f"https://example.com/{'x' * 2029}", "TOO_LONG"),
    _url("a number", 1, "INVALID_TYPE", OF_ANOTHER_TYPE),
    *(
        Field(f"a {text} that is {name}", text, value, code, by_graphql)
        for text in ("name", "given_name", "phone", "job_title")
        for name, value, code, by_graphql in (
            ("a number", 1, "INVALID_TYPE", OF_ANOTHER_TYPE),
            ("a list", ["Maya"], "INVALID_TYPE", OF_ANOTHER_TYPE),
            ("too long by one", "x" * 256, "TOO_LONG", ""),
            ("two lines", "Maya\r\nLindqvist", "INVALID_CHARACTERS", ""),
            ("a terminal's command", "\x1b[2J", "INVALID_CHARACTERS", ""),
            ("a NUL", "\x00", "INVALID_CHARACTERS", ""),
            ("a lone surrogate", "\ud83d", "INVALID_CHARACTERS", ""),
        )
    ),
)


def _camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


def _written(members: Mapping[str, object], name: str, spelled: str | None) -> str:
    """Return an object as JSON, with one member spelled as given."""
    if spelled is None:
        return json.dumps(members)
    return json.dumps({**members, name: "SPELLED"}).replace('"SPELLED"', spelled)


def _submissions(bad: Field) -> Iterator[Bad]:
    by_rest = _written({**MAYA, bad.field: bad.value}, bad.field, bad.spelled)
    yield _invalid(
        bad.name, f'{{"contact": {by_rest}}}'.encode(), (f"contact.{bad.field}", bad.code)
    )
    name = _camel_case(bad.field)
    by_graphql = _written({**MAYA_INPUT, name: bad.value}, name, bad.spelled)
    content = f'{{"query": {json.dumps(CREATE_CONTACT)}, "variables": {{"input": {by_graphql}}}}}'
    if bad.by_graphql:
        yield Bad(f"GraphQL, {bad.name}", 400, bad.by_graphql, content.encode(), GRAPHQL)
    else:
        problems = frozenset({(f"input.{name}", bad.code)})
        yield Bad(
            f"GraphQL, {bad.name}",
            200,
            "INVALID_INPUT",
            content.encode(),
            GRAPHQL,
            problems=problems,
        )


CONTACT: Final = json.dumps({"contact": dict(MAYA)}).encode()


def _idempotency_key(name: str, key: str) -> Bad:
    problem = ("Idempotency-Key", "INVALID_IDEMPOTENCY_KEY")
    headers = {**JSON, "Idempotency-Key": key}
    return _invalid(f"an idempotency key that is {name}", CONTACT, problem, headers=headers)


def _dry_run(name: str, query: str) -> Bad:
    problem = ("dry_run", "INVALID_TYPE")
    return _invalid(f"a dry run that is {name}", CONTACT, problem, path=f"{REST}?{query}")


def _unknown(name: str, query: str, parameter: str, path: str = REST) -> Bad:
    return _invalid(name, CONTACT, (parameter, "UNKNOWN_PARAMETER"), path=f"{path}?{query}")


def _repeated(name: str, query: str, parameter: str) -> Bad:
    return _invalid(name, CONTACT, (parameter, "INVALID_ARGUMENTS"), path=f"{REST}?{query}")


def _in_the_body(path: str, body: dict[str, Json]) -> Bad:
    return _invalid(f"{path} in the body", json.dumps(body).encode(), (path, "INVALID_ARGUMENTS"))


BESIDE_THE_CONTACT: Final = (
    _idempotency_key("empty", ""),
    _idempotency_key("two words", "first try"),
    _idempotency_key("too long", "k" * 256),
    _idempotency_key("8,000 characters long", "k" * 8_000),
    _idempotency_key("a control character", "\x7f"),
    _idempotency_key("empty within quotes", '""'),
    _idempotency_key("a quote", '"'),
    _idempotency_key("without its last quote", '"k-1'),
    _idempotency_key("with a text after its quotes", '"k-1"2'),
    _dry_run("a word", "dry_run=maybe"),
    _dry_run("a number", "dry_run=2"),
    _dry_run("null", "dry_run=null"),
    _dry_run("without a value", "dry_run"),
    _dry_run("empty", "dry_run="),
    _dry_run("a NUL", "dry_run=true%00"),
    _dry_run("a broken character", "dry_run=%ff"),
    _dry_run("long", f"dry_run={'1' * 5_000}"),
    _unknown("a parameter that is unknown", "foo=1", "foo"),
    _unknown("a parameter without a value that is unknown", "dry_run=true&DRY_RUN", "DRY_RUN"),
    _unknown("a parameter without a name", "=true", ""),
    _unknown("a contact's field among the parameters", "email=maya@example.com", "email"),
    _unknown("a parameter by the alias", "foo=1", "foo", path=f"{REST}/add"),
    _repeated("a dry run that is both", "dry_run=true&dry_run=false", "dry_run"),
    _repeated("a dry run that is given twice", "dry_run=true&dry_run=true", "dry_run"),
    _repeated("a dry run by both names", "dry_run=true&dryRun=true", "dryRun"),
    _repeated("two idempotency keys", "idempotency_key=a&idempotency_key=b", "Idempotency-Key"),
    _invalid(
        "another idempotency key in the header than in the query",
        CONTACT,
        ("Idempotency-Key", "INVALID_ARGUMENTS"),
        path=f"{REST}?idempotency_key=k-1",
        headers={**JSON, "Idempotency-Key": "k-2"},
    ),
    _invalid(
        "an empty idempotency key in the query",
        CONTACT,
        ("Idempotency-Key", "INVALID_IDEMPOTENCY_KEY"),
        path=f"{REST}?idempotency_key=",
    ),
    _in_the_body("dry_run", {"contact": dict(MAYA), "dry_run": True}),
    _in_the_body("dryRun", {"contact": dict(MAYA), "dryRun": False}),
    _in_the_body("contact.dry_run", {"contact": {**MAYA, "dry_run": "true"}}),
    _in_the_body("contact.dryRun", {"contact": {**MAYA, "dryRun": None}}),
    *(
        _in_the_body(name, {"contact": dict(MAYA), name: True})
        for name in ("dryrun", "DryRun", "DRY_RUN", "dry-run", "dry run", "_dry_run")
    ),
    _in_the_body("contact.dry-Run", {"contact": {**MAYA, "dry-Run": True}}),
    _invalid(
        "an idempotency key in the body",
        json.dumps({"contact": dict(MAYA), "idempotency_key": "k-1"}).encode(),
        ("Idempotency-Key", "INVALID_ARGUMENTS"),
    ),
    _in_the_body("Idempotency-Key", {"contact": dict(MAYA), "Idempotency-Key": "k-1"}),
    _in_the_body("contact.idempotency_key", {"contact": {**MAYA, "idempotency_key": "k-1"}}),
    _in_the_body("contact.idempotencyKey", {"contact": {**MAYA, "idempotencyKey": None}}),
)


def _read(name: str, query: str, path: str, code: str) -> Bad:
    return _invalid(name, b"", (path, code), path=f"{REST}?{query}", method="GET", headers={})


READS: Final = (
    _read("page 0", "page=0", "page", "OUT_OF_RANGE"),
    _read("a page below 0", "page=-1", "page", "OUT_OF_RANGE"),
    _read("a page beyond 32 bits", f"page={2**31}", "page", "OUT_OF_RANGE"),
    _read("a page of 5,000 digits", f"page={'9' * 5_000}", "page", "OUT_OF_RANGE"),
    _read("a word for a page", "page=two", "page", "INVALID_TYPE"),
    _read("a fraction for a page", "page=1.0", "page", "INVALID_TYPE"),
    _read("an exponent for a page", "page=1e3", "page", "INVALID_TYPE"),
    _read("a boolean for a page", "page=true", "page", "INVALID_TYPE"),
    _read("a list for a page", "page=1,2", "page", "INVALID_TYPE"),
    _read("a page in full-width digits", "page=%ef%bc%91", "page", "INVALID_TYPE"),
    _read("a page of a broken character", "page=%ff", "page", "INVALID_TYPE"),
    _read("a page of NUL", "page=%00", "page", "INVALID_TYPE"),
    _read("a page of a lone surrogate", "page=%ed%a0%80", "page", "INVALID_TYPE"),
    _read("no records a page", "per_page=0", "per_page", "OUT_OF_RANGE"),
    _read("no records by the other name", "limit=0", "limit", "OUT_OF_RANGE"),
    _read("two pages", "page=1&page=2", "page", "INVALID_ARGUMENTS"),
    _read("two texts", "q=maya&q=sam", "q", "INVALID_ARGUMENTS"),
    _read("the same text twice", "q=maya&q=maya", "q", "INVALID_ARGUMENTS"),
    _read("a filter as a list", "advertiser_id[]=1001", "advertiser_id[]", "UNKNOWN_PARAMETER"),
    _read("a filter in camel case", "advertiserId=1001", "advertiserId", "UNKNOWN_PARAMETER"),
    _read("an unknown filter", "foo=1", "foo", "UNKNOWN_PARAMETER"),
    _read("an unknown filter without a value", "foo", "foo", "UNKNOWN_PARAMETER"),
    _read("a filter of HiEnergy alone", "phone=1", "phone", "UNKNOWN_PARAMETER"),
    _read("an offset", "offset=25", "offset", "UNKNOWN_PARAMETER"),
    _read("a word for a name that is not used", "per_page=5&limit=all", "limit", "INVALID_TYPE"),
    _read("a word for the records", "per_page=all", "per_page", "INVALID_TYPE"),
    _read("words for an advertiser", "advertiser_id=x+y", "advertiser_id", "INVALID_TYPE"),
    _read("a dry run that is a word", "dry_run=maybe", "dry_run", "INVALID_TYPE"),
    _read("a dry run by both names", "dry_run=true&dryRun=true", "dryRun", "INVALID_ARGUMENTS"),
    _read("a cursor", "cursor=x", "cursor", "UNKNOWN_PARAMETER"),
    _read("an idempotency key", "idempotency_key=k", "idempotency_key", "UNKNOWN_PARAMETER"),
    _read("advertiser 0", "advertiser_id=0", "advertiser_id", "OUT_OF_RANGE"),
    _read("an advertiser below 0", "advertiser_id=-1", "advertiser_id", "OUT_OF_RANGE"),
    _read(
        "an advertiser beyond 64 bits", f"advertiser_id={2**63}", "advertiser_id", "OUT_OF_RANGE"
    ),
    *(
        _read(f"{what} in {name}", f"{name}={value}", name, code)
        for name in ("q", "email", "advertiser_name", "domain")
        for what, value, code in (
            ("NUL", "a%00b", "INVALID_CHARACTERS"),
            ("CR LF", "a%0d%0ab", "INVALID_CHARACTERS"),
            ("256 characters", "x" * 256, "TOO_LONG"),
        )
    ),
)
NOWHERE: Final = tuple(
    Bad(f"{kind} of {name}", 404, "NOT_FOUND", path=f"/api/v1/{kind}/{path}", method="GET")
    for kind in ("contacts", "advertisers")
    for name, path in (
        ("zero", "0"),
        ("a negative id", "-1"),
        ("a fraction", "1001.0"),
        ("an exponent", "1e3"),
        ("an id beyond 64 bits", str(2**63)),
        ("5,000 digits", "9" * 5_000),
        ("5,000 letters", "x" * 5_000),
        ("full-width digits", quote("\uff11\uff10\uff10\uff11")),
        ("NUL", "%00"),
        ("an id and NUL", "1001%00"),
        ("CR LF", "1001%0d%0aSet-Cookie:a=b"),
        ("a broken character", "%ff"),
        ("a lone surrogate", "%ed%a0%80"),
        ("half an escape", "%"),
        ("a slash", "%2f"),
        ("a way up", "..%2f..%2fetc%2fpasswd"),
        ("a query of SQL", quote("1001' OR '1'='1")),
        ("a template", quote("{{7*7}}")),
    )
)


def _parameters(name: str, parameters: object) -> Bad:
    content = json.dumps(parameters).encode()
    return Bad(f"GraphQL, {name}", 400, "BAD_REQUEST", content, GRAPHQL)


def _document(name: str, query: str, variables: object = None) -> Bad:
    request = _parameters(name, {"query": query, "variables": variables})
    return replace(request, name=f"GraphQL document, {name}")


def _argument(name: str, argument: str, path: str, code: str) -> Bad:
    content = json.dumps({"query": f"{{ contacts({argument}) {{ nodes {{ id }} }} }}"}).encode()
    problems = frozenset({(path, code)})
    return Bad(f"GraphQL, {name}", 200, "INVALID_INPUT", content, GRAPHQL, problems=problems)


def _by_get(name: str, query: str) -> Bad:
    return Bad(
        f"GraphQL by GET, {name}",
        400,
        "BAD_REQUEST",
        path=f"{GRAPHQL}?{query}",
        method="GET",
        headers={},
    )


READ_ONE: Final = "query ($id: ID!) { contact(id: $id) { id } }"
CREATE: Final = "mutation { createContact(input: %s) { __typename } }"

GRAPHQL_PARAMETERS: Final = (
    _parameters("null", None),
    _parameters("a number", 1),
    _parameters("a text", "{ __typename }"),
    _parameters("an empty object", {}),
    _parameters("an empty batch", []),
    _parameters("a batch", [{"query": "{ __typename }"}] * 2),
    *(
        _parameters(f"{kind} for a document", {"query": value})
        for kind, value in (
            ("null", None),
            ("a number", 1),
            ("a boolean", True),
            ("a list", ["{ __typename }"]),
            ("an object", {"a": 1}),
            ("an empty text", ""),
            ("blanks", " \n\t"),
        )
    ),
    *(
        _parameters(f"{kind} for {name}", {"query": "{ __typename }", name: value})
        for name in ("variables", "extensions")
        for kind, value in (("a text", "{}"), ("a number", 1), ("a boolean", True), ("a list", []))
    ),
    *(
        _parameters(f"{kind} for an operation's name", {"query": "{ a }", "operationName": value})
        for kind, value in (("a number", 1), ("a boolean", True), ("a list", []), ("an object", {}))
    ),
    _parameters("an unknown operation", {"query": "query A { a }", "operationName": "B"}),
    _parameters("a lone surrogate for a name", {"query": "{ a }", "operationName": "\ud800"}),
    replace(
        _parameters(
            "a stored document",
            {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": "0" * 64}}},
        ),
        code="PERSISTED_QUERY_NOT_SUPPORTED",
    ),
    _parameters("no stored document", {"extensions": {"persistedQuery": None}}),
)
GRAPHQL_DOCUMENTS: Final = (
    _document("a comment alone", "# nothing"),
    _document("commas alone", ",,,,"),
    _document("a byte order mark alone", "\ufeff"),
    _document("a brace", "{"),
    _document("a closing brace", "}"),
    _document("a keyword alone", "mutation"),
    _document("a selection without an end", "{ viewer { label }"),
    _document("a string without an end", '{ contacts(q: "a'),
    _document("a string over two lines", '{ contacts(q: "a\nb") { nodes { id } } }'),
    _document("a block string without an end", '{ contacts(q: """a'),
    _document("an unknown escape", r'{ contacts(q: "\q") { nodes { id } } }'),
    _document("an escaped lone surrogate", r'{ contacts(q: "\ud800") { nodes { id } } }'),
    _document("an escape beyond Unicode", r'{ contacts(q: "\u{110000}") { nodes { id } } }'),
    _document("an escape without digits", r'{ contacts(q: "\u{}") { nodes { id } } }'),
    _document("a raw lone surrogate", "{ \ud800 }"),
    _document("a lone surrogate in a string", '{ contacts(q: "\ud800") { nodes { id } } }'),
    _document("a lone surrogate in a comment", "{ nope } # \ud800"),
    _document("NUL", "{ viewer \x00 { label } }"),
    _document("a control character", "{ viewer \x07 { label } }"),
    _document("an invalid field name", "{ é }"),
    _document("a number before a name", "{ contacts(page: 1a) { nodes { id } } }"),
    _document("a leading zero in a document", "{ contacts(page: 01) { nodes { id } } }"),
    _document("a number without its fraction", "{ contacts(page: 1.) { nodes { id } } }"),
    _document("10,000 braces", "{" * 10_000),
    _document("10,000 fields inside each other", "{a" * 10_000 + "}" * 10_000),
    _document("200 fields inside each other", "{a" * 200 + "}" * 200),
    _document("10,000 lists inside each other", "{ a(b: " + "[" * 10_000),
    _document("450 lists inside each other", f"{{ a(b: {'[' * 450}{']' * 450}) }}"),
    _document("300 objects inside each other", "{ a(b: " + "{c:" * 300 + "1" + "}" * 300 + ") }"),
    _document("types within 450 lists", f"query ($v: {'[' * 450}Int{']' * 450}) {{ a }}"),
    _document("1,001 tokens", "{ viewer { " + "label " * 997 + "} }"),
    _document("16 aliases", f"{{ {' '.join(f'a{n}: __typename' for n in range(16))} }}"),
    _document("a fragment within itself", "{ ...A } fragment A on Query { ...A }"),
    _document(
        "fragments within each other",
        "{ ...A } fragment A on Query { ...B } fragment B on Query { ...A }",
    ),
    _document(
        "140 fragments in a circle",
        "{ ...f0 } "
        + " ".join(f"fragment f{n} on Query {{ ...f{(n + 1) % 140} }}" for n in range(140)),
    ),
    _document("an unknown fragment", "{ ...A }"),
    _document("an unused fragment", "{ __typename } fragment A on Query { __typename }"),
    _document("a fragment twice", "{ ...A }" + " fragment A on Query { __typename }" * 2),
    _document("a fragment on an unknown type", "{ ... on Nothing { a } }"),
    _document("a fragment on a scalar", "{ viewer { ... on String { a } } }"),
    _document("a fragment that can never hold", "{ viewer { ... on Contact { id } } }"),
    _document("a fragment called on", "{ ...on } fragment on on Query { a }"),
    _document("an unknown directive", "{ __typename @nothing }"),
    _document("a directive out of place", "query @skip(if: true) { __typename }"),
    _document("a directive without its argument", "{ __typename @skip }"),
    _document("a directive twice", "{ __typename @skip(if: true) @skip(if: true) }"),
    _document("a text for a condition", '{ __typename @include(if: "true") }'),
    _document("@defer", "{ ... @defer { __typename } }"),
    _document("@stream", "{ contacts { nodes @stream { id } } }"),
    _document("an unknown field", "{ nothing }"),
    _document("an unknown argument", "{ viewer(id: 1) { label } }"),
    _document("an argument twice", "{ contact(id: 1, id: 2) { id } }"),
    _document("a missing argument", "{ contact { id } }"),
    _document("null for what must not be", "{ contact(id: null) { id } }"),
    _document("a list for an id", "{ contact(id: [1]) { id } }"),
    _document("a fraction for an id", "{ contact(id: 1.0) { id } }"),
    _document("an enum for an id", "{ contact(id: ONE) { id } }"),
    _document("an object for an id", "{ contact(id: {a: 1}) { id } }"),
    _document("a text for a number", '{ contacts(page: "1") { nodes { id } } }'),
    _document("a fraction for a number", "{ contacts(page: 1.5) { nodes { id } } }"),
    _document("a number beyond 32 bits", f"{{ contacts(page: {2**31}) {{ nodes {{ id }} }} }}"),
    _document("5,000 digits", f"{{ contacts(page: {'9' * 5_000}) {{ nodes {{ id }} }} }}"),
    _document("60,000 digits", f"{{ contacts(page: {'9' * 60_000}) {{ nodes {{ id }} }} }}"),
    _document("an exponent beyond floats", "{ contacts(page: 1e400) { nodes { id } } }"),
    _document("a number for a text", "{ contacts(q: 1) { nodes { id } } }"),
    _document("an object without fields", "{ viewer }"),
    _document("a text with fields", "{ viewer { label { id } } }"),
    _document("fields that contradict each other", "{ a: viewer { x: label x: role } }"),
    _document("operations of one name", "query A { __typename } query A { __typename }"),
    _document("two operations without names", "{ __typename } { __typename }"),
    _document("a subscription", "subscription { viewer { label } }"),
    _document("a type", "type A { b: Int }"),
    _document("a schema and an operation", "{ __typename } schema { query: Query }"),
    _document("an unknown type of a variable", "query ($a: Nothing) { contact(id: $a) { id } }"),
    _document("an object type of a variable", "query ($a: Contact) { contact(id: $a) { id } }"),
    _document("a variable twice", "query ($a: ID!, $a: ID!) { contact(id: $a) { id } }"),
    _document("an unused variable", "query ($a: ID) { __typename }"),
    _document("an unknown variable", "{ contact(id: $a) { id } }"),
    _document("a variable out of place", "query ($a: Int) { contacts(q: $a) { nodes { id } } }"),
    _document("a bad default", 'query ($a: Int = "x") { contacts(page: $a) { nodes { id } } }'),
    _document(
        "a default of itself", "query ($a: Int = $a) { contacts(page: $a) { nodes { id } } }"
    ),
    _document("no variables", READ_ONE),
    _document("null for a variable", READ_ONE, {"id": None}),
    _document("a boolean for a variable", READ_ONE, {"id": True}),
    _document("a list for a variable", READ_ONE, {"id": [1]}),
    _document("a deep list for a variable", READ_ONE, {"id": json.loads("[" * 300 + "]" * 300)}),
    _document("a fraction for a variable", READ_ONE, {"id": 1.5}),
    _document("a text for an input", CREATE_CONTACT, {"input": "maya@example.com"}),
    _document("a list for an input", CREATE_CONTACT, {"input": [dict(MAYA_INPUT)]}),
    _document("an empty input", CREATE_CONTACT, {"input": {}}),
    _document("an unknown input field", CREATE_CONTACT, {"input": {**MAYA_INPUT, "nothing": 1}}),
    _document(
        "a lone surrogate for an input field",
        CREATE_CONTACT,
        {"input": {**MAYA_INPUT, "\ud800": 1}},
    ),
    _document(
        "3,000 unknown input fields",
        CREATE_CONTACT,
        {"input": {**MAYA_INPUT, **{f"x{n}": n for n in range(3_000)}}},
    ),
    _document("upstream's names", CREATE_CONTACT, {"input": dict(MAYA)}),
    _document("a text for dryRun", CREATE_CONTACT, {"input": dict(MAYA_INPUT), "dryRun": "true"}),
    _document(
        "a number for an idempotency key",
        CREATE_CONTACT,
        {"input": dict(MAYA_INPUT), "idempotencyKey": 1},
    ),
    _document("a literal input without its fields", CREATE % "{}"),
    _document("a literal input field twice", CREATE % '{advertiserId: 1, email: "a", email: "b"}'),
    _document("a literal unknown field", CREATE % '{advertiserId: 1, email: "a", nothing: 1}'),
    _document("a literal null", CREATE % "null"),
)
GRAPHQL_ARGUMENTS: Final = (
    _argument("page 0", "page: 0", "page", "OUT_OF_RANGE"),
    _argument("a page below 0", f"page: {-(2**31)}", "page", "OUT_OF_RANGE"),
    _argument("no records a page", "perPage: 0", "perPage", "OUT_OF_RANGE"),
    _argument("words for an advertiser", 'advertiserId: "x y"', "advertiserId", "INVALID_TYPE"),
    _argument("an advertiser below 0", "advertiserId: -1", "advertiserId", "OUT_OF_RANGE"),
    _argument(
        "an advertiser of 60,000 digits",
        f"advertiserId: {'9' * 60_000}",
        "advertiserId",
        "OUT_OF_RANGE",
    ),
    _argument("NUL in q", r'q: "\u0000"', "q", "INVALID_CHARACTERS"),
    _argument(
        "two lines in q",
        '''q: """a
    b"""''',
        "q",
        "INVALID_CHARACTERS",
    ),
    _argument("256 characters in q", f'q: "{"x" * 256}"', "q", "TOO_LONG"),
    _argument("CR LF in an address", r'email: "a\r\nb"', "email", "INVALID_CHARACTERS"),
)
GRAPHQL_BY_GET: Final = (
    _by_get("no document", ""),
    _by_get("an empty document", "query="),
    _by_get("a broken document", "query=%7B"),
    _by_get("a broken character", "query=%ff"),
    _by_get("NUL", "query=%00"),
    _by_get("a lone surrogate", "query=%ed%a0%80"),
    _by_get("invalid variables", "query={__typename}&variables={"),
    _by_get("a list for variables", "query={__typename}&variables=[]"),
    _by_get("a name twice in variables", 'query={__typename}&variables={"a":1,"a":2}'),
    _by_get("NaN in variables", 'query={__typename}&variables={"a":NaN}'),
    _by_get("deep variables", f"query={{__typename}}&variables={'[' * 10_000}"),
    _by_get("invalid extensions", "query={__typename}&extensions=x"),
    _by_get("a text for extensions", 'query={__typename}&extensions="x"'),
    _by_get("an unknown operation", "query={__typename}&operationName=A"),
)
OF_HTTP: Final = (
    *(
        Bad(f"{method} at {path}", 405, "METHOD_NOT_ALLOWED", CONTACT, path, method)
        for path in (REST, GRAPHQL)
        for method in ("PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "NOTHING")
    ),
    *(
        Bad(
            f"an answer as {accept}",
            406,
            "NOT_ACCEPTABLE",
            b'{"query": "{ __typename }"}',
            GRAPHQL,
            headers={**JSON, "Accept": accept},
        )
        for accept in ("image/png", "*/*;q=0", "application/json;q=2", "nothing", ",;,")
    ),
)

BAD: Final = (
    *_on_both_faces((*NO_JSON_IN_UTF_8, *TOO_LARGE, *OF_ANOTHER_KIND)),
    *NO_CONTACT,
    *(submission for bad in FIELDS for submission in _submissions(bad)),
    *BESIDE_THE_CONTACT,
    *READS,
    *NOWHERE,
    *GRAPHQL_PARAMETERS,
    *GRAPHQL_DOCUMENTS,
    *GRAPHQL_ARGUMENTS,
    *GRAPHQL_BY_GET,
    *OF_HTTP,
)


@pytest.fixture(scope="module")
async def gateway(
    tmp_path_factory: pytest.TempPathFactory,
    engine_of_module: Engine,  # noqa: ARG001 - of this engine
) -> AsyncIterator[Gateway]:
    """Return one gateway for all requests, so that anything one leaves behind affects the next."""
    async with running_gateway(tmp_path_factory.mktemp("bad_input")) as running:
        yield running


@pytest.mark.anyio
@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
async def test_a_bad_request_is_refused_and_changes_nothing(
    gateway: Gateway, log: io.StringIO, bad: Bad
) -> None:
    before = await gateway.contact_rows()
    response = await _send(gateway, bad)
    after = await gateway.contact_rows()

    assert (response.status_code, _code(bad, response)) == (bad.status, bad.code)
    assert _problems(bad, response) == bad.problems
    assert after == before
    logged = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [(line["event"], line["level"]) for line in logged] == [("request", "info")]
    assert "Traceback" not in response.text + log.getvalue()
    # Python's names mean nothing to callers.
    assert re.search(r"\b(None|Undefined|UNSET|True|False)\b", response.text) is None


async def _send(gateway: Gateway, bad: Bad) -> httpx.Response:
    response: httpx.Response = await gateway.client.request(
        bad.method,
        bad.path,
        headers={**bad.headers, **credentials(gateway.admin)},
        content=bad.content,
    )
    return response


def _code(bad: Bad, response: httpx.Response) -> str:
    """Return the single code of a refusal, after checking the shape of its body."""
    body: Json = response.json()
    if not bad.is_graphql:
        assert body.keys() == {"error"}
        assert body["error"].keys() == {"code", "message", "timestamp", "request_id", "details"}
        codes = {body["error"]["code"]}
    elif "errors" in body:
        assert not any((body.get("data") or {}).values())
        assert {error["extensions"]["requestId"] for error in body["errors"]} == {
            response.headers["X-Request-Id"]
        }
        codes = {error["extensions"]["code"] for error in body["errors"]}
    else:
        (member,) = body["data"].values()
        codes = {member["code"]}
    assert codes <= CODES
    (code,) = codes
    return str(code)


def _problems(bad: Bad, response: httpx.Response) -> frozenset[tuple[str, str]]:
    body: Json = response.json()
    if not bad.is_graphql:
        problems = body["error"]["details"].get("problems", ())
    elif "errors" in body:
        problems = body["errors"][0]["extensions"].get("problems", ())
    else:
        problems = body["data"]["createContact"]["problems"]
    return frozenset((problem["path"], problem["code"]) for problem in problems)


HEAVY: Final = tuple(
    bad
    for bad in BAD
    if bad.name.partition(", ")[2]
    in {
        "lists, 30,000 deep, with their ends",
        "objects, 10,000 deep, with their ends",
        "a long string",
        "many names",
        "a gzip bomb",
        "an address that is 60,000 characters long",
        "an id that is 60,000 digits long",
        "1,001 tokens",
        "140 fragments in a circle",
        "60,000 digits",
        "3,000 unknown input fields",
        "deep variables",
    }
)


@pytest.mark.anyio
async def test_refused_requests_leak_no_memory(gateway: Gateway) -> None:
    resident: list[int] = []
    # The first rounds fill caches.
    for rounds in (5, 10):
        for _ in range(rounds):
            for bad in HEAVY:
                await _send(gateway, bad)
        gc.collect()
        resident.append(resident_bytes())
    before, after = resident

    assert after - before < 8_000_000


@dataclass(frozen=True, slots=True)
class OnTheWire:
    """Bytes sent over a connection, and the statuses of the responses.

    `cut` means that the client then stops sending, although the server expects more.
    """

    name: str
    sent: bytes
    statuses: tuple[int, ...] = (400,)
    cut: bool = False


def _post(
    name: str,
    headers: bytes,
    body: bytes = b"",
    statuses: tuple[int, ...] = (400,),
    *,
    cut: bool = False,
) -> Iterator[OnTheWire]:
    head = b"Host: here\r\nX-Api-Key: KEY\r\nContent-Type: application/json\r\n" + headers
    for face, path in (("REST", REST), ("GraphQL", GRAPHQL)):
        sent = b"POST %s HTTP/1.1\r\n%s\r\n%s" % (path.encode(), head, body)
        yield OnTheWire(f"{face}, {name}", sent, statuses, cut)


CLOSE: Final = b"Connection: close\r\n"
CHUNKED: Final = b"Transfer-Encoding: chunked\r\n"
ON_THE_WIRE: Final = (
    OnTheWire("a greeting of TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500)),
    OnTheWire("the greeting of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    OnTheWire("a greeting of SSH", b"SSH-2.0-OpenSSH_9.2\r\n"),
    OnTheWire("nothing", b"", (), cut=True),
    OnTheWire("NULs", bytes(1000)),
    OnTheWire("a line without an end", b"GET /healthz", (), cut=True),
    OnTheWire("half a head", b"GET /healthz HTTP/1.1\r\nHost: here\r\n", (), cut=True),
    OnTheWire("an unknown version", b"GET /healthz HTTP/3.7\r\nHost: here\r\n\r\n"),
    OnTheWire("no target", b"GET HTTP/1.1\r\nHost: here\r\n\r\n"),
    OnTheWire("garbage before the request", b"\xff\xfe GET /healthz HTTP/1.1\r\n\r\n"),
    OnTheWire("a method in small letters", b"post /graphql HTTP/1.1\r\nHost: here\r\n\r\n"),
    OnTheWire("a target of raw bytes", b"GET /\xff\xfe HTTP/1.1\r\nHost: here\r\n\r\n"),
    OnTheWire("a target with a blank", b"GET /a b HTTP/1.1\r\nHost: here\r\n\r\n"),
    OnTheWire(
        "another server's address",
        b"GET http://elsewhere/secret HTTP/1.1\r\nHost: here\r\n" + CLOSE + b"\r\n",
        (404,),
    ),
    OnTheWire("a tunnel", b"CONNECT elsewhere:443 HTTP/1.1\r\nHost: here\r\n\r\n"),
    OnTheWire(
        "a WebSocket",
        b"GET /graphql HTTP/1.1\r\nHost: here\r\nConnection: Upgrade, close\r\n"
        b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: a\r\n\r\n",
    ),
    *_post("a header without a colon", b"nothing\r\n"),
    *_post("a blank before a colon", b"X-Request-Id : a\r\n"),
    *_post("a header without a name", b": a\r\n"),
    *_post("a NUL in a header", b"X-Request-Id: a\x00b\r\n"),
    *_post("a header of 1 MB", b"X-Padding: " + b"x" * 1_000_000 + b"\r\n"),
    *_post("10,000 headers", b"X-Padding: xxxxxxxxxxxxxxxxxxxx\r\n" * 10_000),
    *_post("a negative length", b"Content-Length: -1\r\n", b"{}"),
    *_post("a word for a length", b"Content-Length: two\r\n", b"{}"),
    *_post("a hexadecimal length", b"Content-Length: 0x2\r\n", b"{}"),
    *_post("a length beyond 64 bits", b"Content-Length: %d\r\n" % 2**70, b"{}"),
    *_post("two lengths", b"Content-Length: 2\r\nContent-Length: 3\r\n", b"{}"),
    *_post("a length of chunks", b"Content-Length: 2\r\n" + CHUNKED, b"0\r\n\r\n"),
    *_post("10 GB declared", CLOSE + b"Content-Length: 10000000000\r\n", b"{}", (413,)),
    *_post("a length that is too small", b"Content-Length: 1\r\n", b"{} GARBAGE"),
    *_post("a body that is cut off", b"Content-Length: 500\r\n", b'{"contact"', (), cut=True),
    *_post("no body of a declared length", b"Content-Length: 500\r\n", b"", (), cut=True),
    *_post("chunks that are garbage", CHUNKED, b"GARBAGE\r\n"),
    *_post("a negative chunk", CHUNKED, b"-2\r\n{}\r\n0\r\n\r\n"),
    *_post("a chunk beyond 64 bits", CHUNKED, b"fffffffffffffffff\r\n{}"),
    *_post("a chunk longer than said", CHUNKED, b"1\r\n{}\r\n0\r\n\r\n"),
    *_post("chunks that are cut off", CHUNKED, b"2\r\n{}\r\n", (), cut=True),
    *_post("a chunk that is cut off", CHUNKED, b'500\r\n{"contact"', (), cut=True),
    *_post("too large in chunks", CLOSE + CHUNKED, b"20000\r\n" + b" " * 0x20000, (413,)),
    *_post(
        "a gzip bomb on the wire",
        CLOSE + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n" % len(BOMB),
        BOMB,
        (415,),
    ),
    OnTheWire(
        "an idempotency key of raw bytes",
        b"POST /api/v1/contacts HTTP/1.1\r\nHost: here\r\nX-Api-Key: KEY\r\n"
        b"Content-Type: application/json\r\nIdempotency-Key: cl\xe9\r\n"
        b"Content-Length: %d\r\n%s\r\n%s" % (len(CONTACT), CLOSE, CONTACT),
        (422,),
    ),
    OnTheWire(
        "a key of raw bytes",
        b"POST /api/v1/contacts HTTP/1.1\r\nHost: here\r\nX-Api-Key: \xff\xfe\r\n"
        b"X-Request-Id: \xff\r\n" + CLOSE + b"\r\n",
        (401,),
    ),
)


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with gateway_process(tmp_path_factory.mktemp("on_the_wire"), "--demo") as running:
        yield running


@pytest.mark.parametrize("bad", ON_THE_WIRE, ids=lambda bad: bad.name)
def test_malformed_bytes_are_refused_and_change_nothing(
    process: GatewayProcess, bad: OnTheWire
) -> None:
    with process.client(process.admin_key) as client:
        before: Json = client.get(REST).json()
        statuses = _statuses(process, bad)
        after: Json = client.get(REST).json()

    assert statuses == bad.statuses
    assert after == before
    assert "Traceback" not in process.log()
    assert '"level":"error"' not in process.log()


def _statuses(process: GatewayProcess, bad: OnTheWire) -> tuple[int, ...]:
    """Send the bytes, and return the statuses of all responses until the connection ends."""
    address = urlsplit(process.address)
    assert address.hostname is not None
    assert address.port is not None
    with socket.create_connection(
        (address.hostname, address.port), timeout=WATCHDOG_SECONDS
    ) as connection:
        with suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(bad.sent.replace(b"KEY", process.admin_key.encode()))
        if bad.cut:
            connection.shutdown(socket.SHUT_WR)
        answers = bytearray()
        # A request refused before its end gets a response, and then the connection is reset.
        with suppress(ConnectionResetError):
            while received := connection.recv(65_536):
                answers += received
    return tuple(int(status) for status in re.findall(rb"^HTTP/1\.1 (\d+)", answers, re.MULTILINE))
