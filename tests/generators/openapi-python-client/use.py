"""Uses the client that openapi-python-client has made."""

import os
from typing import assert_never

from generated import AuthenticatedClient
from generated.api.contacts import create_contact, get_contact
from generated.models import (
    BadRequestErrorDocument,
    ConflictErrorDocument,
    Contact,
    ContactDocument,
    ContactPreviewDocument,
    CreateContactSubmission,
    ExistingContactDocument,
    ForbiddenErrorDocument,
    InternalErrorDocument,
    InvalidInputOrIdempotencyKeyReusedErrorDocument,
    NewContact,
    NotFoundErrorDocument,
    OutcomeUnknownErrorDocument,
    PayloadTooLargeErrorDocument,
    RateLimitedErrorDocument,
    RequestTimeoutErrorDocument,
    ServiceUnavailableErrorDocument,
    UnauthorizedErrorDocument,
    UnsupportedMediaTypeErrorDocument,
)
from scenario import run


def client(key: str) -> AuthenticatedClient:
    """Return a client that presents an API key."""
    return AuthenticatedClient(
        base_url=f"{os.environ['CONTACT_GATEWAY']}/api/v1",
        token=key,
        prefix="",
        auth_header_name="X-Api-Key",
    )


def create(email: str, key: str, *, dry_run: bool = False) -> str:
    """Create a contact. Does not type-check unless each answer has a case."""
    contact = NewContact(advertiser_id=2001, email=email)
    document = create_contact.sync(
        client=client(key), body=CreateContactSubmission(contact=contact), dry_run=dry_run
    )
    match document:
        case None:
            return "an answer that is not documented"
        case ContactPreviewDocument():
            return "a preview"
        case (
            ContactDocument(data=Contact(id=an_id))
            | ExistingContactDocument(data=Contact(id=an_id))
        ):
            return f"contact {an_id}"
        case InvalidInputOrIdempotencyKeyReusedErrorDocument(error=error):
            if error.code == "INVALID_INPUT":
                return f"{error.code} {' '.join(each.path for each in error.details.problems)}"
            return error.code
        case ConflictErrorDocument(error=conflict):
            existing = conflict.details.existing
            return f"{conflict.code} {existing.id if existing else None}"
        case RateLimitedErrorDocument(error=limited):
            return f"{limited.code} {limited.details.retry_after_seconds:d}"
        case OutcomeUnknownErrorDocument(error=unknown):
            return f"{unknown.code} {unknown.details.retry_after_seconds:d}"
        case (
            BadRequestErrorDocument()
            | UnauthorizedErrorDocument()
            | ForbiddenErrorDocument()
            | NotFoundErrorDocument()
            | RequestTimeoutErrorDocument()
            | PayloadTooLargeErrorDocument()
            | UnsupportedMediaTypeErrorDocument()
            | InternalErrorDocument()
            | ServiceUnavailableErrorDocument()
        ):
            return document.error.code
        case _:
            assert_never(document)


def read(an_id: str, key: str) -> str:
    """Read a contact back."""
    document = get_contact.sync(an_id, client=client(key))
    assert isinstance(document, ContactDocument), document
    identity: str = document.data.id
    return f"contact {identity} {document.data.attributes.email}"


if __name__ == "__main__":
    run(create, read)
