"""One way to submit a contact on each face, and one shape of the answer."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx

from support.gateway import Gateway, credentials

# Any: tests check the shape of JSON themselves.
Json = Any


@dataclass(frozen=True, slots=True)
class Answer:
    """An outcome as its caller sees it, in the terms of the REST face."""

    outcome: str
    contact: Mapping[str, Json] | None = None
    problems: frozenset[tuple[str, str]] = frozenset()
    retry_after_seconds: int | None = None
    message: str | None = None
    # Not compared: the faces differ here.
    status: int = field(default=200, compare=False)
    headers: Mapping[str, str] = field(default_factory=dict, compare=False)
    request_id: str | None = field(default=None, compare=False)


class Face(Protocol):
    """One of the APIs."""

    async def submit(
        self,
        gateway: Gateway,
        contact: Mapping[str, Json],
        key: str | None,
        *,
        idempotency_key: str | None = None,
        dry_run: bool = False,
    ) -> Answer:
        """Submit a contact, with the field names of the published reference."""
        ...


class Rest:
    """The REST face."""

    async def submit(
        self,
        gateway: Gateway,
        contact: Mapping[str, Json],
        key: str | None,
        *,
        idempotency_key: str | None = None,
        dry_run: bool = False,
    ) -> Answer:
        headers = credentials(key)
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        response = await gateway.post_json(
            "/api/v1/contacts",
            {"contact": contact},
            headers,
            params={"dry_run": "true"} if dry_run else None,
        )
        body = response.json()
        if response.is_success:
            return Answer(
                outcome="PREVIEW" if dry_run else "CONTACT",
                contact=_resource(body["data"]),
                status=response.status_code,
                headers=response.headers,
            )
        return _error(body["error"], response)


CREATE_CONTACT = """
fragment Attributes on Contact {
  id advertiserId advertiserName email name givenName familyName phone jobTitle source status
  linkedinProfileUrl createdAt updatedAt
}
mutation ($input: CreateContactInput!, $idempotencyKey: String, $dryRun: Boolean = false) {
  createContact(input: $input, idempotencyKey: $idempotencyKey, dryRun: $dryRun) {
    __typename
    ... on Contact { ...Attributes }
    ... on ContactPreview {
      advertiserId advertiserName email name givenName familyName phone jobTitle source status
      linkedinProfileUrl
    }
    ... on ApiError { code message requestId }
    ... on InvalidInputError { problems { path code message } }
    ... on ConflictError { existing { ...Attributes } }
    ... on RateLimitedError { retryAfterSeconds }
    ... on OutcomeUnknownError { retryAfterSeconds advertiserId sentAt }
  }
}
"""


class GraphQL:
    """The GraphQL face."""

    async def submit(
        self,
        gateway: Gateway,
        contact: Mapping[str, Json],
        key: str | None,
        *,
        idempotency_key: str | None = None,
        dry_run: bool = False,
    ) -> Answer:
        variables = {
            "input": {_camel_case(name): value for name, value in contact.items()},
            "idempotencyKey": idempotency_key,
            "dryRun": dry_run,
        }
        response = await gateway.graphql(CREATE_CONTACT, key, variables)
        body = response.json()
        if "errors" in body:
            (error,) = body["errors"]
            assert error["extensions"] == {
                "code": "SERVICE_UNAVAILABLE",
                "retryAfterSeconds": int(response.headers["Retry-After"]),
                "requestId": response.headers["X-Request-Id"],
            }, body
            return Answer(
                outcome="SERVICE_UNAVAILABLE",
                message=error["message"],
                status=response.status_code,
                headers=response.headers,
            )
        member = body["data"]["createContact"]
        kind = member.pop("__typename")
        if kind in {"Contact", "ContactPreview"}:
            outcome = {"Contact": "CONTACT", "ContactPreview": "PREVIEW"}[kind]
            return Answer(
                outcome=outcome,
                contact=_attributes(member),
                status=response.status_code,
                headers=response.headers,
            )
        assert kind == TYPE_NAMES[member["code"]]
        existing = member.get("existing")
        return Answer(
            outcome=member["code"],
            contact=None if existing is None else _attributes(existing),
            problems=frozenset(
                (_rest_path(problem["path"]), problem["code"])
                for problem in member.get("problems", ())
            ),
            retry_after_seconds=member.get("retryAfterSeconds"),
            message=member["message"],
            request_id=member["requestId"],
            status=response.status_code,
            headers=response.headers,
        )


TYPE_NAMES = {
    "UNAUTHORIZED": "UnauthorizedError",
    "FORBIDDEN": "ForbiddenError",
    "RATE_LIMITED": "RateLimitedError",
    "INVALID_INPUT": "InvalidInputError",
    "IDEMPOTENCY_KEY_REUSED": "IdempotencyKeyReusedError",
    "NOT_FOUND": "NotFoundError",
    "CONFLICT": "ConflictError",
    "OUTCOME_UNKNOWN": "OutcomeUnknownError",
}


class Mcp:
    """The MCP face."""

    async def submit(
        self,
        gateway: Gateway,
        contact: Mapping[str, Json],
        key: str | None,
        *,
        idempotency_key: str | None = None,
        dry_run: bool = False,
    ) -> Answer:
        arguments: dict[str, Json] = {"contact": contact, "dry_run": dry_run}
        if idempotency_key is not None:
            arguments["idempotency_key"] = idempotency_key
        response = await gateway.mcp("add_contact", key, **arguments)
        result = response.json()["result"]
        body = result["structuredContent"]
        assert json.loads(result["content"][0]["text"]) == body
        assert result["isError"] is ("error" in body)
        if not result["isError"]:
            return Answer(
                outcome="PREVIEW" if dry_run else "CONTACT",
                contact=_resource(body["data"]),
                headers=response.headers,
            )
        return _error(body["error"], response)


FACES: Mapping[str, Face] = {"REST": Rest(), "GraphQL": GraphQL(), "MCP": Mcp()}


def _error(error: Mapping[str, Json], response: httpx.Response) -> Answer:
    details = error["details"]
    existing = details.get("existing")
    return Answer(
        outcome=error["code"],
        contact=None if existing is None else _resource(existing),
        problems=frozenset(
            (_header_path(problem["path"]), problem["code"])
            for problem in details.get("problems", ())
        ),
        retry_after_seconds=details.get("retry_after_seconds"),
        message=error["message"],
        status=response.status_code,
        headers=response.headers,
        request_id=error["request_id"],
    )


def _header_path(path: str) -> str:
    return "Idempotency-Key" if path == "idempotency_key" else path


def _resource(resource: Mapping[str, Json]) -> dict[str, Json]:
    assert resource["type"] == "contact"
    attributes = dict(resource["attributes"])
    return attributes | {"id": resource["id"], "advertiser_id": str(attributes["advertiser_id"])}


def _attributes(member: Mapping[str, Json]) -> dict[str, Json]:
    absent_from_a_preview = {"id": None, "created_at": None, "updated_at": None}
    return absent_from_a_preview | {_snake_case(name): value for name, value in member.items()}


def _rest_path(path: str) -> str:
    return _header_path(_snake_case(path.replace("input", "contact")))


def _camel_case(name: str) -> str:
    return re.sub("_([a-z])", lambda match: match[1].upper(), name)


def _snake_case(name: str) -> str:
    return re.sub("[A-Z]", lambda match: f"_{match[0].lower()}", name)
