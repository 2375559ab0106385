"""The REST routes: each passes its request to the domain and converts the outcome."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from starlette.requests import Request
from starlette.routing import Route

from contact_gateway.access.client_address import TrustedProxies
from contact_gateway.contacts import reads
from contact_gateway.contacts.admission import Submission
from contact_gateway.contacts.batch import Batch, entries_of
from contact_gateway.contacts.contact import unknown_fields
from contact_gateway.contacts.create_contact import create_contact
from contact_gateway.contacts.create_contacts import create_contacts
from contact_gateway.contacts.origin import Face, Origin
from contact_gateway.contacts.outcomes import NotFound, ReadRefusal
from contact_gateway.contacts.problems import Problem
from contact_gateway.contacts.source import KnownFilters
from contact_gateway.faces.http import (
    Endpoint,
    Response,
    TransportCode,
    TransportError,
    json_response,
    method_not_allowed,
    no_such_route,
)
from contact_gateway.faces.json_body import BodyLimits, read_json
from contact_gateway.faces.request_context import RequestContext, origin_of
from contact_gateway.faces.rest.documents import (
    Document,
    Echo,
    advertiser_resource,
    batch_document,
    contact_resource,
    outcome_document,
    page_document,
    read_refusal_document,
    record_document,
    refusal_document,
)
from contact_gateway.faces.rest.openapi import openapi_document
from contact_gateway.http_statuses import CODES

_Handler = Callable[[Request, RequestContext], Awaitable[Document | Response]]

_UNKNOWN_CONTACT: Final = NotFound("Unknown contact. Check the id.")
_UNKNOWN_ADVERTISER: Final = NotFound("Unknown advertiser. Check the id or the slug.")


class Resource(Endpoint):
    """The endpoint at one path: a handler for each method, by its name in lower case.

    `refusal` returns the error for other methods, given those that are supported.
    """

    def __init__(
        self,
        face: Face | None = Face.REST,
        refusal: Callable[[str], TransportError] = method_not_allowed,
        **handlers: _Handler,
    ) -> None:
        self._face: Final = face
        self._refusal: Final = refusal
        self._handlers: Final = {method.upper(): handler for method, handler in handlers.items()}
        self.methods: Final = tuple(self._handlers)
        if "GET" in self._handlers:
            self._handlers["HEAD"] = self._handlers["GET"]

    async def respond(self, request: Request, context: RequestContext) -> Response:
        """Return the response of the method's handler."""
        context.face = self._face
        handler = self._handlers.get(context.method)
        if handler is None:
            raise self._refusal(", ".join(sorted(self._handlers)))
        context.operation = handler.__name__
        context.outcome = "OK"
        answer = await handler(request, context)
        if isinstance(answer, Document):
            context.outcome = answer.outcome
            return json_response(answer.body, answer.status, answer.headers)
        return answer


@dataclass(eq=False)
class RestFace:
    """The REST operations. `passes_through`: whether the source answers reads of other paths."""

    body_limits: BodyLimits
    filters: KnownFilters
    trusted_proxies: TrustedProxies
    passes_through: bool

    def routes(self) -> list[Route]:
        """Return the routes, with paths from the root of the server."""
        resources = {
            "contacts": Resource(get=self.contacts, post=self.create_contact),
            # HiEnergy's other path for the same operation.
            "contacts/add": Resource(post=self.create_contact),
            "contacts/batch": Resource(post=self.create_contacts),
            "contacts/{id}": Resource(get=self.contact),
            "advertisers": Resource(get=self.advertisers),
            "advertisers/search_by_domain": Resource(get=self.search_by_domain),
            "advertisers/{id}": Resource(get=self.advertiser),
            "advertisers/{id}/contacts": Resource(get=self.advertiser_contacts),
            "schema": Resource(get=self.schema),
        }
        self._operations = [
            (method, f"/api/v1/{path}")
            for path, resource in resources.items()
            for method in resource.methods
        ]
        resources["{path:path}"] = Resource(
            Face.REST,
            lambda _: no_such_route(self._operations),
            **({"get": self.pass_through} if self.passes_through else {}),
        )
        return [Route(f"/api/v1/{path}", resource) for path, resource in resources.items()]

    async def create_contact(self, request: Request, context: RequestContext) -> Document:
        """Create a contact (`POST /contacts`)."""
        ignored: tuple[str, ...] = ()

        async def read() -> Submission:
            nonlocal ignored
            body = await read_json(request, context.headers, self.body_limits)
            members = body if isinstance(body, dict) else {}
            contact = members.get("contact")
            ignored = (
                *(name for name in members if name != "contact"),
                *(f"contact.{name}" for name in unknown_fields(contact)),
            )
            return _submission(request, context, contact, ignored)

        outcome = await create_contact(context.caller, read)
        return outcome_document(outcome, Echo(context.request_id, ignored, context.root_path))

    async def create_contacts(self, request: Request, context: RequestContext) -> Document:
        """Create many contacts (`POST /contacts/batch`)."""
        ignored: Sequence[tuple[str, ...]] = ()
        ignored_members: tuple[str, ...] = ()

        async def read() -> Batch:
            nonlocal ignored, ignored_members
            body = await read_json(request, context.headers, self.body_limits)
            members = body if isinstance(body, dict) else {}
            entries = entries_of(members.get("contacts"))
            ignored = [] if isinstance(entries, Problem) else [e.ignored_fields for e in entries]
            ignored_members = tuple(name for name in members if name != "contacts")
            return Batch(entries, _submission(request, context, None, ignored_members))

        outcome = await create_contacts(context.caller, read, context.max_batch_size)
        if isinstance(outcome, ReadRefusal):
            return refusal_document(outcome, context.request_id)
        return batch_document(outcome, ignored, context.request_id, ignored_members)

    async def contact(self, request: Request, context: RequestContext) -> Document:
        """Return one contact."""
        found = await reads.contact(context.caller, request.path_params["id"], _query(request))
        return record_document(found or _UNKNOWN_CONTACT, contact_resource, context.request_id)

    async def contacts(self, request: Request, context: RequestContext) -> Document:
        """Return a page of contacts."""
        found = await reads.contacts(context.caller, _query(request))
        return page_document(found, contact_resource, context.request_id)

    async def advertisers(self, request: Request, context: RequestContext) -> Document:
        """Return a page of advertisers."""
        found = await reads.advertisers(context.caller, _query(request))
        return page_document(found, advertiser_resource, context.request_id)

    async def search_by_domain(self, request: Request, context: RequestContext) -> Document:
        """Return a page of the advertisers with a domain."""
        found = await reads.advertisers_by_domain(context.caller, _query(request))
        return page_document(found, advertiser_resource, context.request_id)

    async def advertiser(self, request: Request, context: RequestContext) -> Document:
        """Return one advertiser."""
        found = await reads.advertiser(context.caller, request.path_params["id"], _query(request))
        return record_document(
            found or _UNKNOWN_ADVERTISER, advertiser_resource, context.request_id
        )

    async def advertiser_contacts(self, request: Request, context: RequestContext) -> Document:
        """Return a page of a brand's contacts."""
        found = await reads.contacts_of_advertiser(
            context.caller, request.path_params["id"], _query(request)
        )
        return page_document(found or _UNKNOWN_ADVERTISER, contact_resource, context.request_id)

    async def pass_through(self, request: Request, context: RequestContext) -> Response | Document:
        """Return HiEnergy's response to a read of any other path."""
        path: str = request.path_params["path"]
        # As it was sent, with a prefix or without. An encoded slash is not a separator.
        sent = request.scope["raw_path"].decode("latin-1").split("/")[-path.count("/") - 1 :]
        query = request.scope["query_string"].decode("latin-1")
        found = await reads.pass_through(context.caller, "/".join(sent), query)
        if isinstance(found, ReadRefusal):
            return read_refusal_document(found, context.request_id)
        if found is None:
            raise no_such_route(self._operations)
        context.outcome = _outcome_of(found.status)
        return Response.of(found.body, None, found.status, found.headers)

    async def schema(self, request: Request, context: RequestContext) -> Document:
        """Return the OpenAPI document, with the address at which the client reaches the API.

        A forged `Host` comes back to its sender alone: no cache keeps the response.
        """
        origin = origin_of(request.scope, self.trusted_proxies)
        servers = [{"url": f"{origin}{context.root_path}/api/v1"}]
        return Document(200, openapi_document(self.filters) | {"servers": servers})


def _submission(
    request: Request, context: RequestContext, raw: object, ignored_fields: tuple[str, ...]
) -> Submission:
    return Submission(
        raw=raw,
        idempotency_key=context.headers.get("idempotency-key"),
        parameters=_query(request),
        ignored_fields=ignored_fields,
        origin=Origin(Face.REST, context.request_id),
    )


def _outcome_of(status: int) -> str:
    """Return the outcome of a read that HiEnergy answered with a status."""
    if status < HTTPStatus.BAD_REQUEST:
        return "OK"
    is_outage = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    other = TransportCode.SERVICE_UNAVAILABLE if is_outage else TransportCode.BAD_REQUEST
    return CODES.get(status, other)


def _query(request: Request) -> dict[str, object]:
    """Return the query parameters. One that is given more than once has a list of its values."""
    if not request.scope["query_string"]:
        return {}
    values: dict[str, list[str]] = {}
    for name, value in request.query_params.multi_items():
        values.setdefault(name, []).append(value)
    return {name: each[0] if len(each) == 1 else each for name, each in values.items()}
