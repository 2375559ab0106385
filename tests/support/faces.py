"""One way to submit a contact on each face, and one shape of the answer."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
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
    is_replay: bool = field(default=False, compare=False)


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
        return _answer(response.json(), response)


MEMBERS = """
fragment Attributes on Contact {
  id advertiserId advertiserName email name givenName familyName phone jobTitle source status
  linkedinProfileUrl createdAt updatedAt
}
fragment Members on CreateContactResult {
  __typename
  ... on Contact { ...Attributes existed }
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
"""
CREATE_CONTACT = (
    MEMBERS
    + """
mutation ($input: CreateContactInput!, $idempotencyKey: String, $dryRun: Boolean = false) {
  createContact(input: $input, idempotencyKey: $idempotencyKey, dryRun: $dryRun) { ...Members }
}
"""
)


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
        return _member_answer(body["data"]["createContact"], response)


TYPE_NAMES = {
    "UNAUTHORIZED": "UnauthorizedError",
    "FORBIDDEN": "ForbiddenError",
    "RATE_LIMITED": "RateLimitedError",
    "INVALID_INPUT": "InvalidInputError",
    "IDEMPOTENCY_KEY_REUSED": "IdempotencyKeyReusedError",
    "NOT_FOUND": "NotFoundError",
    "CONFLICT": "ConflictError",
    "OUTCOME_UNKNOWN": "OutcomeUnknownError",
    "SERVICE_UNAVAILABLE": "ServiceUnavailableError",
    "NOT_TRIED": "NotTriedError",
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
        return _answer(body, response)


FACES: Mapping[str, Face] = {"REST": Rest(), "GraphQL": GraphQL(), "MCP": Mcp()}


def _answer(body: Mapping[str, Json], response: httpx.Response) -> Answer:
    """Return the answer that a document of REST is, which may be an entry of a batch."""
    status = body.get("status", response.status_code)
    if "data" in body:
        is_preview = "dry_run" in body["meta"]
        outcome = "EXISTING" if "existed" in body["meta"] else "CONTACT"
        return Answer(
            outcome="PREVIEW" if is_preview else outcome,
            contact=_resource(body["data"]),
            status=status,
            headers=response.headers,
            is_replay=body["meta"].get("replayed", False),
        )
    error = body["error"]
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
        status=status,
        headers=response.headers,
        request_id=error["request_id"],
    )


def _member_answer(member: dict[str, Json], response: httpx.Response) -> Answer:
    """Return the answer that a member of `CreateContactResult` is."""
    kind = member.pop("__typename")
    existed = member.pop("existed", False)
    if kind in {"Contact", "ContactPreview"}:
        outcome = {"Contact": "CONTACT", "ContactPreview": "PREVIEW"}[kind]
        return Answer(
            outcome="EXISTING" if existed else outcome,
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
            (_rest_path(problem["path"]), problem["code"]) for problem in member.get("problems", ())
        ),
        retry_after_seconds=member.get("retryAfterSeconds"),
        message=member["message"],
        request_id=member["requestId"],
        status=response.status_code,
        headers=response.headers,
    )


@dataclass(frozen=True, slots=True)
class BatchAnswer:
    """The answer to a batch: the answers to its entries, or the refusal of the whole."""

    answers: Sequence[Answer] = ()
    refusal: Answer | None = None
    counts: Mapping[str, int] = field(default_factory=dict)


class BatchFace(Protocol):
    """The batches of one of the APIs."""

    async def submit(
        self, gateway: Gateway, contacts: object, key: str | None, **options: Json
    ) -> BatchAnswer:
        """Submit contacts with the field names of the published reference.

        Each may have an `idempotency_key`. The options are `dry_run`, `on_conflict`, and
        `idempotency_key` for the whole batch.
        """
        ...


class RestBatch:
    """`POST /contacts/batch`."""

    async def submit(
        self, gateway: Gateway, contacts: object, key: str | None, **options: Json
    ) -> BatchAnswer:
        headers = credentials(key)
        if "idempotency_key" in options:
            headers["Idempotency-Key"] = options.pop("idempotency_key")
        response = await gateway.post_json(
            "/api/v1/contacts/batch", {"contacts": contacts}, headers, params=options
        )
        return _batch_answer(response.json(), response)


class McpBatch:
    """The tool `add_contacts`."""

    async def submit(
        self, gateway: Gateway, contacts: object, key: str | None, **options: Json
    ) -> BatchAnswer:
        response = await gateway.mcp("add_contacts", key, contacts=contacts, **options)
        result = response.json()["result"]
        assert result["isError"] is ("error" in result["structuredContent"])
        return _batch_answer(result["structuredContent"], response)


CREATE_CONTACTS = (
    MEMBERS
    + """
mutation ($submissions: [ContactSubmission!]!, $dryRun: Boolean, $onConflict: OnConflict) {
  createContacts(submissions: $submissions, dryRun: $dryRun, onConflict: $onConflict) {
    __typename
    ... on CreateContactsPayload {
      created existed refused
      results {
        index replayed
        result {
          ...Members
          __typename
          ... on ApiError { code message requestId }
          ... on ServiceUnavailableError { retryAfterSeconds }
        }
      }
    }
    ... on ApiError { code message requestId }
    ... on InvalidInputError { problems { path code message } }
    ... on RateLimitedError { retryAfterSeconds }
  }
}
"""
)


class GraphQLBatch:
    """The mutation `createContacts`."""

    async def submit(
        self, gateway: Gateway, contacts: object, key: str | None, **options: Json
    ) -> BatchAnswer:
        assert isinstance(contacts, list)
        submissions = []
        for each in contacts:
            fields = {_camel_case(name): value for name, value in each.items()}
            own_key = fields.pop("idempotencyKey", None)
            submissions.append({"contact": fields, "idempotencyKey": own_key})
        variables: dict[str, Json] = {"submissions": submissions}
        variables["dryRun"] = bool(options.get("dry_run"))
        variables["onConflict"] = options.get("on_conflict", "refuse").upper()
        headers = credentials(key)
        if "idempotency_key" in options:
            headers["Idempotency-Key"] = options["idempotency_key"]
        response = await gateway.post_json(
            "/graphql", {"query": CREATE_CONTACTS, "variables": variables}, headers
        )
        body = response.json()
        assert "errors" not in body, body
        member = body["data"]["createContacts"]
        if member["__typename"] != "CreateContactsPayload":
            return BatchAnswer(refusal=_member_answer(member, response))
        results = member["results"]
        assert [each["index"] for each in results] == list(range(len(results)))
        answers = [
            replace(_member_answer(each["result"], response), is_replay=each["replayed"])
            for each in results
        ]
        counts = {name: member[name] for name in ("created", "existed", "refused")}
        return BatchAnswer(answers, counts=counts)


BATCH_FACES: Mapping[str, BatchFace] = {
    "REST": RestBatch(),
    "GraphQL": GraphQLBatch(),
    "MCP": McpBatch(),
}


def _batch_answer(body: Mapping[str, Json], response: httpx.Response) -> BatchAnswer:
    if "error" in body:
        return BatchAnswer(refusal=_answer(body, response))
    assert [each["index"] for each in body["data"]] == list(range(len(body["data"])))
    return BatchAnswer([_answer(each, response) for each in body["data"]], counts=body["meta"])


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
    names = path.split(".")
    if names[0] == "submissions":
        # REST has the fields of a contact and its idempotency key side by side.
        return _snake_case(
            ".".join(["contacts", *(name for name in names[1:] if name != "contact")])
        )
    return _header_path(_snake_case(path.replace("input", "contact")))


def _camel_case(name: str) -> str:
    return re.sub("_([a-z])", lambda match: match[1].upper(), name)


def _snake_case(name: str) -> str:
    return re.sub("[A-Z]", lambda match: f"_{match[0].lower()}", name)
