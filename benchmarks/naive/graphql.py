"""The naive peer's GraphQL types, queries and mutation."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import strawberry
from graphql import GraphQLError
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import joinedload
from strawberry.utils.str_converters import to_camel_case

from benchmarks.naive import rules, tables
from benchmarks.naive.rules import ErrorCode, ProblemCode, RefusedError, Submission
from benchmarks.naive.tables import sessions

strawberry.enum(ErrorCode)
strawberry.enum(ProblemCode)


@dataclass
class _Texts:
    name: str | None = None
    given_name: str | None = None
    family_name: str | None = None
    phone: str | None = None
    job_title: str | None = None
    source: str | None = None
    status: str | None = None
    linkedin_profile_url: str | None = None


@strawberry.input
class CreateContactInput(_Texts):
    """A contact to create."""

    advertiser_id: strawberry.ID
    email: str


@strawberry.type
class ContactPreview(_Texts):
    """The contact that a dry run would have created."""

    advertiser_id: strawberry.ID
    advertiser_name: str | None
    email: str


@strawberry.type
class Contact(ContactPreview):
    """A contact of a HiEnergy advertiser."""

    id: strawberry.ID
    created_at: datetime
    updated_at: datetime


@strawberry.type
class Pagination:
    """The position of a page in its list."""

    current_page: int
    per_page: int
    next_page: int | None
    prev_page: int | None
    has_next_page: bool


@strawberry.type
class ContactPage:
    """A page of contacts."""

    nodes: list[Contact]
    page_info: Pagination


@strawberry.type
class InputProblem:
    """A problem of an input."""

    path: str
    code: ProblemCode
    message: str


@strawberry.interface
class ApiError:
    """The reason of a refusal."""

    code: ErrorCode
    message: str
    request_id: strawberry.ID


@strawberry.type
class UnauthorizedError(ApiError):
    """Rule 1."""


@strawberry.type
class ForbiddenError(ApiError):
    """Rule 2."""


@strawberry.type
class RateLimitedError(ApiError):
    """Rule 3, which is not implemented."""

    retry_after_seconds: int


@strawberry.type
class InvalidInputError(ApiError):
    """Rule 4."""

    problems: list[InputProblem]


@strawberry.type
class IdempotencyKeyReusedError(ApiError):
    """Rule 5."""


@strawberry.type
class NotFoundError(ApiError):
    """Rule 6."""


@strawberry.type
class ConflictError(ApiError):
    """Rule 7."""

    existing: Contact


_Result = (
    Contact
    | ContactPreview
    | UnauthorizedError
    | ForbiddenError
    | NotFoundError
    | InvalidInputError
    | ConflictError
    | IdempotencyKeyReusedError
    | RateLimitedError
)


@dataclass
class Context:
    """The request's headers that resolvers read."""

    api_key: str | None
    request_id: str


CreateContactResult = Annotated[_Result, strawberry.union("CreateContactResult")]
Info = strawberry.Info[Context, None]


@strawberry.type
class Query:
    """Reads, for any valid API key."""

    @strawberry.field
    async def contact(
        self,
        info: Info,
        id: strawberry.ID,  # noqa: A002 - the contract's name
    ) -> Contact | None:
        """One contact."""
        async with _session(info.context) as session:
            row = await session.scalar(_CONTACTS.where(tables.Contact.id == rules.id_or_none(id)))
            return None if row is None else _contact(row)

    @strawberry.field
    async def contacts(  # noqa: PLR0913, PLR0917 - the contract's arguments
        self,
        info: Info,
        advertiser_id: strawberry.ID | None = None,
        email: str | None = None,
        q: str | None = None,
        page: int | None = None,
        per_page: int | None = None,
    ) -> ContactPage | None:
        """Contacts, newest first."""
        number, size = 1 if page is None else page, 25 if per_page is None else per_page
        any_id = None if advertiser_id is None else rules.id_or_none(advertiser_id)
        query = _CONTACTS.order_by(tables.Contact.id.desc())
        async with _session(info.context) as session:
            if number < 1 or not 1 <= size <= _MAX_PAGE_SIZE or (advertiser_id and not any_id):
                raise RefusedError(ErrorCode.INVALID_INPUT, "The page or its filter is invalid.")
            if any_id is not None:
                advertiser = await session.get(tables.Advertiser, any_id)
                owner_id = None if advertiser is None else advertiser.hienergy_id
                query = query.where(tables.Contact.advertiser_id == owner_id)
            if email:
                query = query.where(tables.Contact.email_key == email.strip().lower())
            if q:
                folded = q.strip().casefold()
                query = query.where(tables.Contact.folded_text.contains(folded, autoescape=True))
            found = await session.scalars(query.offset((number - 1) * size).limit(size + 1))
            nodes = [_contact(row) for row in found]
        has_more = len(nodes) > size
        return ContactPage(
            nodes=nodes[:size],
            page_info=Pagination(
                current_page=number,
                per_page=size,
                next_page=number + 1 if has_more else None,
                prev_page=number - 1 if number > 1 else None,
                has_next_page=has_more,
            ),
        )


@strawberry.type
class Mutation:
    """Changes, for an admin's API key."""

    @strawberry.mutation
    async def create_contact(
        self,
        info: Info,
        input: CreateContactInput,  # noqa: A002 - the contract's name
        idempotency_key: str | None = None,
        *,
        dry_run: bool = False,
    ) -> CreateContactResult:
        """Create a contact on the HiEnergy record of the submitted advertiser."""
        request_id = info.context.request_id
        try:
            async with sessions() as session:
                key_id = await rules.authenticate_admin(session, info.context.api_key)
                submission = Submission(
                    key_id, asdict(input), idempotency_key, dry_run, "graphql", request_id
                )
                outcome = await rules.create_contact(session, submission)
        except RefusedError as refused:
            return _error(refused, request_id)
        if outcome.is_preview:
            return ContactPreview(**_shared(outcome.contact))
        return _contact(outcome.contact)


schema = strawberry.Schema(query=Query, mutation=Mutation)

_CONTACTS = select(tables.Contact).options(joinedload(tables.Contact.advertiser))
_MAX_PAGE_SIZE = 100
_ERRORS: Mapping[ErrorCode, Callable[..., _Result]] = {
    ErrorCode.UNAUTHORIZED: UnauthorizedError,
    ErrorCode.FORBIDDEN: ForbiddenError,
    ErrorCode.IDEMPOTENCY_KEY_REUSED: IdempotencyKeyReusedError,
    ErrorCode.NOT_FOUND: NotFoundError,
}


@asynccontextmanager
async def _session(context: Context) -> AsyncIterator[AsyncSession]:
    """Yield a session for a valid API key. Raise refusals as GraphQL errors."""
    try:
        async with sessions() as session:
            await rules.authenticate(session, context.api_key)
            yield session
    except RefusedError as refused:
        raise GraphQLError(refused.message, extensions={"code": refused.code.name}) from None


def _contact(row: tables.Contact) -> Contact:
    return Contact(
        id=strawberry.ID(str(row.id)),
        created_at=row.created_at.replace(tzinfo=UTC),
        updated_at=row.updated_at.replace(tzinfo=UTC),
        **_shared(row),
    )


def _shared(row: tables.Contact) -> dict[str, Any]:
    return {
        **{name: getattr(row, name) for name in rules.FIELDS},
        "advertiser_id": strawberry.ID(str(row.advertiser_id)),
        "advertiser_name": row.advertiser.title,
    }


def _error(refused: RefusedError, request_id: str) -> _Result:
    fields: dict[str, Any] = {
        "code": refused.code,
        "message": refused.message,
        "request_id": strawberry.ID(request_id),
    }
    if refused.existing is not None:
        return ConflictError(existing=_contact(refused.existing), **fields)
    if refused.code is ErrorCode.INVALID_INPUT:
        return InvalidInputError(problems=[_problem(each) for each in refused.problems], **fields)
    return _ERRORS[refused.code](**fields)


def _problem(problem: rules.Problem) -> InputProblem:
    path = to_camel_case(problem.path.replace("contact", "input", 1))
    return InputProblem(path=path, code=problem.code, message=problem.message)
