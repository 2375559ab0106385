#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# dependencies = ["httpx>=0.28"]
# ///
"""Create a contact over GraphQL and handle each outcome.

    CONTACT_GATEWAY=http://127.0.0.1:8000 API_KEY=cgw_… uv run create_contact.py 2001 a@example.com

Print one line. The exit status is 0 if the contact was created, else 1.
"""

import os
import sys
import uuid
from typing import Any

import httpx

CREATE_CONTACT = """
mutation CreateContact($input: CreateContactInput!, $idempotencyKey: String) {
  createContact(input: $input, idempotencyKey: $idempotencyKey) {
    __typename
    ... on Contact { id email advertiserId }
    ... on ApiError { code message requestId }
    ... on InvalidInputError { problems { path message } }
    ... on ConflictError { existing { id } }
    ... on RateLimitedError { retryAfterSeconds }
    ... on OutcomeUnknownError { retryAfterSeconds }
  }
}
"""
ATTEMPTS = 3

# A JSON object of any shape.
Json = dict[str, Any]


def create_contact(client: httpx.Client, advertiser_id: str, email: str) -> Json:
    """Return the member of the union that the gateway answers with.

    All attempts have the same idempotency key, so a retry after a lost answer or a 503 creates no
    second contact.
    """
    body = {
        "query": CREATE_CONTACT,
        "variables": {
            "input": {"advertiserId": advertiser_id, "email": email},
            "idempotencyKey": str(uuid.uuid4()),
        },
    }
    for attempt in range(1, ATTEMPTS + 1):
        try:
            response = client.post("/graphql", json=body)
            answer: Json = response.json()
        except (httpx.TransportError, ValueError):
            if attempt == ATTEMPTS:
                raise
            continue
        match answer:
            case {"data": {"createContact": member}}:
                return dict(member)
            case {"errors": [{"extensions": {"code": "SERVICE_UNAVAILABLE"}}, *_]}:
                continue
            case _:
                # The document or its variables are invalid, or the gateway has a fault.
                raise SystemExit(f"unexpected answer ({response.status_code}): {answer}")
    raise SystemExit("the gateway is unavailable")


def describe(member: Json) -> tuple[bool, str]:
    """Return whether the contact was created, and a sentence about it."""
    match member:
        case {"__typename": "Contact", "id": contact_id, "advertiserId": owner}:
            return True, f"Created contact {contact_id} on HiEnergy advertiser {owner}."
        case {"__typename": "ConflictError", "existing": {"id": contact_id}}:
            return False, f"Contact {contact_id} already has this address."
        case {"__typename": "InvalidInputError", "problems": problems}:
            reasons = "; ".join(f"{problem['path']}: {problem['message']}" for problem in problems)
            return False, f"Invalid input: {reasons}"
        case {"__typename": "NotFoundError", "message": message}:
            return False, f"Advertiser not found: {message}"
        case {"__typename": "IdempotencyKeyReusedError"}:
            return False, "The idempotency key belongs to another submission."
        case {"__typename": "OutcomeUnknownError", "retryAfterSeconds": seconds}:
            return False, f"HiEnergy may have created the contact. Look again in {seconds} s."
        case {"__typename": "RateLimitedError", "retryAfterSeconds": seconds}:
            return False, f"Rate limit reached. Retry in {seconds} s."
        case {"__typename": "UnauthorizedError" | "ForbiddenError", "message": message}:
            return False, f"The API key was refused: {message}"
        case {"code": code, "message": message, "requestId": request_id}:
            return False, f"{code}: {message} (request {request_id})"
        case _:
            raise TypeError(member)


def main() -> int:
    """Create the contact that the arguments name."""
    _, advertiser_id, email = sys.argv
    with httpx.Client(
        base_url=os.environ["CONTACT_GATEWAY"],
        headers={"Authorization": f"Bearer {os.environ['API_KEY']}"},
        timeout=10,
    ) as client:
        created, sentence = describe(create_contact(client, advertiser_id, email))
    sys.stdout.write(f"{sentence}\n")
    return 0 if created else 1


if __name__ == "__main__":
    sys.exit(main())
