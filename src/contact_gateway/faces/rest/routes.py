"""The REST face: each route reads its request, calls the domain and renders the answer."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from contact_gateway.contacts import reads
from contact_gateway.contacts.contact import unknown_fields
from contact_gateway.contacts.create_contact import create_contact
from contact_gateway.contacts.origin import Face, Origin
from contact_gateway.contacts.outcomes import (
    NotFound,
    ReadRefusal,
    outcome_name,
)
from contact_gateway.contacts.source import Page
from contact_gateway.contacts.submission import Submission
from contact_gateway.faces.http import JsonResponse, error_response, method_not_allowed
from contact_gateway.faces.json_body import BodyLimits, read_json
from contact_gateway.faces.request_context import RequestContext, request_context_of
from contact_gateway.faces.rest.documents import (
    Document,
    advertiser_resource,
    contact_resource,
    outcome_document,
    page_document,
    refusal_document,
)
from contact_gateway.faces.rest.openapi import openapi_document

T = TypeVar("T")
_Handler = Callable[[Request, RequestContext], Awaitable[Document]]


class Resource:
    """What stands at one path: a handler for each method, and 405 with `Allow` for the others."""

    def __init__(self, face: Face | None = Face.REST, **handlers: _Handler) -> None:
        self._face: Final = face
        self._handlers: Final = {method.upper(): handler for method, handler in handlers.items()}
        if "GET" in self._handlers:
            self._handlers["HEAD"] = self._handlers["GET"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        context = request_context_of(scope)
        context.face = self._face
        response = await self._answer(Request(scope, receive), context)
        await response(scope, receive, send)

    async def _answer(self, request: Request, context: RequestContext) -> Response:
        handler = self._handlers.get(request.method)
        if handler is None:
            allow = ", ".join(sorted(self._handlers))
            return error_response(method_not_allowed(allow), context)
        context.operation = handler.__name__
        context.outcome = "OK"
        document = await handler(request, context)
        return JsonResponse(document.body, document.status, dict(document.headers))


class RestFace:
    """The operations over one source of truth."""

    def __init__(self, body_limits: BodyLimits) -> None:
        self._body_limits: Final = body_limits

    def routes(self) -> list[Route]:
        """Return the routes of the face, from the root of the server."""
        creation = Resource(post=self.create_contact)
        return [
            Route("/api/v1/contacts", Resource(get=self.contacts, post=self.create_contact)),
            Route("/api/v1/contacts/add", creation),
            Route("/api/v1/contacts/{id}", Resource(get=self.contact)),
            Route("/api/v1/advertisers", Resource(get=self.advertisers)),
            Route("/api/v1/advertisers/{id}", Resource(get=self.advertiser)),
            Route("/api/v1/advertisers/{id}/contacts", Resource(get=self.advertiser_contacts)),
            Route("/api/v1/schema", Resource(get=self.schema)),
        ]

    async def create_contact(self, request: Request, context: RequestContext) -> Document:
        """Create a contact (`POST /contacts`)."""
        ignored: tuple[str, ...] = ()

        async def read() -> Submission:
            nonlocal ignored
            body = await read_json(request, context.headers, self._body_limits)
            members = body if isinstance(body, dict) else {}
            contact = members.get("contact")
            ignored = (
                *(name for name in members if name != "contact"),
                *(f"contact.{name}" for name in unknown_fields(contact)),
            )
            return Submission(
                contact=contact,
                idempotency_key=context.headers.get("idempotency-key"),
                dry_run=_dry_run(request),
                origin=Origin(Face.REST, context.request_id),
            )

        outcome = await create_contact(context.caller, read)
        context.outcome = outcome_name(outcome)
        return outcome_document(outcome, context.request_id, ignored)

    async def contact(self, request: Request, context: RequestContext) -> Document:
        """Read one contact."""
        contact_id = request.path_params["id"]
        found = await reads.contact(context.caller, contact_id)
        return _record(found, contact_resource, "contact", context)

    async def contacts(self, request: Request, context: RequestContext) -> Document:
        """Read a page of contacts."""
        raw = _query(request)
        return _page(await reads.contacts(context.caller, raw), contact_resource, context)

    async def advertisers(self, request: Request, context: RequestContext) -> Document:
        """Read a page of advertisers."""
        raw = _query(request)
        return _page(
            await reads.advertisers(context.caller, raw),
            advertiser_resource,
            context,
        )

    async def advertiser(self, request: Request, context: RequestContext) -> Document:
        """Read one advertiser."""
        advertiser_id = request.path_params["id"]
        found = await reads.advertiser(context.caller, advertiser_id)
        return _record(found, advertiser_resource, "advertiser", context)

    async def advertiser_contacts(self, request: Request, context: RequestContext) -> Document:
        """Read a page of a brand's contacts."""
        found = await reads.contacts_of_advertiser(
            context.caller, request.path_params["id"], _query(request)
        )
        if found is None:
            return _refusal(NotFound("There is no such advertiser."), context)
        return _page(found, contact_resource, context)

    async def schema(self, _request: Request, _context: RequestContext) -> Document:
        """Read the OpenAPI document of this face."""
        return Document(200, openapi_document())


def _dry_run(request: Request) -> str | bool:
    if not request.scope["query_string"]:
        return False
    return ",".join(request.query_params.getlist("dry_run") or ("false",))


def _query(request: Request) -> Mapping[str, object]:
    return dict(request.query_params)


def _record(
    found: T | ReadRefusal | None,
    resource: Callable[[T], dict[str, object]],
    noun: str,
    context: RequestContext,
) -> Document:
    if isinstance(found, ReadRefusal):
        return _refusal(found, context)
    if found is None:
        return _refusal(NotFound(f"There is no such {noun}."), context)
    return Document(200, {"data": resource(found)})


def _page(
    found: Page[T] | ReadRefusal,
    resource: Callable[[T], dict[str, object]],
    context: RequestContext,
) -> Document:
    if isinstance(found, Page):
        return page_document(found, resource)
    return _refusal(found, context)


def _refusal(refusal: ReadRefusal | NotFound, context: RequestContext) -> Document:
    context.outcome = refusal.code
    return refusal_document(refusal, context.request_id)
