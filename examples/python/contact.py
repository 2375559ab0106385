"""Create a contact, print the outcome, and list the contacts of its advertiser.

The exit status is 0 if the contact was created, else 1.
"""

import os
import sys
import time
import uuid
from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Final, assert_never

import httpx
from gateway_client import (
    Client,
    ContactsContactsNodes,
    CreateContact,
    CreateContactInput,
    GraphQLClientError,
)
from pydantic import ValidationError

ATTEMPTS: Final = 4
LONGEST_WAIT_SECONDS: Final = 60
RETRIED: Final = {408, 429, 500, 502, 503, 504}


class RetryingTransport(httpx.HTTPTransport):
    """Repeats a request after a lost answer or a passing error, when `Retry-After` says so."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Return the last response."""
        for _ in range(1, ATTEMPTS):
            seconds = 1
            try:
                response = super().handle_request(request)
                # Read the body here, so that an answer that breaks off counts as lost.
                response.read()
            except httpx.TransportError:
                pass
            else:
                seconds = int(response.headers.get("Retry-After", seconds))
                if response.status_code not in RETRIED or seconds > LONGEST_WAIT_SECONDS:
                    return response
            time.sleep(seconds)
        return super().handle_request(request)


def create_contact(client: Client, submission: CreateContactInput, key: str) -> CreateContact:
    """Create a contact. Repeat the call while the outcome says when to.

    All attempts have the same idempotency key, so they create one contact at most.
    """
    for _ in range(1, ATTEMPTS):
        result = client.create_contact(submission, idempotency_key=key)
        outcome = result.create_contact
        match outcome.typename__:
            case "RateLimitedError" | "OutcomeUnknownError":
                if outcome.retry_after_seconds > LONGEST_WAIT_SECONDS:
                    return result
                time.sleep(outcome.retry_after_seconds)
            case _:
                return result
    return client.create_contact(submission, idempotency_key=key)


def describe(result: CreateContact, key: str) -> str:
    """Describe an outcome. A member of the union without a case is a type error."""
    outcome = result.create_contact
    match outcome.typename__:
        case "Contact":
            return f"Created contact {outcome.id} on HiEnergy advertiser {outcome.advertiser_id}."
        case "ContactPreview":
            return f"A dry run: nothing was created on HiEnergy advertiser {outcome.advertiser_id}."
        case "ConflictError":
            existing = outcome.existing.id if outcome.existing else "(not shown)"
            return f"Contact {existing} already has this address."
        case "InvalidInputError":
            problems = (f"{problem.path}: {problem.message}" for problem in outcome.problems)
            return f"Invalid input: {'; '.join(problems)}"
        case "NotFoundError":
            return f"Advertiser not found: {outcome.message}"
        case "IdempotencyKeyReusedError":
            return "The idempotency key belongs to another submission."
        case "OutcomeUnknownError":
            return f"HiEnergy may have created the contact. Run this again with the key {key}."
        case "RateLimitedError":
            return f"Rate limit reached. Retry in {outcome.retry_after_seconds} s."
        case "UnauthorizedError" | "ForbiddenError":
            return f"The API key was refused: {outcome.message}"
        case _:
            assert_never(outcome)


def contacts_of(client: Client, advertiser_id: str) -> Iterator[ContactsContactsNodes]:
    """Yield the contacts of a brand, by the id of any of its records, page after page."""
    page: int | None = 1
    while page:
        listed = client.contacts(advertiser_id, page).contacts
        if listed is None:
            return
        yield from listed.nodes
        page = listed.page_info.next_page


def main() -> int:
    """Create the contact that the arguments name."""
    parser = ArgumentParser(description="Create a contact.")
    parser.add_argument("advertiser_id", help="the id of any of the brand's records")
    parser.add_argument("email")
    parser.add_argument("key", nargs="?", default=str(uuid.uuid4()), help="an idempotency key")
    arguments = parser.parse_args()
    if not os.environ.keys() >= {"CONTACT_GATEWAY", "API_KEY"}:
        parser.error("set CONTACT_GATEWAY and API_KEY")
    http = httpx.Client(
        headers={"X-Api-Key": os.environ["API_KEY"]}, transport=RetryingTransport(), timeout=60
    )
    with Client(f"{os.environ['CONTACT_GATEWAY']}/graphql", http_client=http) as client:
        submission = CreateContactInput(advertiserId=arguments.advertiser_id, email=arguments.email)
        try:
            result = create_contact(client, submission, arguments.key)
        except (httpx.TransportError, GraphQLClientError, ValidationError) as error:
            sys.exit(f"No outcome: {error}. Run this again with the key {arguments.key}.")
        print(describe(result, arguments.key))
        outcome = result.create_contact
        if outcome.typename__ != "Contact":
            return 1
        for contact in contacts_of(client, outcome.advertiser_id):
            print(contact.id, contact.email, contact.created_at)
        return 0


if __name__ == "__main__":
    sys.exit(main())
