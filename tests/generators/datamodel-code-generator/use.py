"""Uses the models that datamodel-code-generator has made, with httpx."""

import os
from typing import Annotated, assert_never

import httpx
from generated import (
    BadRequestError,
    ConflictError,
    ContactDocument,
    ContactPreviewDocument,
    CreateContactSubmission,
    ForbiddenError,
    IdempotencyKeyReusedError,
    InternalError,
    InvalidInputError,
    NotFoundError,
    OutcomeUnknownError,
    PayloadTooLargeError,
    RateLimitedError,
    RequestTimeoutError,
    ServiceUnavailableError,
    UnauthorizedError,
    UnsupportedMediaTypeError,
)
from pydantic import BaseModel, Field
from scenario import run

ADDRESS = f"{os.environ['CONTACT_GATEWAY']}/api/v1/contacts"


class ErrorDocument(BaseModel):
    """The body of any refused creation."""

    error: Annotated[
        BadRequestError
        | UnauthorizedError
        | ForbiddenError
        | NotFoundError
        | RequestTimeoutError
        | ConflictError
        | PayloadTooLargeError
        | UnsupportedMediaTypeError
        | InvalidInputError
        | IdempotencyKeyReusedError
        | RateLimitedError
        | InternalError
        | ServiceUnavailableError
        | OutcomeUnknownError,
        Field(discriminator="code"),
    ]


def create(email: str, key: str, *, dry_run: bool = False) -> str:
    """Create a contact. Does not type-check unless each error has a case."""
    submission = {"contact": {"advertiser_id": 2001, "email": email}}
    if email:
        checked = CreateContactSubmission.model_validate(submission)
        submission = checked.model_dump(mode="json", exclude_unset=True)
    response = httpx.post(
        ADDRESS,
        json=submission,
        params={"dry_run": dry_run},
        headers={"X-Api-Key": key},
        trust_env=False,
    )
    if response.status_code == httpx.codes.OK:
        preview = ContactPreviewDocument.model_validate_json(response.content)
        return "a preview" if preview.data.id is None else "a contact"
    if response.status_code == httpx.codes.CREATED:
        an_id: str = ContactDocument.model_validate_json(response.content).data.id
        return f"contact {an_id}"
    error = ErrorDocument.model_validate_json(response.content).error
    match error:
        case InvalidInputError(details=details):
            return f"{error.code} {' '.join(each.path for each in details.problems)}"
        case ConflictError(details=conflict):
            return f"{error.code} {conflict.existing.id if conflict.existing else None}"
        case RateLimitedError(details=limit):
            return f"{error.code} {limit.retry_after_seconds:d}"
        case OutcomeUnknownError(details=unknown):
            return f"{error.code} {unknown.retry_after_seconds:d}"
        case (
            BadRequestError()
            | UnauthorizedError()
            | ForbiddenError()
            | NotFoundError()
            | RequestTimeoutError()
            | PayloadTooLargeError()
            | UnsupportedMediaTypeError()
            | IdempotencyKeyReusedError()
            | InternalError()
            | ServiceUnavailableError()
        ):
            return error.code
        case _:
            assert_never(error)


def read(an_id: str, key: str) -> str:
    """Read a contact back."""
    response = httpx.get(f"{ADDRESS}/{an_id}", headers={"X-Api-Key": key}, trust_env=False)
    contact = ContactDocument.model_validate_json(response.content).data
    return f"contact {contact.id} {contact.attributes.email}"


if __name__ == "__main__":
    run(create, read)
