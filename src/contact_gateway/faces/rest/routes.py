"""The REST routes: each passes its request to the domain and converts the outcome."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from contact_gateway.contacts import reads
from contact_gateway.contacts.admission import Submission
from contact_gateway.contacts.contact import unknown_fields
from contact_gateway.contacts.create_contact import create_contact
from contact_gateway.contacts.origin import Face, Origin
from contact_gateway.contacts.outcomes import NotFound, ReadRefusal, outcome_name
from contact_gateway.contacts.source import KnownFilters, Page
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
_Handler = Callable[[Request, RequestContext], Awaitable[Document | Response]]

_UNKNOWN_CONTACT: Final = NotFound("Unknown contact. Check the id.")
_UNKNOWN_ADVERTISER: Final = NotFound("Unknown advertiser. Check the id or the slug.")


class Resource:
    """The ASGI application at one path: a handler per method, and 405 for other methods."""

    def __init__(self, face: Face | None = Face.REST, **handlers: _Handler) -> None:
        self._face: Final = face
        self._handlers: Final = {method.upper(): handler for method, handler in handlers.items()}
        if "GET" in self._handlers:
            self._handlers["HEAD"] = self._handlers["GET"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        context = request_context_of(scope)
        context.face = self._face
        handler = self._handlers.get(scope["method"])
        response: Response
        if handler is None:
            allow = ", ".join(sorted(self._handlers))
            response = error_response(method_not_allowed(allow), context)
        else:
            context.operation = handler.__name__
            context.outcome = "OK"
            answer = await handler(Request(scope, receive), context)
            response = (
                JsonResponse(answer.body, answer.status, dict(answer.headers))
                if isinstance(answer, Document)
                else answer
            )
        await response(scope, receive, send)


class RestFace:
    """The REST operations."""

    def __init__(self, body_limits: BodyLimits, filters: KnownFilters) -> None:
        self._body_limits: Final = body_limits
        self._filters: Final = filters

    def routes(self) -> list[Route]:
        """Return the routes, with paths from the root of the server."""
        return [
            Route("/api/v1/contacts", Resource(get=self.contacts, post=self.create_contact)),
            # HiEnergy's other path for the same operation.
            Route("/api/v1/contacts/add", Resource(post=self.create_contact)),
            Route("/api/v1/contacts/{id}", Resource(get=self.contact)),
            Route("/api/v1/advertisers", Resource(get=self.advertisers)),
            Route("/api/v1/advertisers/search_by_domain", Resource(get=self.search_by_domain)),
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
                raw=contact,
                idempotency_key=context.headers.get("idempotency-key"),
                parameters=_query(request) if request.scope["query_string"] else {},
                ignored_fields=ignored,
                origin=Origin(Face.REST, context.request_id),
            )

        outcome = await create_contact(context.caller, read)
        context.outcome = outcome_name(outcome)
        return outcome_document(outcome, context.request_id, ignored, context.root_path)

    async def contact(self, request: Request, context: RequestContext) -> Document:
        """Return one contact."""
        found = await reads.contact(context.caller, request.path_params["id"])
        return _record(found or _UNKNOWN_CONTACT, contact_resource, context)

    async def contacts(self, request: Request, context: RequestContext) -> Document:
        """Return a page of contacts."""
        found = await reads.contacts(context.caller, _query(request))
        return _page(found, contact_resource, context)

    async def advertisers(self, request: Request, context: RequestContext) -> Document:
        """Return a page of advertisers."""
        found = await reads.advertisers(context.caller, _query(request))
        return _page(found, advertiser_resource, context)

    async def search_by_domain(self, request: Request, context: RequestContext) -> Document:
        """Return a page of the advertisers with a domain."""
        found = await reads.advertisers_by_domain(context.caller, _query(request))
        return _page(found, advertiser_resource, context)

    async def advertiser(self, request: Request, context: RequestContext) -> Document:
        """Return one advertiser."""
        found = await reads.advertiser(context.caller, request.path_params["id"])
        return _record(found or _UNKNOWN_ADVERTISER, advertiser_resource, context)

    async def advertiser_contacts(self, request: Request, context: RequestContext) -> Document:
        """Return a page of a brand's contacts."""
        found = await reads.contacts_of_advertiser(
            context.caller, request.path_params["id"], _query(request)
        )
        return _page(found or _UNKNOWN_ADVERTISER, contact_resource, context)

    async def schema(self, _request: Request, context: RequestContext) -> Document:
        """Return the OpenAPI document."""
        servers = [{"url": f"{context.root_path}/api/v1"}]
        return Document(200, openapi_document(self._filters) | {"servers": servers})


def _query(request: Request) -> dict[str, object]:
    """Return the query parameters. One that is given more than once has a list of its values."""
    values: dict[str, list[str]] = {}
    for name, value in request.query_params.multi_items():
        values.setdefault(name, []).append(value)
    return {name: each[0] if len(each) == 1 else each for name, each in values.items()}


def _record(
    found: T | ReadRefusal | NotFound,
    resource: Callable[[T], dict[str, object]],
    context: RequestContext,
) -> Document:
    if isinstance(found, ReadRefusal | NotFound):
        return _refusal(found, context)
    return Document(200, {"data": resource(found)})


def _page(
    found: Page[T] | ReadRefusal | NotFound,
    resource: Callable[[T], dict[str, object]],
    context: RequestContext,
) -> Document:
    if isinstance(found, Page):
        return page_document(found, resource)
    return _refusal(found, context)


def _refusal(refusal: ReadRefusal | NotFound, context: RequestContext) -> Document:
    context.outcome = refusal.code
    return refusal_document(refusal, context.request_id)
