"""The public GraphQL types, with the descriptions that the explorer shows as its manual."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, NamedTuple, NewType, Self, TypeAlias, TypedDict, TypeVar, assert_never

import strawberry
from strawberry.types import Info
from strawberry.types.enum import has_enum_definition

from contact_gateway.access.principals import Identity, Role
from contact_gateway.contacts import advertiser as advertisers
from contact_gateway.contacts import contact as contacts
from contact_gateway.contacts import outcomes, reads
from contact_gateway.contacts.problems import PROBLEM_MEANINGS, Problem, ProblemCode
from contact_gateway.contacts.source import Page
from contact_gateway.faces.graphql.refusals import argument_path, granted
from contact_gateway.faces.http import timestamp
from contact_gateway.faces.request_context import RequestContext

T = TypeVar("T")


class GraphQLContext(NamedTuple):
    """What the resolvers of one document work with.

    Attributes:
        request: the context of the request; its caller's reads are deduplicated for the document.
        operation_name: the operation that the client chose, or None.
        idempotency_header: the header `Idempotency-Key`, or None.
    """

    request: RequestContext
    operation_name: str | None
    idempotency_header: str | None


ResolveInfo: TypeAlias = Info[GraphQLContext, None]

DateTime = NewType("DateTime", datetime)
DATE_TIME = strawberry.scalar(
    name="DateTime",
    description="A time in UTC, to the millisecond, as RFC 3339: `2026-01-31T12:00:00.000Z`.",
    specified_by_url="https://scalars.graphql.org/andimarek/date-time",
    serialize=timestamp,
)


def _describe_enum(enum: type[StrEnum], description: str, meanings: Mapping[str, str]) -> None:
    """Make an enum of the domain one of GraphQL, each value with what it means."""
    made = strawberry.enum(enum, description=description)
    if not has_enum_definition(made):
        raise TypeError("Strawberry has made no enum")
    for value in made.__strawberry_definition__.values:
        value.description = meanings[value.name]


_describe_enum(
    outcomes.ErrorCode,
    "Why a submission was refused: the first rule that failed. The values are in their order.",
    {code.name: outcomes.meaning_of(code) for code in outcomes.ErrorCode},
)
_describe_enum(
    ProblemCode,
    "Why a value was refused.",
    {code.name: meaning for code, meaning in PROBLEM_MEANINGS.items()},
)
_describe_enum(
    Role,
    "What the owner of a key may do.",
    {Role.ADMIN.name: "Reads, and creates contacts.", Role.MEMBER.name: "Reads."},
)


@strawberry.type(
    description=(
        "One record of a brand. A brand has a record on each affiliate network it is on and at "
        "most one HiEnergy record, the canonical one, which owns the brand's contacts."
    )
)
class Advertiser:
    """An advertiser, as GraphQL shows it."""

    id: strawberry.ID = strawberry.field(description=advertisers.FIELD_DESCRIPTIONS["id"])
    name: str = strawberry.field(description=advertisers.FIELD_DESCRIPTIONS["name"])
    display_name: str | None = strawberry.field(
        description=advertisers.FIELD_DESCRIPTIONS["display_name"]
    )
    slug: str | None = strawberry.field(description=advertisers.FIELD_DESCRIPTIONS["slug"])
    domain: str | None = strawberry.field(description=advertisers.FIELD_DESCRIPTIONS["domain"])
    network_name: str = strawberry.field(description=advertisers.FIELD_DESCRIPTIONS["network_name"])
    publisher_name: str | None = strawberry.field(
        description=advertisers.FIELD_DESCRIPTIONS["publisher_name"]
    )
    status: str | None = strawberry.field(description=advertisers.FIELD_DESCRIPTIONS["status"])
    record: strawberry.Private[advertisers.Advertiser]

    @strawberry.field(
        description="The brand's HiEnergy record: this one, its equivalent, or null without one."
    )
    async def hienergy(self, info: ResolveInfo) -> "Advertiser | None":
        """Look up the canonical record."""
        if self.record.hienergy_id == self.record.id:
            return self
        return await _load_advertiser(info, self.record.hienergy_id)

    @strawberry.field(description="The brand's other records on affiliate networks.")
    async def equivalents(self, info: ResolveInfo) -> list["Advertiser"]:
        """Look up the network records of the brand."""
        if self.record.hienergy_id is None:
            return []
        caller = info.context.request.caller
        found = granted(await reads.equivalents(caller, self.record.hienergy_id))
        return [Advertiser.of(record) for record in found if record.id != self.record.id]

    @classmethod
    def of(cls, record: advertisers.Advertiser) -> Self:
        """Show an advertiser."""
        return cls(
            id=strawberry.ID(str(record.id)),
            name=record.name,
            display_name=record.display_name,
            slug=record.slug,
            domain=record.domain,
            network_name=record.network_name,
            publisher_name=record.publisher_name,
            status=record.status,
            record=record,
        )


async def _load_advertiser(info: ResolveInfo, advertiser_id: int | None) -> Advertiser | None:
    if advertiser_id is None:
        return None
    caller = info.context.request.caller
    found = granted(await reads.related_advertiser(caller, advertiser_id))
    return None if found is None else Advertiser.of(found)


@strawberry.type
class _ContactAttributes:
    """The fields that a contact and a preview share."""

    advertiser_id: strawberry.ID = strawberry.field(
        description="The id of the HiEnergy advertiser that owns the contact."
    )
    advertiser_name: str | None = strawberry.field(
        description="The name to show of the advertiser that owns the contact."
    )
    email: str = strawberry.field(description=contacts.field_description("email"))
    name: str | None = strawberry.field(description=contacts.field_description("name"))
    given_name: str | None = strawberry.field(description=contacts.field_description("given_name"))
    family_name: str | None = strawberry.field(
        description=contacts.field_description("family_name")
    )
    phone: str | None = strawberry.field(description=contacts.field_description("phone"))
    job_title: str | None = strawberry.field(description=contacts.field_description("job_title"))
    source: str | None = strawberry.field(description=contacts.field_description("source"))
    status: str | None = strawberry.field(description=contacts.field_description("status"))
    linkedin_profile_url: str | None = strawberry.field(
        description=contacts.field_description("linkedin_profile_url")
    )

    @strawberry.field(description="The HiEnergy advertiser that owns the contact.")
    async def advertiser(self, info: ResolveInfo) -> Advertiser | None:
        """Look up the owner."""
        return await _load_advertiser(info, int(self.advertiser_id))


class _Attributes(TypedDict):
    advertiser_id: strawberry.ID
    advertiser_name: str | None
    email: str
    name: str | None
    given_name: str | None
    family_name: str | None
    phone: str | None
    job_title: str | None
    source: str | None
    status: str | None
    linkedin_profile_url: str | None


def _attributes(details: contacts.ContactDetails, advertiser_name: str | None) -> _Attributes:
    (
        advertiser_id,
        email,
        name,
        given_name,
        family_name,
        phone,
        job_title,
        source,
        status,
        linkedin_profile_url,
    ) = details
    return {
        "advertiser_id": strawberry.ID(str(advertiser_id)),
        "advertiser_name": advertiser_name,
        "email": email,
        "name": name,
        "given_name": given_name,
        "family_name": family_name,
        "phone": phone,
        "job_title": job_title,
        "source": source,
        "status": status,
        "linkedin_profile_url": linkedin_profile_url,
    }


@strawberry.type(description="A contact of exactly one HiEnergy advertiser.")
class Contact(_ContactAttributes):
    """A contact, as GraphQL shows it."""

    id: strawberry.ID = strawberry.field(description="The contact's 64-bit id.")
    created_at: DateTime = strawberry.field(description="When the contact was created.")
    updated_at: DateTime = strawberry.field(description="When the contact was last changed.")

    @classmethod
    def of(cls, contact: contacts.Contact) -> Self:
        """Show a contact."""
        return cls(
            id=strawberry.ID(str(contact.id)),
            **_attributes(contact.details, contact.advertiser_name),
            created_at=DateTime(contact.created_at),
            updated_at=DateTime(contact.updated_at),
        )


@strawberry.type(
    description="What `dryRun: true` answers: the contact that would be created, and where."
)
class ContactPreview(_ContactAttributes):
    """A preview, as GraphQL shows it."""

    @classmethod
    def of(cls, preview: contacts.ContactPreview) -> Self:
        """Show a preview."""
        return cls(**_attributes(preview.details, preview.advertiser_name))


@strawberry.interface(description="What every refusal of a submission tells.")
class ApiError:
    """The fields that every refusal has."""

    code: outcomes.ErrorCode = strawberry.field(description="The reason, for programs.")
    message: str = strawberry.field(description="The reason, for people.")
    request_id: strawberry.ID = strawberry.field(
        description="The request's id, as in the header `X-Request-Id`: give it to support."
    )


@strawberry.type(description=outcomes.meaning_of(outcomes.ErrorCode.UNAUTHORIZED))
class UnauthorizedError(ApiError):
    """Rule 1."""


@strawberry.type(description=outcomes.meaning_of(outcomes.ErrorCode.FORBIDDEN))
class ForbiddenError(ApiError):
    """Rule 2."""


@strawberry.type(description=outcomes.meaning_of(outcomes.ErrorCode.RATE_LIMITED))
class RateLimitedError(ApiError):
    """Rule 3."""

    retry_after_seconds: int = strawberry.field(description="Seconds after which to try again.")


@strawberry.type(description="One thing wrong with an input.")
class InputProblem:
    """A problem, as GraphQL shows it."""

    path: str = strawberry.field(
        description="The argument or the input's field, such as `input.email`."
    )
    code: ProblemCode = strawberry.field(description="Why the value was refused, for programs.")
    message: str = strawberry.field(description="Why the value was refused, for people.")

    @classmethod
    def of(cls, problem: Problem) -> Self:
        """Show a problem."""
        return cls(path=argument_path(problem), code=problem.code, message=problem.message)


@strawberry.type(description=outcomes.meaning_of(outcomes.ErrorCode.INVALID_INPUT))
class InvalidInputError(ApiError):
    """Rule 4."""

    problems: list[InputProblem] = strawberry.field(description="Every problem of the input.")


@strawberry.type(description=outcomes.meaning_of(outcomes.ErrorCode.IDEMPOTENCY_KEY_REUSED))
class IdempotencyKeyReusedError(ApiError):
    """Rule 5."""


@strawberry.type(description=outcomes.meaning_of(outcomes.ErrorCode.NOT_FOUND))
class NotFoundError(ApiError):
    """Rule 6."""


@strawberry.type(description=outcomes.meaning_of(outcomes.ErrorCode.CONFLICT))
class ConflictError(ApiError):
    """Rule 7."""

    existing: Contact | None = strawberry.field(
        description=(
            "The contact that has the address. Null only in front of HiEnergy, where that refuses "
            "a second contact and does not show the first."
        )
    )


CreateContactResult = Annotated[
    Contact
    | ContactPreview
    | UnauthorizedError
    | ForbiddenError
    | NotFoundError
    | InvalidInputError
    | ConflictError
    | IdempotencyKeyReusedError
    | RateLimitedError,
    strawberry.union(
        "CreateContactResult",
        description=(
            "What became of a submission: the contact, the preview of a dry run, or one typed "
            "error. The rules are applied in a fixed order, and the first that fails answers."
        ),
    ),
]


def create_contact_result(
    outcome: outcomes.CreateContactOutcome, request_id: str
) -> CreateContactResult:
    """Render an outcome as its member of the union."""
    an_id = strawberry.ID(request_id)
    match outcome:
        case outcomes.Created(contact):
            return Contact.of(contact)
        case outcomes.Previewed(preview):
            return ContactPreview.of(preview)
        case outcomes.Unauthorized(code=code, message=message):
            return UnauthorizedError(code=code, message=message, request_id=an_id)
        case outcomes.Forbidden(code=code, message=message):
            return ForbiddenError(code=code, message=message, request_id=an_id)
        case outcomes.RateLimited(seconds, code=code, message=message):
            return RateLimitedError(
                code=code, message=message, request_id=an_id, retry_after_seconds=seconds
            )
        case outcomes.InvalidInput(problems, code=code, message=message):
            shown = [InputProblem.of(problem) for problem in problems]
            return InvalidInputError(code=code, message=message, request_id=an_id, problems=shown)
        case outcomes.IdempotencyKeyReused(code=code, message=message):
            return IdempotencyKeyReusedError(code=code, message=message, request_id=an_id)
        case outcomes.NotFound(code=code, message=message):
            return NotFoundError(code=code, message=message, request_id=an_id)
        case outcomes.Conflict(existing, code=code, message=message):
            shown_contact = None if existing is None else Contact.of(existing)
            return ConflictError(
                code=code, message=message, request_id=an_id, existing=shown_contact
            )
        case _:
            assert_never(outcome)


@strawberry.input(
    description=(
        "A contact to create. Texts are trimmed; an empty one counts as null. The fields are "
        "those of HiEnergy's REST operation `createContact`."
    )
)
class CreateContactInput:
    """A submission, as GraphQL takes it."""

    advertiser_id: strawberry.ID = strawberry.field(
        description=contacts.field_description("advertiser_id")
    )
    email: str = strawberry.field(description=contacts.field_description("email"))
    name: str | None = strawberry.field(
        default=None, description=contacts.field_description("name")
    )
    given_name: str | None = strawberry.field(
        default=None, description=contacts.field_description("given_name")
    )
    family_name: str | None = strawberry.field(
        default=None, description=contacts.field_description("family_name")
    )
    phone: str | None = strawberry.field(
        default=None, description=contacts.field_description("phone")
    )
    job_title: str | None = strawberry.field(
        default=None, description=contacts.field_description("job_title")
    )
    source: str | None = strawberry.field(
        default=None, description=contacts.field_description("source")
    )
    status: str | None = strawberry.field(
        default=None, description=contacts.field_description("status")
    )
    linkedin_profile_url: str | None = strawberry.field(
        default=None, description=contacts.field_description("linkedin_profile_url")
    )

    def raw(self) -> contacts.RawContact:
        """Return the fields by the names of the published reference, not validated yet."""
        return contacts.RawContact(
            advertiser_id=self.advertiser_id,
            email=self.email,
            name=self.name,
            given_name=self.given_name,
            family_name=self.family_name,
            phone=self.phone,
            job_title=self.job_title,
            source=self.source,
            status=self.status,
            linkedin_profile_url=self.linkedin_profile_url,
        )


@strawberry.type(description="The API key in use.")
class Viewer:
    """The caller, as GraphQL shows it."""

    label: str = strawberry.field(description="What the key was labelled with.")
    role: Role = strawberry.field(description="What its owner may do.")

    @classmethod
    def of(cls, identity: Identity) -> Self:
        """Show whom a key speaks for."""
        return cls(label=identity.label, role=identity.role)


@strawberry.type(description="Where a page stands in its list.")
class PageInfo:
    """A page's place, as GraphQL shows it."""

    current_page: int = strawberry.field(description="This page; the first is 1.")
    next_page: int | None = strawberry.field(description="The next page; null on the last.")
    per_page: int = strawberry.field(description="How many records a page has.")
    has_more: bool = strawberry.field(description="Whether there is a next page.")

    @classmethod
    def of(cls, page: Page[T]) -> Self:
        """Show where a page stands."""
        number = page.request.number
        return cls(
            current_page=number,
            next_page=number + 1 if page.has_more else None,
            per_page=page.request.size,
            has_more=page.has_more,
        )


@strawberry.type(description="A page of contacts, newest first.")
class ContactConnection:
    """A page of contacts, as GraphQL shows it."""

    nodes: list[Contact] = strawberry.field(description="The contacts of this page.")
    page_info: PageInfo = strawberry.field(description="Where the page stands in the list.")


@strawberry.type(description="A page of advertisers, newest first.")
class AdvertiserConnection:
    """A page of advertisers, as GraphQL shows it."""

    nodes: list[Advertiser] = strawberry.field(description="The advertisers of this page.")
    page_info: PageInfo = strawberry.field(description="Where the page stands in the list.")
