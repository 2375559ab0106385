"""The GraphQL types, with the descriptions that GraphiQL shows as documentation."""

from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import partial
from typing import Annotated, Final, NamedTuple, Self, TypeAlias, TypeVar, assert_never

import strawberry
from strawberry.types import Info, get_object_definition
from strawberry.types.enum import has_enum_definition

from contact_gateway.access.principals import Identity, Role
from contact_gateway.contacts import contact as contacts
from contact_gateway.contacts import outcomes, reads
from contact_gateway.contacts.advertiser import FIELD_DESCRIPTIONS, Advertiser
from contact_gateway.contacts.batch import BatchOutcome
from contact_gateway.contacts.contact import Contact
from contact_gateway.contacts.policy import OnConflict
from contact_gateway.contacts.problems import Problem, ProblemCode
from contact_gateway.contacts.source import Page
from contact_gateway.contacts.timestamps import Timestamp, timestamp
from contact_gateway.faces.graphql.refusals import argument_path, granted, submission_path
from contact_gateway.faces.request_context import RequestContext

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

ORDER: Final = "Newest first; in front of HiEnergy, in its order."
_MAY_BE_NULL: Final = "Null only if HiEnergy does not show it."

ResolveInfo: TypeAlias = Info[RequestContext, None]

DATE_TIME = strawberry.scalar(
    name="DateTime",
    description="A UTC time in RFC 3339 with milliseconds, such as `2026-01-31T12:00:00.000Z`.",
    specified_by_url="https://scalars.graphql.org/andimarek/date-time",
)


def _set_values(graphql_type: type, class_: type) -> None:
    """Have a class hold the values of a GraphQL type's fields.

    A tuple of a contact's values takes a tenth of the time of a Strawberry object.
    """
    definition = get_object_definition(graphql_type, strict=True)
    # Strawberry finds the type of a value, or of an annotation, by this attribute of its class.
    class_.__strawberry_definition__ = definition  # type: ignore[attr-defined]
    definition.origin = class_


def _describe_fields(graphql_type: type, description_of: Callable[[str], str]) -> None:
    """Describe the fields of a type that have no description yet, by their names in Python."""
    for field in get_object_definition(graphql_type, strict=True).fields:
        if field.description is None:
            field.description = description_of(field.python_name)


def _describe_enum(enum: type[E], description: str, meaning_of: Callable[[E], str]) -> None:
    """Make an enum of the domain a GraphQL enum with a description of each value."""
    graphql_enum = strawberry.enum(enum, description=description)
    if not has_enum_definition(graphql_enum):  # pragma: no cover - narrows the type
        raise TypeError("Strawberry did not define the enum")
    for value in graphql_enum.__strawberry_definition__.values:
        value.description = meaning_of(enum[value.name])


_describe_enum(
    outcomes.ErrorCode,
    "Why an operation is refused. The values are in the order of the rules: the first that fails "
    "decides.",
    lambda code: code.meaning,
)
_describe_enum(
    OnConflict,
    "What to do if the HiEnergy advertiser already has a contact with the e-mail address.",
    {
        OnConflict.REFUSE: "Return a `ConflictError`.",
        OnConflict.RETURN_EXISTING: (
            "Return the existing contact, with `existed: true`. Nothing about it is updated: "
            "HiEnergy has no operation for that."
        ),
    }.__getitem__,
)
_describe_enum(ProblemCode, "Why a value is not valid.", lambda code: code.meaning)
_describe_enum(
    Role,
    "What the owner of an API key may do.",
    {Role.ADMIN: "May read and create contacts.", Role.MEMBER: "May only read."}.__getitem__,
)


@strawberry.type(
    name="Advertiser",
    description=(
        "One record of a brand. A brand has one record on each affiliate network it is on, and at "
        "most one HiEnergy record: the canonical one, which owns the brand's contacts."
    ),
)
class _AdvertiserType:
    """The fields of an advertiser. Their values are those of `Advertiser`."""

    id: strawberry.ID
    name: str
    display_name: str | None
    slug: str | None
    domain: str | None
    network_name: str | None
    publisher_name: str | None
    status: str | None

    @strawberry.field(
        description="The brand's HiEnergy record, which may be this one. Null if it has none."
    )
    @staticmethod
    async def hienergy(
        parent: strawberry.Parent[Advertiser], info: ResolveInfo
    ) -> Advertiser | None:
        """Return the canonical record."""
        if parent.is_hienergy:
            return parent
        return await _load_advertiser(info, parent.hienergy_id)

    @strawberry.field(description="The brand's other records on affiliate networks.")
    @staticmethod
    async def equivalents(
        parent: strawberry.Parent[Advertiser], info: ResolveInfo
    ) -> list[Advertiser]:
        """Return the network records of the brand."""
        if parent.hienergy_id is None:
            return []
        found = granted(await reads.equivalents(info.context.caller, parent.hienergy_id))
        return [record for record in found if record.id != parent.id]


_describe_fields(_AdvertiserType, FIELD_DESCRIPTIONS.__getitem__)
_set_values(_AdvertiserType, Advertiser)


async def _load_advertiser(info: ResolveInfo, advertiser_id: int | None) -> Advertiser | None:
    if advertiser_id is None:
        return None
    return granted(await reads.related_advertiser(info.context.caller, advertiser_id))


@strawberry.type
class _ContactAttributes:
    """The fields that a contact and a preview share."""

    advertiser_id: strawberry.ID = strawberry.field(
        description="The id of the HiEnergy advertiser that owns the contact."
    )
    advertiser_name: str | None = strawberry.field(
        description="The display name of the HiEnergy advertiser that owns the contact."
    )
    email: str | None = strawberry.field(
        description=f"{contacts.field_description('email')} {_MAY_BE_NULL}"
    )
    name: str | None
    given_name: str | None
    family_name: str | None
    phone: str | None
    job_title: str | None
    source: str | None
    status: str | None
    linkedin_profile_url: str | None

    @strawberry.field(description="The HiEnergy advertiser that owns the contact.")
    @staticmethod
    async def advertiser(
        parent: strawberry.Parent["Contact | ContactPreview"], info: ResolveInfo
    ) -> Advertiser | None:
        """Return the owner."""
        return await _load_advertiser(info, parent.advertiser_id)


@strawberry.type(name="Contact", description="A contact of exactly one HiEnergy advertiser.")
class _ContactType(_ContactAttributes):
    """The fields of a contact. Their values are those of `contacts.Contact`."""

    id: strawberry.ID = strawberry.field(description="The contact's 64-bit id.")
    created_at: Timestamp | None = strawberry.field(
        description=f"When the contact was created. {_MAY_BE_NULL}"
    )
    updated_at: Timestamp | None = strawberry.field(
        description=f"When the contact was last changed. {_MAY_BE_NULL}"
    )

    @strawberry.field(
        description=(
            "True only in the result of a creation with `onConflict: RETURN_EXISTING`, if the "
            "contact already existed. A normalised cache keeps it with the contact, so read it "
            "from that result alone."
        )
    )
    @staticmethod
    def existed(parent: strawberry.Parent[Contact]) -> bool:
        """Return whether the contact is the result of such a creation."""
        return isinstance(parent, _ExistingContact)


_describe_fields(_ContactType, contacts.field_description)
_set_values(_ContactType, Contact)


class _ExistingContact(Contact):
    """A contact that existed before the request to create it."""

    __slots__ = ()


@strawberry.type(
    name="ContactPreview",
    description="The contact that a dry run (`dryRun: true`) would create.",
)
class _ContactPreviewType(_ContactAttributes):
    """The fields of a preview. Their values are those of `ContactPreview`."""

    not_checked: list[str] = strawberry.field(
        description=(
            "What the dry run cannot check, in sentences. Empty without HiEnergy: then every rule "
            "was applied."
        )
    )


class ContactPreview(NamedTuple):
    """The values of a preview's fields: those of its details first, in their order."""

    advertiser_id: int
    email: str | None
    name: str | None
    given_name: str | None
    family_name: str | None
    phone: str | None
    job_title: str | None
    source: str | None
    status: str | None
    linkedin_profile_url: str | None
    advertiser_name: str | None
    not_checked: Sequence[str]

    @classmethod
    def of(cls, preview: contacts.ContactPreview) -> Self:
        """Convert a preview."""
        details, advertiser_name, not_checked = preview
        return cls(*details, advertiser_name, not_checked)


_describe_fields(_ContactPreviewType, contacts.field_description)
_set_values(_ContactPreviewType, ContactPreview)


@strawberry.interface(description="The fields of every error of an operation.")
class ApiError:
    """The interface of the types of refusals."""

    code: outcomes.ErrorCode = strawberry.field(description="The error code, for programs.")
    message: str = strawberry.field(
        description="The error message, for people. Its wording may change."
    )
    request_id: strawberry.ID = strawberry.field(
        description="The request's id, also in the header `X-Request-Id`. Quote it to support."
    )


@strawberry.type(description=outcomes.ErrorCode.UNAUTHORIZED.meaning)
class UnauthorizedError(ApiError):
    """Rule 1."""


@strawberry.type(description=outcomes.ErrorCode.FORBIDDEN.meaning)
class ForbiddenError(ApiError):
    """Rule 2."""


@strawberry.type(description=outcomes.ErrorCode.RATE_LIMITED.meaning)
class RateLimitedError(ApiError):
    """Rule 3."""

    retry_after_seconds: int = strawberry.field(description="Seconds to wait before a retry.")


@strawberry.type(description="One problem of an input.")
class InputProblem:
    """The GraphQL type of a problem."""

    path: str = strawberry.field(
        description="The path of the argument or input field, such as `input.email`."
    )
    code: ProblemCode = strawberry.field(description="The problem code, for programs.")
    message: str = strawberry.field(description="The problem, for people. Its wording may change.")


@strawberry.type(description=outcomes.ErrorCode.INVALID_INPUT.meaning)
class InvalidInputError(ApiError):
    """Rule 4."""

    problems: list[InputProblem] = strawberry.field(description="Every problem of the input.")


@strawberry.type(description=outcomes.ErrorCode.IDEMPOTENCY_KEY_REUSED.meaning)
class IdempotencyKeyReusedError(ApiError):
    """Rule 5."""


@strawberry.type(description=outcomes.ErrorCode.NOT_FOUND.meaning)
class NotFoundError(ApiError):
    """Rule 6."""


@strawberry.type(description=outcomes.ErrorCode.CONFLICT.meaning)
class ConflictError(ApiError):
    """Rule 7."""

    existing: Contact | None = strawberry.field(
        description=(
            "The contact that already has this e-mail address. Null only if HiEnergy reports a "
            "conflict without the contact."
        )
    )


@strawberry.type(description=outcomes.ErrorCode.OUTCOME_UNKNOWN.meaning)
class OutcomeUnknownError(ApiError):
    """Rule 8."""

    retry_after_seconds: int = strawberry.field(
        description="Seconds after which a repeat with the same idempotency key may find more."
    )
    advertiser_id: strawberry.ID = strawberry.field(description="The submitted advertiser.")
    sent_at: Timestamp = strawberry.field(description="When the creation was sent to HiEnergy.")


_Outcome: TypeAlias = (
    Contact
    | ContactPreview
    | UnauthorizedError
    | ForbiddenError
    | NotFoundError
    | InvalidInputError
    | ConflictError
    | IdempotencyKeyReusedError
    | RateLimitedError
    | OutcomeUnknownError
)

CreateContactResult = Annotated[
    _Outcome,
    strawberry.union(
        "CreateContactResult",
        description=(
            "The result of `createContact`: the contact, the preview of a dry run, or a typed "
            "error. The rules apply in a fixed order, and the first that fails decides the error."
        ),
    ),
]


def create_contact_result(
    outcome: outcomes.CreateContactOutcome,
    request_id: str,
    path_of: Callable[[Problem], str] = argument_path,
) -> CreateContactResult:
    """Return the member of the union for an outcome. `path_of` returns a problem's path."""
    an_id = strawberry.ID(request_id)
    match outcome:
        case outcomes.Created(contact):
            return contact
        case outcomes.Existing(contact):
            return _ExistingContact(*contact)
        case outcomes.Previewed(preview):
            return ContactPreview.of(preview)
        case outcomes.IdempotencyKeyReused(code=code, message=message):
            return IdempotencyKeyReusedError(code=code, message=message, request_id=an_id)
        case outcomes.NotFound(code=code, message=message):
            return NotFoundError(code=code, message=message, request_id=an_id)
        case outcomes.Conflict(existing, code=code, message=message):
            return ConflictError(code=code, message=message, request_id=an_id, existing=existing)
        case outcomes.OutcomeUnknown(message, seconds, advertiser_id, sent_at, code=code):
            return OutcomeUnknownError(
                code=code,
                message=message,
                request_id=an_id,
                retry_after_seconds=seconds,
                advertiser_id=strawberry.ID(str(advertiser_id)),
                sent_at=timestamp(sent_at),
            )
        case refusal:
            return _admission_error(refusal, request_id, path_of)


def _admission_error(
    refusal: outcomes.ReadRefusal, request_id: str, path_of: Callable[[Problem], str]
) -> UnauthorizedError | ForbiddenError | RateLimitedError | InvalidInputError:
    """Return the error for a refusal by rules 1 to 4. `path_of` returns a problem's path."""
    code, message, an_id = refusal.code, refusal.message, strawberry.ID(request_id)
    match refusal:
        case outcomes.Unauthorized():
            return UnauthorizedError(code=code, message=message, request_id=an_id)
        case outcomes.Forbidden():
            return ForbiddenError(code=code, message=message, request_id=an_id)
        case outcomes.RateLimited(seconds):
            return RateLimitedError(
                code=code, message=message, request_id=an_id, retry_after_seconds=seconds
            )
        case outcomes.InvalidInput(problems):
            shown = [
                InputProblem(path=path_of(each), code=each.code, message=each.message)
                for each in problems
            ]
            return InvalidInputError(code=code, message=message, request_id=an_id, problems=shown)
        case _:
            assert_never(refusal)


@strawberry.input(
    description=(
        "A contact to create. Text is trimmed, and empty text counts as null. The fields are those "
        "of HiEnergy's REST operation `createContact`."
    )
)
class CreateContactInput:
    """The GraphQL type of a submission. Its fields have the names of the published reference."""

    advertiser_id: strawberry.ID
    email: str
    name: str | None = None
    given_name: str | None = None
    family_name: str | None = None
    phone: str | None = None
    job_title: str | None = None
    source: str | None = None
    status: str | None = None
    linkedin_profile_url: str | None = None


_describe_fields(CreateContactInput, contacts.field_description)


@strawberry.input(description="One submission of a batch.")
class ContactSubmission:
    """The GraphQL type of a submission of a batch."""

    contact: CreateContactInput = strawberry.field(description="The contact to create.")
    idempotency_key: str | None = strawberry.field(
        default=None,
        description=(
            "Makes retries safe, as the argument of `createContact` does. 1 to 255 visible ASCII "
            "characters."
        ),
    )


@strawberry.type(description=outcomes.ErrorCode.SERVICE_UNAVAILABLE.meaning)
class ServiceUnavailableError(ApiError):
    """A failure of one submission of a batch."""

    retry_after_seconds: int = strawberry.field(description="Seconds to wait before a retry.")


@strawberry.type(description=outcomes.ErrorCode.NOT_TRIED.meaning)
class NotTriedError(ApiError):
    """A submission of a batch that was stopped."""


SubmissionOutcome = Annotated[
    _Outcome | ServiceUnavailableError | NotTriedError,
    strawberry.union(
        "SubmissionOutcome",
        description=(
            "The result of one submission of a batch: that of `createContact`, or, if the service "
            "fails partway, `ServiceUnavailableError` or `NotTriedError`. A fragment on "
            "`CreateContactResult` may be spread here, with `... on ApiError` beside it for these "
            "two, which are not among its members."
        ),
    ),
]


def submission_outcome(
    outcome: outcomes.BatchedOutcome, request_id: str, path_of: Callable[[Problem], str]
) -> SubmissionOutcome:
    """Return the member of the union for an outcome. `path_of` returns a problem's path."""
    an_id = strawberry.ID(request_id)
    match outcome:
        case outcomes.Unavailable(message, seconds, code=code):
            return ServiceUnavailableError(
                code=code, message=message, request_id=an_id, retry_after_seconds=seconds
            )
        case outcomes.NotTried(message, code=code):
            return NotTriedError(code=code, message=message, request_id=an_id)
        case _:
            return create_contact_result(outcome, request_id, path_of)


@strawberry.type(description="The result of one submission of a batch.")
class SubmissionResult:
    """The GraphQL type of an outcome in a batch."""

    index: int = strawberry.field(description="The position of the submission, from 0.")
    result: SubmissionOutcome = strawberry.field(
        description="What `createContact` returns for the submission."
    )
    replayed: bool = strawberry.field(
        description="Whether an earlier request with the idempotency key created the contact."
    )


@strawberry.type(description="The results of a batch.")
class CreateContactsPayload:
    """The GraphQL type of a batch that was not refused as a whole."""

    results: list[SubmissionResult] = strawberry.field(
        description="One result for each submission, in the same order."
    )
    created: int = strawberry.field(
        description=(
            "How many contacts this request, or an earlier one with its idempotency keys, created."
        )
    )
    existed: int = strawberry.field(
        description="How many contacts already existed, with `onConflict: RETURN_EXISTING`."
    )
    refused: int = strawberry.field(description="How many submissions have an error as a result.")


CreateContactsResult = Annotated[
    CreateContactsPayload
    | UnauthorizedError
    | ForbiddenError
    | RateLimitedError
    | InvalidInputError,
    strawberry.union(
        "CreateContactsResult",
        description=(
            "The result of `createContacts`: the results of all submissions, or why the whole "
            "batch is refused."
        ),
    ),
]


def create_contacts_result(
    outcome: BatchOutcome | outcomes.ReadRefusal, request_id: str
) -> CreateContactsResult:
    """Return the member of the union for the outcome of a batch."""
    if not isinstance(outcome, BatchOutcome):
        return _admission_error(outcome, request_id, argument_path)
    return CreateContactsPayload(
        results=[
            SubmissionResult(
                index=index,
                result=submission_outcome(each, request_id, partial(submission_path, index)),
                replayed=isinstance(each, outcomes.Created) and each.replayed,
            )
            for index, each in enumerate(outcome.outcomes)
        ],
        created=outcome.created,
        existed=outcome.existed,
        refused=outcome.refused,
    )


@strawberry.type(name="Viewer", description="The API key in use.")
class _ViewerType:
    """The fields of a caller. Their values are those of `Identity`."""

    label: str = strawberry.field(description="The label of the key.")
    role: Role = strawberry.field(description="The role of the key's owner.")


_set_values(_ViewerType, Identity)


@strawberry.type(description="The position of a page in its list.")
class Pagination:
    """The GraphQL type of a page's position, with the fields of HiEnergy's GraphQL."""

    # Not `PageInfo`: clients take a type of that name for Relay's, which pages by cursors.
    current_page: int = strawberry.field(description="The number of this page, from 1.")
    per_page: int = strawberry.field(description="The maximum number of records on a page.")
    next_page: int | None = strawberry.field(
        description="The number of the next page. Null on the last page."
    )
    prev_page: int | None = strawberry.field(
        description="The number of the previous page. Null on the first page."
    )
    has_next_page: bool = strawberry.field(description="Whether there is a next page.")
    skipped: int = strawberry.field(
        description=(
            "How many records of this page are left out, because HiEnergy sends them without an id "
            "or an owner. 0 otherwise."
        )
    )

    @classmethod
    def of(cls, page: Page[T]) -> Self:
        """Return the position of a page."""
        number = page.request.number
        return cls(
            current_page=number,
            per_page=page.request.size,
            next_page=number + 1 if page.has_more else None,
            prev_page=number - 1 if number > 1 else None,
            has_next_page=page.has_more,
            skipped=page.skipped,
        )


@strawberry.type(description=f"A page of contacts. {ORDER}")
class ContactPage:
    """The GraphQL type of a page of contacts."""

    nodes: Sequence[Contact] = strawberry.field(description="The contacts on this page.")
    page_info: Pagination = strawberry.field(description="The position of this page in the list.")


@strawberry.type(description=f"A page of advertisers. {ORDER}")
class AdvertiserPage:
    """The GraphQL type of a page of advertisers."""

    nodes: Sequence[Advertiser] = strawberry.field(description="The advertisers on this page.")
    page_info: Pagination = strawberry.field(description="The position of this page in the list.")
