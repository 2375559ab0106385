"""The GraphQL schema: each field reads its arguments, calls the domain and renders the answer."""

from typing import Annotated

import strawberry
from strawberry.schema.config import StrawberryConfig

from contact_gateway.contacts import reads
from contact_gateway.contacts.create_contact import create_contact
from contact_gateway.contacts.origin import Face, Origin
from contact_gateway.contacts.outcomes import outcome_name
from contact_gateway.contacts.reads import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE
from contact_gateway.contacts.submission import Submission
from contact_gateway.faces.graphql.document_cache import DocumentCache
from contact_gateway.faces.graphql.execution import ExecutableSchema
from contact_gateway.faces.graphql.idempotency_header import replaces_the_argument
from contact_gateway.faces.graphql.limits import DocumentLimits
from contact_gateway.faces.graphql.refusals import granted
from contact_gateway.faces.graphql.types import (
    DATE_TIME,
    Advertiser,
    AdvertiserConnection,
    Contact,
    ContactConnection,
    CreateContactInput,
    CreateContactResult,
    DateTime,
    PageInfo,
    ResolveInfo,
    Viewer,
    create_contact_result,
)

_PageNumber = Annotated[
    int | None, strawberry.argument(description="Which page; the first is 1, the default.")
]
_PageSize = Annotated[
    int | None,
    strawberry.argument(
        description=(
            f"How many records a page has, {DEFAULT_PAGE_SIZE} unless said, "
            f"{MAX_PAGE_SIZE} at most."
        )
    ),
]
_Domain = Annotated[str | None, strawberry.argument(description="The advertiser's whole domain.")]


@strawberry.type(description="What any valid key may read. All reads of a request count as one.")
class Query:
    """The reads."""

    @strawberry.field(description="The API key in use.")
    async def viewer(self, info: ResolveInfo) -> Viewer | None:
        """Tell who calls."""
        context = info.context
        return Viewer.of(granted(await reads.viewer(context.request.caller)))

    @strawberry.field(description="One contact; null where there is none with the id.")
    async def contact(
        self,
        info: ResolveInfo,
        id: Annotated[strawberry.ID, strawberry.argument(description="The contact's id.")],
    ) -> Contact | None:
        """Read a contact."""
        context = info.context
        found = granted(await reads.contact(context.request.caller, id))
        return None if found is None else Contact.of(found)

    @strawberry.field(description="Contacts, newest first. All filters that are given must hold.")
    async def contacts(
        self,
        info: ResolveInfo,
        advertiser_id: Annotated[
            strawberry.ID | None,
            strawberry.argument(
                description="The id of any of a brand's records; the contacts are its HiEnergy's."
            ),
        ] = None,
        email: Annotated[
            str | None, strawberry.argument(description="A whole e-mail address, in any case.")
        ] = None,
        q: Annotated[
            str | None,
            strawberry.argument(
                description="Text of the address, the names, the title, the phone."
            ),
        ] = None,
        page: _PageNumber = None,
        per_page: _PageSize = None,
    ) -> ContactConnection | None:
        """Read a page of contacts."""
        raw = {
            "advertiser_id": advertiser_id,
            "email": email,
            "q": q,
            "page": page,
            "per_page": per_page,
        }
        context = info.context
        found = granted(await reads.contacts(context.request.caller, raw))
        return ContactConnection(
            nodes=[Contact.of(contact) for contact in found.items], page_info=PageInfo.of(found)
        )

    @strawberry.field(
        description="Advertisers, newest first. All filters that are given must hold."
    )
    async def advertisers(
        self,
        info: ResolveInfo,
        q: Annotated[
            str | None, strawberry.argument(description="Text of the names, the slug, the domain.")
        ] = None,
        domain: _Domain = None,
        page: _PageNumber = None,
        per_page: _PageSize = None,
    ) -> AdvertiserConnection | None:
        """Read a page of advertisers."""
        raw = {"q": q, "domain": domain, "page": page, "per_page": per_page}
        context = info.context
        found = granted(await reads.advertisers(context.request.caller, raw))
        return AdvertiserConnection(
            nodes=[Advertiser.of(record) for record in found.items],
            page_info=PageInfo.of(found),
        )

    @strawberry.field(
        description="One advertiser, by id or by slug; null where there is none. Give one of both."
    )
    async def advertiser(
        self,
        info: ResolveInfo,
        id: Annotated[
            strawberry.ID | None, strawberry.argument(description="The record's id.")
        ] = None,
        slug: Annotated[
            str | None,
            strawberry.argument(description="The record's slug; a HiEnergy record comes first."),
        ] = None,
    ) -> Advertiser | None:
        """Read an advertiser."""
        context = info.context
        found = granted(await reads.advertiser_by_id_or_slug(context.request.caller, id, slug))
        return None if found is None else Advertiser.of(found)


@strawberry.type(description="What an admin's key may change. Each field counts as one operation.")
class Mutation:
    """The operations."""

    @strawberry.mutation(
        description=(
            "Create a contact on the HiEnergy record of the submitted advertiser. Admins only. "
            "Every business outcome is data: select the union's members that you handle, and "
            "`... on ApiError` for the rest."
        )
    )
    async def create_contact(
        self,
        info: ResolveInfo,
        input: Annotated[
            CreateContactInput, strawberry.argument(description="The contact to create.")
        ],
        idempotency_key: Annotated[
            str | None,
            strawberry.argument(
                description=(
                    "1 to 255 visible ASCII characters that make the submission safe to repeat: "
                    "for 24 hours at least, the same key with the same input returns the contact "
                    "that the first call created. The header `Idempotency-Key` stands in for it "
                    "where the operation has exactly one `createContact`; "
                    "where it has more, the header is ignored."
                )
            ),
        ] = None,
        dry_run: Annotated[
            bool,
            strawberry.argument(
                description="Apply every rule and create nothing: the answer is a preview."
            ),
        ] = False,
    ) -> CreateContactResult:
        """Submit a contact."""
        context = info.context
        header = context.idempotency_header
        if idempotency_key is None and header is not None:
            # Strawberry's own info does not show the fragments.
            raw_info = info._raw_info  # noqa: SLF001
            idempotency_key = header if replaces_the_argument(raw_info) else None
        submission = Submission(
            contact=input.raw(),
            idempotency_key=idempotency_key,
            dry_run=dry_run,
            origin=Origin(Face.GRAPHQL, context.request.request_id),
        )

        async def read() -> Submission:
            return submission

        outcome = await create_contact(context.request.caller, read)
        context.request.operation = "create_contact"
        context.request.outcome = outcome_name(outcome)
        return create_contact_result(outcome, context.request.request_id)


def build_schema(
    limits: DocumentLimits,
    *,
    introspection: bool = True,
    documents: DocumentCache | None = None,
) -> ExecutableSchema:
    """Return the schema; without introspection it does not tell its fields, nor suggest any."""
    return ExecutableSchema(
        strawberry_schema(),
        documents or DocumentCache(),
        limits,
        introspection=introspection,
    )


def schema_sdl() -> str:
    """Return the schema in GraphQL's schema definition language, as `schema.graphql` holds it."""
    return strawberry_schema().as_str().rstrip() + "\n"


def strawberry_schema() -> strawberry.Schema:
    """Return the schema as Strawberry makes it."""
    return strawberry.Schema(
        query=Query,
        mutation=Mutation,
        config=StrawberryConfig(scalar_map={DateTime: DATE_TIME}),
    )
