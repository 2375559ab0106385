"""Every answer of upstream to a creation, and its outcome on each face."""

import asyncio
import io
import json
import time
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import pytest

from contact_gateway.upstream.circuit import FAILURE_THRESHOLD
from support.clock import ManualClock
from support.faces import FACES, Answer, Face, Json
from support.gateway import Gateway, credentials
from support.upstream import (
    KEY,
    End,
    RecordedUpstream,
    Recording,
    Request,
    gateway_and_upstream,
    recorded,
)

pytestmark = pytest.mark.anyio

MAYA: Final = {"advertiser_id": 2001, "email": "maya@example.com"}
ATTRIBUTES: Final[Mapping[str, Json]] = {
    "advertiser_id": 1001,
    "advertiser_name": "Northwind",
    "email": "maya@example.com",
    "name": None,
    "given_name": None,
    "family_name": None,
    "phone": None,
    "job_title": None,
    "source": None,
    "status": None,
    "linkedin_profile_url": None,
    # A contact from before the call is a conflict.
    "created_at": "2099-01-31T12:00:00.000Z",
    "updated_at": "2099-01-31T12:00:00.000Z",
}
RESOURCE: Final[Mapping[str, Json]] = {"id": "42", "type": "contact", "attributes": ATTRIBUTES}
CONTACT: Final = {**ATTRIBUTES, "id": "42", "advertiser_id": "1001"}
NOON: Final = 1_750_000_000
CREATED: Final = json.dumps({"data": RESOURCE, "meta": {}})
TOKEN: Final = "eyJhbGciOiJub25lIn0.e30.c2lnbmVk"
"""The header `{"alg":"none"}`, the claims `{}`, and a signature."""
EMPTY_PAGE: Final = recorded(200, json.dumps({"data": [], "meta": {"has_more": False}}))


def _document(**changes: Json) -> str:
    """Return a success with changed attributes; `...` omits one."""
    attributes = {
        name: value for name, value in {**ATTRIBUTES, **changes}.items() if value is not ...
    }
    return json.dumps({"data": {**RESOURCE, "attributes": attributes}})


def _envelope(code: str, message: str = "Said upstream.", **details: Json) -> str:
    return json.dumps(
        {
            "error": {
                "code": code,
                "message": message,
                "timestamp": "2026-01-31T12:00:00Z",
                "request_id": "upstream-1",
                "details": details,
            }
        }
    )


@dataclass(frozen=True, slots=True)
class Case:
    """An answer of upstream, and the expected outcome."""

    name: str
    answer: Recording
    outcome: str
    message: str | None = None
    problems: frozenset[tuple[str, str]] = frozenset()
    retry_after_seconds: int | None = None
    existing: bool = False
    details: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unusable:
    """An answer that says that nothing was created, or that does not show what was created."""

    name: str
    answer: Recording
    outcome: str = "OUTCOME_UNKNOWN"
    retry_after_seconds: int = 60
    event: str = "the answer to a creation was lost"


def _created_nothing(name: str, answer: Recording, retry_after_seconds: int = 1) -> Unusable:
    return Unusable(name, answer, "SERVICE_UNAVAILABLE", retry_after_seconds, "source unavailable")


def _unnamed(name: str, answer: Recording) -> Unusable:
    return Unusable(name, answer, event="the answer to a creation names no contact")


CONTACTS = (
    Case("the contact", recorded(201, CREATED), "CONTACT"),
    Case("the contact, with 200", recorded(200, CREATED), "CONTACT"),
    Case("the contact, as text", recorded(201, CREATED, media_type="text/plain"), "CONTACT"),
    Case("no content type at all", recorded(201, CREATED, media_type=None), "CONTACT"),
    Case(
        "numbers for ids, a zone, and unknown fields",
        recorded(
            201,
            json.dumps(
                {
                    "data": {
                        "id": 42,
                        "attributes": {
                            **ATTRIBUTES,
                            "advertiser_id": "1001",
                            "created_at": "2099-01-31T13:00:00+01:00",
                            "rating": 5,
                        },
                        "links": {},
                    }
                }
            ),
        ),
        "CONTACT",
    ),
    Case(
        "times without a zone",
        recorded(201, _document(created_at="2099-01-31 12:00:00")),
        "CONTACT",
    ),
    Case("no names", recorded(201, _document(name=..., given_name=...)), "CONTACT"),
    Case(
        "chunked",
        Recording(
            b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n"
            + f"{len(CREATED):x}\r\n{CREATED}\r\n0\r\n\r\n".encode()
        ),
        "CONTACT",
    ),
    Case(
        "to the end of the connection",
        Recording(
            f"HTTP/1.1 201 Created\r\nConnection: close\r\n\r\n{CREATED}".encode(), End.CLOSE
        ),
        "CONTACT",
    ),
)
REFUSALS = (
    Case(
        "401, an envelope",
        recorded(401, _envelope("UNAUTHORIZED")),
        "UNAUTHORIZED",
        "Said upstream.",
    ),
    Case("401, empty", recorded(401), "UNAUTHORIZED", "HiEnergy does not accept this API key."),
    Case("401, a sentence", recorded(401, '{"error": "Bad key"}'), "UNAUTHORIZED", "Bad key"),
    Case("401, a list", recorded(401, "[]"), "UNAUTHORIZED"),
    Case("401, cut JSON", recorded(401, '{"error": '), "UNAUTHORIZED"),
    Case("403, an envelope", recorded(403, _envelope("FORBIDDEN")), "FORBIDDEN", "Said upstream."),
    Case(
        "403, HTML",
        recorded(403, "<html><title>403</title>", media_type="text/html"),
        "FORBIDDEN",
        "Only an admin's API key may create contacts.",
    ),
    Case(
        "404, an envelope with details",
        recorded(404, _envelope("NOT_FOUND", slug="northwind")),
        "NOT_FOUND",
        "Said upstream.",
        details={"slug": "northwind"},
    ),
    Case(
        "404, another code",
        recorded(404, _envelope("advertiser_missing")),
        "NOT_FOUND",
        "Said upstream.",
    ),
    Case(
        "404, a sentence", recorded(404, '"No such advertiser"'), "NOT_FOUND", "No such advertiser"
    ),
    Case(
        "404, as JSON:API",
        recorded(404, '{"errors": [{"status": "404", "detail": "No such advertiser"}]}'),
        "NOT_FOUND",
        "No such advertiser",
    ),
    Case(
        "404, a code alone",
        recorded(404, '{"error": {"code": "not_found"}}'),
        "NOT_FOUND",
        "The advertiser does not resolve to a HiEnergy advertiser.",
    ),
    Case(
        "402, nothing",
        recorded(402),
        "FORBIDDEN",
        "HiEnergy refuses the request with status 402.",
    ),
    Case(
        "402, an envelope",
        recorded(402, _envelope("PAYMENT_REQUIRED")),
        "FORBIDDEN",
        "Said upstream.",
    ),
    Case(
        "451, problem details",
        recorded(451, '{"type": "about:blank", "title": "Not here", "detail": "Not in Atlantis"}'),
        "FORBIDDEN",
        "Not in Atlantis",
    ),
    Case(
        "409, with the existing contact",
        recorded(409, _envelope("CONFLICT", existing=RESOURCE)),
        "CONFLICT",
        "Said upstream.",
        existing=True,
    ),
    Case("409, nothing, and the lookup finds nothing", recorded(409), "CONFLICT"),
    Case(
        "409, details without a valid contact",
        recorded(409, _envelope("CONFLICT", existing={"id": "x"})),
        "CONFLICT",
    ),
    Case(
        "422, an envelope with problems",
        recorded(
            422,
            _envelope(
                "INVALID_INPUT",
                problems=[
                    {"path": "contact.email", "code": "INVALID_EMAIL", "message": "No."},
                    {"path": "contact.phone", "code": "UNHEARD_OF", "message": "No."},
                    7,
                ],
            ),
        ),
        "INVALID_INPUT",
        "Said upstream.",
        problems=frozenset({("contact.email", "INVALID_EMAIL"), ("contact.phone", "REFUSED")}),
    ),
    Case(
        "422, as Rails writes it",
        recorded(422, '{"errors": {"email": ["is disposable"], "phone": "is odd"}}'),
        "INVALID_INPUT",
        problems=frozenset({("contact.email", "REFUSED"), ("contact.phone", "REFUSED")}),
    ),
    Case(
        "422, as Rails writes sentences",
        recorded(422, '{"errors": ["Email is disposable", 7, "Phone is odd"]}'),
        "INVALID_INPUT",
        problems=frozenset({("contact", "REFUSED")}),
    ),
    Case(
        "422, a sentence",
        recorded(422, '{"message": "Email is disposable"}'),
        "INVALID_INPUT",
        "Email is disposable",
        problems=frozenset({("contact", "REFUSED")}),
    ),
    *(
        Case(
            f"{status}, nothing",
            recorded(status),
            "INVALID_INPUT",
            "The input has 1 problem.",
            problems=frozenset({("contact", "REFUSED")}),
        )
        for status in (400, 422)
    ),
    Case(
        "400, an envelope",
        recorded(400, _envelope("BAD_REQUEST")),
        "INVALID_INPUT",
        "Said upstream.",
        problems=frozenset({("contact", "REFUSED")}),
    ),
    Case(
        "422, as JSON:API",
        recorded(
            422,
            json.dumps(
                {
                    "errors": [
                        {
                            "source": {"pointer": "/data/attributes/linkedin_profile_url"},
                            "detail": "Linkedin profile url is invalid",
                        },
                        {"source": {"pointer": "/contact/email"}, "title": "Email is invalid"},
                    ]
                }
            ),
        ),
        "INVALID_INPUT",
        problems=frozenset(
            {("contact.linkedin_profile_url", "REFUSED"), ("contact.email", "REFUSED")}
        ),
    ),
    Case(
        "422, fields and messages",
        recorded(422, '{"errors": [{"field": "contact.email", "message": "is invalid"}]}'),
        "INVALID_INPUT",
        problems=frozenset({("contact.email", "REFUSED")}),
    ),
    Case(
        "422, a flat object",
        recorded(422, '{"email": ["is invalid"]}'),
        "INVALID_INPUT",
        problems=frozenset({("contact.email", "REFUSED")}),
    ),
    *(
        Case(
            f"{status}, which is not documented",
            recorded(status),
            "INVALID_INPUT",
            f"HiEnergy refuses the request with status {status}.",
            problems=frozenset({("contact", "REFUSED")}),
        )
        for status in (405, 406, 410, 413, 415)
    ),
    Case(
        "413, a sentence",
        recorded(413, '{"error": "Too much"}'),
        "INVALID_INPUT",
        "Too much",
        problems=frozenset({("contact", "REFUSED")}),
    ),
    Case(
        "422, the address is taken, as Rails writes it",
        recorded(422, '{"errors": {"email": ["has already been taken"]}}'),
        "CONFLICT",
        "The HiEnergy advertiser already has a contact with this e-mail address.",
    ),
    Case(
        "422, the address is taken, in a sentence",
        recorded(422, '{"error": "Validation failed: Email has already been taken"}'),
        "CONFLICT",
        "Validation failed: Email has already been taken",
    ),
    Case(
        "400, the address is taken, with the contact",
        recorded(400, _envelope("email_taken", existing=RESOURCE)),
        "CONFLICT",
        "Said upstream.",
        existing=True,
    ),
    Case(
        "422, the address is taken, and another problem",
        recorded(422, '{"errors": {"email": ["has already been taken"], "phone": ["is invalid"]}}'),
        "INVALID_INPUT",
        problems=frozenset({("contact.email", "REFUSED"), ("contact.phone", "REFUSED")}),
    ),
    Case(
        "429, with Retry-After",
        recorded(429, _envelope("RATE_LIMITED"), headers={"Retry-After": "17"}),
        "RATE_LIMITED",
        "Said upstream.",
        retry_after_seconds=17,
    ),
    Case(
        "429, with details only",
        recorded(429, _envelope("RATE_LIMITED", retry_after_seconds=18)),
        "RATE_LIMITED",
        retry_after_seconds=18,
    ),
    Case("429, with nothing", recorded(429), "RATE_LIMITED", retry_after_seconds=60),
    Case(
        "429, with an invalid Retry-After",
        recorded(429, headers={"Retry-After": "soon"}),
        "RATE_LIMITED",
        retry_after_seconds=60,
    ),
    Case(
        "a long message is cut, deep details are dropped",
        recorded(404, _envelope("NOT_FOUND", "x" * 5000, deep=json.loads("[" * 40 + "]" * 40))),
        "NOT_FOUND",
        "x" * 1000,
    ),
)
UNUSABLE = (
    Unusable("500, JSON", recorded(500, _envelope("INTERNAL_ERROR"))),
    Unusable("500, that says CONFLICT", recorded(500, _envelope("CONFLICT"))),
    Unusable("502, HTML", recorded(502, "<html>Bad Gateway</html>", media_type="text/html")),
    _created_nothing(
        "503 of HiEnergy itself, with Retry-After",
        recorded(503, _envelope("SERVICE_UNAVAILABLE"), headers={"Retry-After": "7"}),
        retry_after_seconds=7,
    ),
    Unusable(
        "503 of Heroku's router",
        recorded(503, "<title>Application Error</title>", media_type="text/html"),
    ),
    # Varnish sends it for a backend that did not answer in time.
    Unusable("503 of a proxy, with Retry-After", recorded(503, headers={"Retry-After": "5"})),
    Unusable("503 of a proxy, in JSON", recorded(503, '{"message": "Service Unavailable"}')),
    Unusable("503, JSON of another format", recorded(503, '{"error": "Service Unavailable"}')),
    Unusable("504, nothing", recorded(504)),
    Unusable("507, nothing", recorded(507)),
    _unnamed("204", recorded(204)),
    _unnamed("201, empty", recorded(201)),
    _unnamed("201, null", recorded(201, "null")),
    _unnamed("201, no object", recorded(201, '["data"]')),
    _unnamed("201, cut JSON", recorded(201, CREATED[:-20])),
    _unnamed("201, too deep", recorded(201, "[" * 100_000)),
    _unnamed("201, no data", recorded(201, '{"meta": {}}')),
    _unnamed("201, no id", recorded(201, json.dumps({"data": {"attributes": ATTRIBUTES}}))),
    _unnamed(
        "201, HTML",
        recorded(201, "<h1>Created</h1>", media_type="text/html"),
    ),
    _unnamed("201, not UTF-8", recorded(201, b'{"data": "\xff"}')),
    _unnamed("201, over the size limit", recorded(201, " " * 5_000_000 + CREATED)),
    *(
        _created_nothing(
            f"{status}, to elsewhere",
            recorded(status, headers={"Location": "/api/v1/elsewhere"}),
        )
        for status in (301, 302, 303, 307, 308)
    ),
    Unusable("408, nothing", recorded(408)),
    _created_nothing("404, nothing", recorded(404)),
    _created_nothing("404, an empty object", recorded(404, "{}")),
    _created_nothing("404, HTML", recorded(404, "<h1>Not found</h1>", media_type="text/html")),
    Unusable("closed without a response", Recording(b"", End.CLOSE)),
    Unusable("reset without a response", Recording(b"", End.RESET)),
    Unusable("half of the headers", Recording(b"HTTP/1.1 201 Cre", End.CLOSE)),
    _unnamed(
        "closed in mid-body",
        replace(recorded(201, CREATED), raw=recorded(201, CREATED).raw[:-20], end=End.CLOSE),
    ),
    _unnamed(
        "reset in mid-body",
        replace(recorded(201, CREATED), raw=recorded(201, CREATED).raw[:-20], end=End.RESET),
    ),
    _unnamed(
        "closed in mid-chunk",
        Recording(b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\nfff\r\n{", End.CLOSE),
    ),
    *(
        Unusable(
            f"the status {status}",
            Recording(f"HTTP/1.1 {status} X\r\n\r\n".encode(), End.CLOSE),
        )
        for status in ("000", "099", "101", "199", "600", "999")
    ),
    Unusable("what is no HTTP", Recording(b"SSH-2.0-OpenSSH_9.6\r\n\r\n", End.CLOSE)),
)
STALLED = (
    Unusable("no first byte", Recording(b"", End.STALL)),
    _unnamed(
        "no last byte",
        replace(recorded(201, CREATED), raw=recorded(201, CREATED).raw[:-20], end=End.STALL),
    ),
)


@pytest.fixture(params=list(FACES.values()), ids=list(FACES))
def face(request: pytest.FixtureRequest) -> Face:
    chosen: Face = request.param
    return chosen


def _in_front_of(
    answer: Recording, folder: Path
) -> AbstractAsyncContextManager[tuple[Gateway, RecordedUpstream]]:
    """Run a gateway in front of an upstream without contacts that gives this answer to a POST.

    The gateway sends a creation without a look at the lists.
    """
    return gateway_and_upstream(
        lambda request: answer if request.method == "POST" else EMPTY_PAGE,
        folder,
        upstream_refuses_duplicates="yes",
        upstream_honours_dry_run="yes",
    )


@pytest.mark.parametrize("case", [*CONTACTS, *REFUSALS], ids=lambda case: case.name)
async def test_a_response_with_a_business_outcome(tmp_path: Path, case: Case, face: Face) -> None:
    async with _in_front_of(case.answer, tmp_path) as (gateway, upstream):
        answer = await face.submit(gateway, MAYA, KEY)

    assert answer.outcome == case.outcome
    assert answer.problems == case.problems
    assert answer.retry_after_seconds == case.retry_after_seconds
    if case.message is not None:
        assert answer.message == case.message
    if case.outcome == "CONTACT" or case.existing:
        assert answer.contact == CONTACT
    else:
        assert answer.contact is None
    assert [request.method for request in upstream.requests].count("POST") == 1


@pytest.mark.parametrize("case", REFUSALS, ids=lambda case: case.name)
async def test_the_details_of_upstream_are_passed_on(tmp_path: Path, case: Case) -> None:
    async with _in_front_of(case.answer, tmp_path) as (gateway, _):
        response = await gateway.client.post(
            "/api/v1/contacts", json={"contact": MAYA}, headers=credentials(KEY)
        )

    described = {"problems", "existing", "retry_after_seconds"}
    details = response.json()["error"]["details"]
    expected = dict(case.details)
    if b'"request_id"' in case.answer.raw:
        expected["upstream_request_id"] = "upstream-1"
    assert {name: value for name, value in details.items() if name not in described} == expected


@pytest.mark.parametrize(
    ("answer", "logged"),
    [
        (recorded(404, _envelope("NOT_FOUND"), headers={"X-Request-Id": "other"}), "upstream-1"),
        (recorded(422, headers={"X-Request-Id": "from-a-header"}), "from-a-header"),
        (recorded(500, _envelope("INTERNAL_ERROR")), "upstream-1"),
        (recorded(502, headers={"X-Request-Id": "a-proxys"}), "a-proxys"),
        (recorded(422, headers={"X-Request-Id": "x" * 201}), None),
        (recorded(422, '{"error": {"request_id": "for maya"}}'), None),
        (recorded(422, '{"error": {"request_id": 7}}'), None),
        (recorded(503, headers={"X-Request-Id": "for-maya@example.com"}), None),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_the_request_id_of_upstream_is_logged_and_passed_on(
    tmp_path: Path, answer: Recording, logged: str | None, log: io.StringIO
) -> None:
    async with _in_front_of(answer, tmp_path) as (gateway, _):
        response = await gateway.client.post(
            "/api/v1/contacts", json={"contact": MAYA}, headers=credentials(KEY)
        )

    details = response.json()["error"]["details"]
    assert details.get("upstream_request_id") == logged
    first, request = (json.loads(line) for line in log.getvalue().splitlines())
    assert logged is None or logged in json.dumps(first)
    assert request["event"] == "request"
    assert "maya" not in log.getvalue()


@pytest.mark.parametrize("case", UNUSABLE, ids=lambda case: case.name)
async def test_any_other_answer_created_nothing_or_is_unknown(
    tmp_path: Path, case: Unusable, face: Face, log: io.StringIO
) -> None:
    async with _in_front_of(case.answer, tmp_path) as (gateway, upstream):
        answer = await face.submit(gateway, MAYA, KEY)

    _check_unusable(answer, case)
    _check_sent_once(upstream)
    _check_the_log(log.getvalue(), case)


@pytest.mark.parametrize("case", STALLED, ids=lambda case: case.name)
async def test_the_outcome_of_an_answer_that_does_not_end_is_unknown(
    tmp_path: Path, case: Unusable, face: Face, log: io.StringIO, stopped_clock: ManualClock
) -> None:
    async with _in_front_of(case.answer, tmp_path) as (gateway, upstream):
        submission = asyncio.create_task(face.submit(gateway, MAYA, KEY))
        await upstream.is_stalled.wait()
        await stopped_clock.advance_until_done(submission)

    _check_unusable(await submission, case)
    _check_sent_once(upstream)
    _check_the_log(log.getvalue(), case)


def _check_unusable(answer: Answer, case: Unusable) -> None:
    assert answer.outcome == case.outcome
    if case.outcome == "SERVICE_UNAVAILABLE":
        assert answer.status in {503, 200}
        assert _retry_after(answer) == case.retry_after_seconds
    else:
        assert answer.status in {504, 200}
        assert answer.retry_after_seconds == case.retry_after_seconds


def _retry_after(answer: Answer) -> int:
    """Return the seconds of the header or, in MCP, of the details."""
    return answer.retry_after_seconds or int(answer.headers["Retry-After"])


def _check_sent_once(upstream: RecordedUpstream) -> None:
    """A creation that may have arrived is not retried, and a redirect is not followed."""
    sent = [call for call in upstream.calls() if call.startswith("POST")]
    assert sent == ["POST /api/v1/contacts"]


def _check_the_log(text: str, case: Unusable) -> None:
    lines: list[Json] = [json.loads(line) for line in text.splitlines()]
    assert [line["event"] for line in lines] == [case.event, "request"]
    assert KEY not in text
    assert "maya@" not in text


async def test_a_refusal_is_logged_once_without_what_upstream_says(
    tmp_path: Path, face: Face, log: io.StringIO
) -> None:
    body = _envelope("X", f"{KEY} may not", email=["maya@example.com is not deliverable"])
    async with _in_front_of(recorded(422, body), tmp_path) as (gateway, _):
        answer = await face.submit(gateway, MAYA, KEY)

    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert answer.outcome == "INVALID_INPUT"
    assert [line["event"] for line in lines] == ["upstream refused a request", "request"]
    assert lines[0]["upstream_status"] == 422
    assert KEY not in log.getvalue()
    assert "maya" not in log.getvalue()


async def test_a_creation_is_sent_as_the_reference_describes(tmp_path: Path, face: Face) -> None:
    submitted = {**MAYA, "advertiser_id": "2001", "given_name": " Maya ", "phone": ""}
    async with _in_front_of(recorded(201, CREATED), tmp_path) as (gateway, upstream):
        await face.submit(gateway, submitted, KEY)

    (request,) = upstream.requests
    assert f"{request.method} {request.target}" == "POST /api/v1/contacts"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["accept"] == "application/json"
    assert request.headers["x-api-key"] == KEY
    assert json.loads(request.body) == {
        "contact": {
            "advertiser_id": 2001,
            "email": "maya@example.com",
            "name": "Maya",
            "given_name": "Maya",
        }
    }


async def test_a_dry_run_is_passed_on(tmp_path: Path, face: Face) -> None:
    preview = json.dumps({"data": {"id": None, "type": "contact", "attributes": ATTRIBUTES}})
    async with _in_front_of(recorded(200, preview), tmp_path) as (gateway, upstream):
        answer = await face.submit(gateway, MAYA, KEY, dry_run=True)

    assert answer.outcome == "PREVIEW"
    assert upstream.calls() == ["POST /api/v1/contacts?dry_run=true"]


async def test_a_dry_run_that_created_a_contact_is_that_contact_and_the_last_one(
    tmp_path: Path, face: Face, log: io.StringIO
) -> None:
    async with _in_front_of(recorded(201, CREATED), tmp_path) as (gateway, upstream):
        first = await FACES["REST"].submit(gateway, MAYA, KEY, dry_run=False)
        upstream.requests.clear()
        created = await _dry_run(gateway, face)
        await _dry_run(gateway, face)

    assert first.outcome == created == "CONTACT"
    sent = [call for call in upstream.calls() if call.startswith("POST")]
    assert sent == ["POST /api/v1/contacts?dry_run=true"]
    assert "HiEnergy ignores dry_run" in log.getvalue()


async def _dry_run(gateway: Gateway, face: Face) -> str:
    """Return the outcome of a dry run. A contact is also one where a preview is expected."""
    answer = await face.submit(gateway, MAYA, KEY, dry_run=True)
    is_contact = answer.contact is not None and answer.contact["id"] is not None
    return "CONTACT" if is_contact else answer.outcome


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"X-RateLimit-Reset": f"{NOON + 120}"}, 120),
        ({"X-RateLimit-Reset": f"{NOON + 120}000"}, 120),
        ({"X-RateLimit-Reset": "120"}, 120),
        ({"X-RateLimit-Reset": "0"}, 60),
        ({"X-RateLimit-Reset": f"{NOON - 120}"}, 60),
        ({"X-RateLimit-Reset": "soon"}, 60),
        ({"X-RateLimit-Reset": f"{NOON + 90_000}"}, 86_400),
        ({"X-RateLimit-Reset": "86401"}, 86_400),
        ({"Retry-After": "999999999"}, 86_400),
        ({"Retry-After": "9999 Jan 12:00:00 - +99999999999"}, 60),
    ],
)
async def test_when_to_retry_is_read_in_any_unit_and_within_a_day(
    tmp_path: Path,
    face: Face,
    headers: Mapping[str, str],
    seconds: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(time, "time", lambda: float(NOON))
    async with _in_front_of(recorded(429, headers=headers), tmp_path) as (gateway, _):
        answer = await face.submit(gateway, MAYA, KEY)

    assert (answer.outcome, answer.retry_after_seconds) == ("RATE_LIMITED", seconds)


@pytest.mark.parametrize("reset", [str(NOON + 120), f"{NOON + 120}000", "120"])
async def test_the_quota_is_passed_on_with_its_reset_since_the_epoch(
    tmp_path: Path, reset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: float(NOON))
    headers = {
        "X-RateLimit-Limit": "1000",
        "X-RateLimit-Remaining": "7",
        "X-RateLimit-Reset": reset,
    }
    async with _in_front_of(recorded(201, CREATED, headers=headers), tmp_path) as (gateway, _):
        response = await gateway.client.post(
            "/api/v1/contacts", json={"contact": MAYA}, headers=credentials(KEY)
        )

    quota = {name: response.headers[name] for name in headers}
    assert quota == headers | {"X-RateLimit-Reset": str(NOON + 120)}
    assert response.headers["RateLimit-Policy"] == '"default";q=1000'
    assert response.headers["RateLimit"] == '"default";r=7;t=120'


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (recorded(201, _document(email=...)), "CONTACT"),
        (recorded(201, _document(created_at=..., updated_at=...)), "CONTACT"),
        (recorded(201, _document(created_at="now")), "CONTACT"),
        (recorded(201, _document(created_at="0001-01-01T00:00:00+14:00")), "CONTACT"),
        (recorded(409, '{"error": {"details": {"x": NaN, "y": "\\ud800"}}}'), "CONFLICT"),
        (recorded(201, json.dumps({"data": {"id": "42", **ATTRIBUTES}})), "CONTACT"),
        (recorded(201, CREATED, headers={"Date": "Fri, 31 Dec 9999 23:59:59 GMT"}), "CONTACT"),
    ],
    ids=[
        "no e-mail",
        "no times",
        "an invalid time",
        "a time out of range in UTC",
        "details that are not strict JSON",
        "a flat resource",
        "a date at the end of time",
    ],
)
async def test_an_odd_answer_causes_no_fault(
    tmp_path: Path, face: Face, answer: Recording, outcome: str
) -> None:
    async with _in_front_of(answer, tmp_path) as (gateway, _):
        submitted = await face.submit(gateway, MAYA, KEY)

    assert submitted.outcome == outcome


async def test_a_long_credential_is_refused_in_linear_time(tmp_path: Path) -> None:
    """In quadratic time, 60 kB took half a minute; 2 MB would take hours."""
    async with _in_front_of(recorded(201, CREATED), tmp_path) as (gateway, upstream):
        for key in (b"a" * 2_000_000 + b"\xe9", b"a" + b" " * 2_000_000 + b"\xe9"):
            response = await gateway.client.post(
                "/api/v1/contacts", json={"contact": MAYA}, headers=[(b"X-Api-Key", key)]
            )
            assert response.status_code == 401

    assert upstream.requests == []


async def test_without_a_credential_upstream_is_not_called(tmp_path: Path, face: Face) -> None:
    async with _in_front_of(recorded(201, CREATED), tmp_path) as (gateway, upstream):
        answer = await face.submit(gateway, MAYA, None)

    assert answer.outcome == "UNAUTHORIZED"
    assert upstream.requests == []


async def test_invalid_input_does_not_reach_upstream(tmp_path: Path, face: Face) -> None:
    async with _in_front_of(recorded(201, CREATED), tmp_path) as (gateway, upstream):
        answer = await face.submit(gateway, {**MAYA, "email": "no address"}, KEY)

    assert answer.outcome == "INVALID_INPUT"
    assert upstream.requests == []


@pytest.mark.parametrize(
    ("sent", "passed_on"),
    [
        ({"X-Api-Key": "a key: with 'signs'"}, {"x-api-key": "a key: with 'signs'"}),
        ({"Authorization": "bearer  a.b.c"}, {"x-api-key": "a.b.c"}),
        ({"Authorization": f"bearer  {TOKEN}"}, {"authorization": f"Bearer {TOKEN}"}),
        ({"X-Api-Key": TOKEN}, {"authorization": f"Bearer {TOKEN}"}),
        ({"X-Api-Key": "one", "Authorization": f"Bearer {TOKEN}"}, {"x-api-key": "one"}),
    ],
    ids=["a key", "a key as Bearer", "a token", "a token as X-Api-Key", "both"],
)
async def test_the_credential_is_passed_on(
    tmp_path: Path, sent: Mapping[str, str], passed_on: Mapping[str, str]
) -> None:
    async with _in_front_of(recorded(201, CREATED), tmp_path) as (gateway, upstream):
        await gateway.client.post("/api/v1/contacts", json={"contact": MAYA}, headers=sent)

    (request,) = upstream.requests
    named = {"x-api-key", "authorization", "cookie"}
    assert {name: request.headers[name] for name in named & request.headers.keys()} == passed_on


async def test_a_credential_that_a_header_cannot_carry_is_refused(tmp_path: Path) -> None:
    async with _in_front_of(recorded(201, CREATED), tmp_path) as (gateway, upstream):
        response = await gateway.client.post(
            "/api/v1/contacts", json={"contact": MAYA}, headers=[(b"X-Api-Key", b"caf\xe9")]
        )

    assert response.status_code == 401
    assert upstream.requests == []


async def test_the_contact_of_a_conflict_is_looked_up(tmp_path: Path, face: Face) -> None:
    others = [{**RESOURCE, "id": "7", "attributes": {**ATTRIBUTES, "email": "other@example.com"}}]
    page = recorded(200, json.dumps({"data": [*others, RESOURCE]}))

    def answering(request: Request) -> Recording:
        return recorded(409) if request.method == "POST" else page

    async with gateway_and_upstream(answering, tmp_path, upstream_refuses_duplicates="yes") as (
        gateway,
        upstream,
    ):
        answer = await face.submit(gateway, {**MAYA, "email": "MAYA@example.com"}, KEY)

    assert answer.outcome == "CONFLICT"
    assert answer.contact == CONTACT
    first, *lookups = upstream.calls()
    assert first == "POST /api/v1/contacts"
    assert sorted(lookups) == [
        "GET /api/v1/advertisers/2001/contacts?email=MAYA@example.com&page=1&per_page=100",
        "GET /api/v1/contacts?email=MAYA@example.com&advertiser_id=2001&page=1&per_page=100",
        "GET /api/v1/contacts?email=MAYA@example.com&page=1&per_page=100",
    ]


@pytest.mark.usefixtures("stopped_clock")
async def test_while_upstream_is_down_it_is_not_called(tmp_path: Path, face: Face) -> None:
    async with _in_front_of(Recording(b"", End.CLOSE), tmp_path) as (gateway, upstream):
        answers = [await face.submit(gateway, MAYA, KEY) for _ in range(FAILURE_THRESHOLD + 20)]

    outcomes = [answer.outcome for answer in answers]
    assert outcomes[:FAILURE_THRESHOLD] == ["OUTCOME_UNKNOWN"] * FAILURE_THRESHOLD
    assert set(outcomes[FAILURE_THRESHOLD:]) == {"SERVICE_UNAVAILABLE"}
    assert len(upstream.requests) == FAILURE_THRESHOLD
    assert _retry_after(answers[-1]) >= 1


@pytest.mark.usefixtures("stopped_clock")
@pytest.mark.parametrize(
    ("answer", "status"),
    [(recorded(200, "{}"), 200), (recorded(401), 200), (Recording(b"", End.CLOSE), 503)],
    ids=["the schema", "a refusal", "nothing"],
)
async def test_readiness_depends_on_upstream(
    tmp_path: Path, answer: Recording, status: int
) -> None:
    async with gateway_and_upstream(lambda _: answer, tmp_path) as (gateway, _):
        ready = await gateway.client.get("/readyz")
        alive = await gateway.client.get("/healthz")

    assert (ready.status_code, alive.status_code) == (status, 200)
