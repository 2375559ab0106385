"""The GraphQL schema: each field passes its arguments to the domain and converts the outcome."""

from typing import Annotated

import strawberry
from graphql import (
    GraphQLArgument,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLObjectType,
    Undefined,
)
from strawberry.schema.config import StrawberryConfig

from contact_gateway.access.principals import Identity
from contact_gateway.contacts import reads
from contact_gateway.contacts.admission import Submission
from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.batch import Batch, Entry, batch_outcome_name
from contact_gateway.contacts.contact import Contact
from contact_gateway.contacts.create_contact import create_contact
from contact_gateway.contacts.create_contacts import create_contacts
from contact_gateway.contacts.origin import Face, Origin
from contact_gateway.contacts.outcomes import Created, outcome_name
from contact_gateway.contacts.policy import OnConflict
from contact_gateway.contacts.reads import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE
from contact_gateway.contacts.timestamps import Timestamp
from contact_gateway.faces.graphql.document_cache import DocumentCache
from contact_gateway.faces.graphql.execution import ExecutableSchema
from contact_gateway.faces.graphql.idempotency import idempotency_key_of, report_replay
from contact_gateway.faces.graphql.limits import DocumentLimits
from contact_gateway.faces.graphql.refusals import granted
from contact_gateway.faces.graphql.types import (
    DATE_TIME,
    ORDER,
    AdvertiserPage,
    ContactPage,
    ContactSubmission,
    CreateContactInput,
    CreateContactResult,
    CreateContactsResult,
    Pagination,
    ResolveInfo,
    create_contact_result,
    create_contacts_result,
)

_PageNumber = Annotated[
    int | None, strawberry.argument("The number of the page, from 1. Defaults to 1.")
]
_PageSize = Annotated[
    int | None,
    strawberry.argument(
        f"Records per page, from 1. Defaults to {DEFAULT_PAGE_SIZE}. Numbers above "
        f"{MAX_PAGE_SIZE} count as {MAX_PAGE_SIZE}."
    ),
]

_OnConflict = Annotated[
    OnConflict | None,
    strawberry.argument("What to do if the address is taken. Null counts as `REFUSE`."),
]


@strawberry.type(
    description=(
        "Reads, for any valid API key. All reads of one request count as one operation against its "
        "rate limit."
    )
)
class Query:
    """The type of query operations."""

    @strawberry.field(description="The API key in use.")
    async def viewer(self, info: ResolveInfo) -> Identity | None:
        """Return the caller."""
        return granted(await reads.viewer(info.context.caller))

    @strawberry.field(description="The contact with this id, or null.")
    async def contact(
        self,
        info: ResolveInfo,
        id: Annotated[strawberry.ID, strawberry.argument("The contact's id.")],
    ) -> Contact | None:
        """Return a contact."""
        return granted(await reads.contact(info.context.caller, id))

    @strawberry.field(description=f"Contacts. They match all given filters. {ORDER}")
    async def contacts(
        self,
        info: ResolveInfo,
        advertiser_id: Annotated[
            strawberry.ID | None,
            strawberry.argument(
                "Only contacts of this brand, by the id or the slug of any of its records."
            ),
        ] = None,
        email: Annotated[
            str | None,
            strawberry.argument("The complete e-mail address. Case and Unicode form are ignored."),
        ] = None,
        q: Annotated[
            str | None,
            strawberry.argument(
                "Text in the e-mail address, a name, the job title or the phone number. Case "
                "and Unicode form are ignored."
            ),
        ] = None,
        page: _PageNumber = None,
        per_page: _PageSize = None,
    ) -> ContactPage | None:
        """Return a page of contacts."""
        raw = {
            "advertiser_id": advertiser_id,
            "email": email,
            "q": q,
            "page": page,
            "per_page": per_page,
        }
        found = granted(await reads.contacts(info.context.caller, raw))
        return ContactPage(nodes=found.items, page_info=Pagination.of(found))

    @strawberry.field(description=f"Advertisers. They match all given filters. {ORDER}")
    async def advertisers(
        self,
        info: ResolveInfo,
        q: Annotated[
            str | None,
            strawberry.argument(
                "Text in a name, the slug or the domain. Case and Unicode form are ignored."
            ),
        ] = None,
        domain: Annotated[
            str | None,
            strawberry.argument(
                "The advertiser's complete domain. Case and Unicode form are ignored."
            ),
        ] = None,
        page: _PageNumber = None,
        per_page: _PageSize = None,
    ) -> AdvertiserPage | None:
        """Return a page of advertisers."""
        raw = {"q": q, "domain": domain, "page": page, "per_page": per_page}
        found = granted(await reads.advertisers(info.context.caller, raw))
        return AdvertiserPage(nodes=found.items, page_info=Pagination.of(found))

    @strawberry.field(
        description="The advertiser with this id or slug, or null. Give exactly one of the two."
    )
    async def advertiser(
        self,
        info: ResolveInfo,
        id: Annotated[strawberry.ID | None, strawberry.argument("The record's id.")] = None,
        slug: Annotated[
            str | None,
            strawberry.argument(
                "The record's slug. If several records have it, a HiEnergy record comes first."
            ),
        ] = None,
    ) -> Advertiser | None:
        """Return an advertiser."""
        return granted(await reads.advertiser_by_id_or_slug(info.context.caller, id, slug))


@strawberry.type(
    description=(
        "Changes, for an admin's API key. Each field counts as one operation against its rate "
        "limit."
    )
)
class Mutation:
    """The type of mutation operations."""

    @strawberry.mutation(
        description=(
            "Create a contact on the HiEnergy record of the given advertiser. Admins only. Errors "
            "are part of the result: select the members of the union that you handle, and "
            "`... on ApiError` for all other errors. Clients with a normalised cache, such as "
            "Apollo Client, show the fields of `ApiError` only if they know its `possibleTypes`."
        )
    )
    async def create_contact(
        self,
        info: ResolveInfo,
        input: Annotated[CreateContactInput, strawberry.argument("The contact to create.")],
        idempotency_key: Annotated[
            str | None,
            strawberry.argument(
                "Makes retries safe: for at least 24 hours, the same key with the same input "
                "returns the contact that the first call created. In front of HiEnergy, a "
                "repeat after a lost answer looks for the contact and creates no second one. "
                "1 to 255 visible ASCII characters, which may be in double quotes. The header "
                "`Idempotency-Key` replaces this argument if the operation has exactly one "
                "field that takes it."
            ),
        ] = None,
        dry_run: Annotated[
            bool | None,
            strawberry.argument(
                "Create nothing: return a `ContactPreview`. Applies every rule; in front of "
                "HiEnergy, those that reads can check. Null counts as false."
            ),
        ] = False,
        on_conflict: _OnConflict = OnConflict.REFUSE,
    ) -> CreateContactResult:
        """Return the outcome of a submission."""
        context = info.context
        submission = Submission(
            raw=vars(input),
            idempotency_key=idempotency_key_of(info, idempotency_key),
            dry_run=bool(dry_run),
            on_conflict=on_conflict or OnConflict.REFUSE,
            origin=Origin(Face.GRAPHQL, context.request_id),
        )

        async def read() -> Submission:
            return submission

        outcome = await create_contact(context.caller, read)
        context.operation = "create_contact"
        context.outcome = outcome_name(outcome)
        if isinstance(outcome, Created) and outcome.replayed:
            report_replay(info)
        return create_contact_result(outcome, context.request_id)

    @strawberry.mutation(
        description=(
            "Create many contacts, each as `createContact` does, with a result for each. Each "
            "submission counts as one operation against the rate limit; those beyond it are "
            "`RateLimitedError`. If one fails, the others are created. If two have the same "
            "address, the first creates the contact. The operator limits the number of submissions "
            "and the size of the request."
        )
    )
    async def create_contacts(
        self,
        info: ResolveInfo,
        submissions: Annotated[
            list[ContactSubmission],
            strawberry.argument(
                "The contacts to create. The header `Idempotency-Key`, if the operation has "
                "only one field that takes a key, makes a retry of those without a key safe."
            ),
        ],
        dry_run: Annotated[
            bool | None,
            strawberry.argument(
                "Create nothing: the results are `ContactPreview`. The submissions are not "
                "compared with each other. Null counts as false."
            ),
        ] = False,
        on_conflict: _OnConflict = OnConflict.REFUSE,
    ) -> CreateContactsResult:
        """Return the outcomes of a batch."""
        context = info.context
        entries = [Entry(vars(each.contact), each.idempotency_key) for each in submissions]
        options = Submission(
            raw=None,
            idempotency_key=idempotency_key_of(info, None),
            dry_run=bool(dry_run),
            on_conflict=on_conflict or OnConflict.REFUSE,
            origin=Origin(Face.GRAPHQL, context.request_id),
        )

        async def read() -> Batch:
            return Batch(entries, options)

        outcome = await create_contacts(context.caller, read, context.max_batch_size)
        context.operation = "create_contacts"
        context.outcome = batch_outcome_name(outcome)
        return create_contacts_result(outcome, context.request_id)


def build_schema(
    limits: DocumentLimits,
    *,
    introspection: bool = True,
    documents: DocumentCache | None = None,
) -> ExecutableSchema:
    """Return the schema with its limits. Without introspection, errors suggest no names."""
    return ExecutableSchema(
        strawberry_schema(),
        documents or DocumentCache(),
        limits,
        introspection=introspection,
    )


def schema_sdl() -> str:
    """Return the schema in GraphQL's schema definition language, the text of `schema.graphql`."""
    return strawberry_schema().as_str().rstrip() + "\n"


def strawberry_schema() -> strawberry.Schema:
    """Return Strawberry's schema."""
    schema = strawberry.Schema(
        query=Query,
        mutation=Mutation,
        config=StrawberryConfig(scalar_map={Timestamp: DATE_TIME}),
    )
    # Python needs the default None, but some clients, such as Hasura, refuse the SDL's `= null`.
    for kind in schema._schema.type_map.values():  # noqa: SLF001 - there is no public name for it
        inputs: list[GraphQLArgument | GraphQLInputField] = []
        if isinstance(kind, GraphQLInputObjectType):
            inputs += kind.fields.values()
        elif isinstance(kind, GraphQLObjectType):
            inputs += (argument for each in kind.fields.values() for argument in each.args.values())
        for each in inputs:
            if each.default_value is None:
                each.default_value = Undefined
    return schema
