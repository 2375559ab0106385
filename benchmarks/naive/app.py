"""A peer: `createContact` written as the tutorials of its libraries show it.

It is Strawberry's ASGI application, SQLAlchemy's asynchronous ORM and Starlette over a database
file that contact-gateway made:

    DATABASE=FILE uvicorn benchmarks.naive.app:app

GraphQL and REST apply the same rules in the same order as contact-gateway, with only its parser of
API keys. They leave out the rate limit (rule 3) and what no benchmark requests: other reads; in
GraphQL, the header `Idempotency-Key` and statuses other than 200; size limits; a 503 when the
database is busy.

Each root field and each REST request has its own session: Strawberry resolves the root fields of a
query concurrently, and a session of SQLAlchemy is not safe for concurrent use.
"""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from uuid import uuid4

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL

from benchmarks.naive import rules, tables
from benchmarks.naive.graphql import Context, schema
from benchmarks.naive.rules import ErrorCode, RefusedError, Submission

_STATUSES = dict(zip(ErrorCode, (401, 403, 429, 422, 422, 404, 409), strict=True))


class _GraphQLApp(GraphQL[Context, None]):
    async def get_context(
        self, request: Request | WebSocket, response: Response | WebSocket
    ) -> Context:
        context = Context(_api_key(request), _request_id(request))
        if isinstance(response, Response):
            response.headers["X-Request-Id"] = context.request_id
        return context


async def _create_contact(request: Request) -> Response:
    async with tables.sessions() as session:
        key_id = await rules.authenticate_admin(session, _api_key(request))
        if not request.headers.get("Content-Type", "").startswith("application/json"):
            raise HTTPException(415, "Send the body as application/json.")
        try:
            body = await request.json()
        except ValueError:
            raise HTTPException(400, "The body is not JSON.") from None
        raw = body.get("contact") if isinstance(body, dict) else None
        submission = Submission(
            key_id,
            raw,
            request.headers.get("Idempotency-Key"),
            request.query_params.get("dry_run", "false"),
            "rest",
            _request_id(request),
        )
        outcome = await rules.create_contact(session, submission)
    resource = _resource(outcome.contact, is_preview=outcome.is_preview)
    ignored = [name for name in raw or () if name not in rules.FIELDS]
    meta: dict[str, object] = {"ignored_fields": ignored} if ignored else {}
    headers = {"X-Request-Id": submission.request_id}
    if outcome.is_preview:
        return JSONResponse({"data": resource, "meta": {"dry_run": True, **meta}}, 200, headers)
    headers["Location"] = f"/api/v1/contacts/{outcome.contact.id}"
    if outcome.is_replayed:
        headers["Idempotent-Replayed"] = "true"
    return JSONResponse({"data": resource, "meta": meta}, 201, headers)


def _resource(row: tables.Contact, *, is_preview: bool = False) -> dict[str, object]:
    return {
        "id": None if is_preview else str(row.id),
        "type": "contact",
        "attributes": {
            **{name: getattr(row, name) for name in rules.FIELDS},
            "advertiser_name": row.advertiser.title,
            "created_at": None if is_preview else _timestamp(row.created_at),
            "updated_at": None if is_preview else _timestamp(row.updated_at),
        },
    }


def _refusal(request: Request, error: Exception) -> Response:
    if not isinstance(error, RefusedError):
        raise TypeError(error)
    details: dict[str, object] = {}
    if error.code is ErrorCode.INVALID_INPUT:
        details["problems"] = [
            {"path": problem.path, "code": problem.code.name, "message": problem.message}
            for problem in error.problems
        ]
    if error.existing is not None:
        details["existing"] = _resource(error.existing)
    headers = {"WWW-Authenticate": "Bearer"} if error.code is ErrorCode.UNAUTHORIZED else {}
    status = _STATUSES[error.code]
    return _envelope(request, status, error.code.name, error.message, details, headers)


def _http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        return _envelope(request, 500, "INTERNAL_ERROR", "Something went wrong here.")
    code, headers = HTTPStatus(error.status_code).name, error.headers
    return _envelope(request, error.status_code, code, error.detail, {}, headers)


def _envelope(  # noqa: PLR0913, PLR0917 - the parts of an error
    request: Request,
    status: int,
    code: str,
    message: str,
    details: Mapping[str, object] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    request_id = _request_id(request)
    error = {
        "code": code,
        "message": message,
        "timestamp": _timestamp(datetime.now(UTC)),
        "request_id": request_id,
        "details": details or {},
    }
    return JSONResponse({"error": error}, status, {"X-Request-Id": request_id, **(headers or {})})


def _api_key(request: HTTPConnection) -> str | None:
    scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
    return request.headers.get("X-Api-Key") or (bearer if scheme.lower() == "bearer" else None)


def _request_id(request: HTTPConnection) -> str:
    sent = request.headers.get("X-Request-Id", "")
    return sent if re.fullmatch("[A-Za-z0-9._-]{1,128}", sent) else str(uuid4())


def _timestamp(time: datetime) -> str:
    return time.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


@asynccontextmanager
async def _lifespan(_: Starlette) -> AsyncIterator[None]:
    yield
    await tables.engine.dispose()


app = Starlette(
    routes=[
        Route("/graphql", _GraphQLApp(schema)),
        Route("/api/v1/contacts", _create_contact, methods=["POST"]),
    ],
    exception_handlers={
        RefusedError: _refusal,
        HTTPException: _http_error,
        Exception: _http_error,
    },
    lifespan=_lifespan,
)
