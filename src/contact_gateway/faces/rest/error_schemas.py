"""The errors of the REST face in its OpenAPI document: one schema for each code.

A status with one code has the document of that error. A status with several has one document, whose
`error` is one of them; the property `code` says which.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias, assert_never

from contact_gateway.contacts.outcomes import ErrorCode
from contact_gateway.contacts.problems import ProblemCode
from contact_gateway.faces.http import TransportCode
from contact_gateway.faces.rest.json_schema import (
    NUMBER,
    TEXT,
    TIME,
    Json,
    described,
    object_of,
    ref,
)
from contact_gateway.http_statuses import status_of

Code: TypeAlias = ErrorCode | TransportCode

READ_MEANINGS: Final[Mapping[Code, str]] = {
    ErrorCode.FORBIDDEN: "HiEnergy does not let the API key read this.",
    ErrorCode.NOT_FOUND: "The record does not exist.",
}
"""What a code means for a read, where it is not what it means for `createContact`."""


def by_status(codes: Iterable[Code]) -> Mapping[int, Sequence[Code]]:
    """Return the codes by their HTTP status, in the order of statuses."""
    found: dict[int, list[Code]] = {}
    for code in codes:
        status = code.status if isinstance(code, TransportCode) else status_of(code)
        found.setdefault(status, []).append(code)
    return dict(sorted(found.items()))


def document_name(codes: Iterable[Code]) -> str:
    """Return the name of the schema of a response document with one of these errors."""
    return "Or".join(_stem(code) for code in codes) + "ErrorDocument"


def _name(code: Code) -> str:
    """Return the name of the schema of an error: never `Error`, which is JavaScript's own."""
    return f"{_stem(code)}Error"


def _stem(code: Code) -> str:
    return "".join(word.capitalize() for word in code.removesuffix("_ERROR").split("_"))


def _document(codes: Sequence[Code]) -> dict[str, object]:
    error = ref("schemas", _name(codes[0])) if len(codes) == 1 else one_of(codes)
    return object_of({"error": error})


def one_of(codes: Iterable[Code]) -> dict[str, object]:
    """Return the schema of an error with one of several codes."""
    refs = {str(code): ref("schemas", _name(code)) for code in codes}
    mapping = {code: each["$ref"] for code, each in refs.items()}
    discriminator = {"propertyName": "code", "mapping": mapping}
    return {"oneOf": list(refs.values()), "discriminator": discriminator}


def _details_of(code: Code) -> dict[str, object]:
    """Return the schema of the details of an error. HiEnergy's refusals may have others too."""
    properties: Json = {}
    optional: Mapping[str, Json] = {}
    match code:
        case (
            ErrorCode.RATE_LIMITED
            | ErrorCode.SERVICE_UNAVAILABLE
            | TransportCode.SERVICE_UNAVAILABLE
            | TransportCode.SEARCH_TIMEOUT
        ):
            properties = {"retry_after_seconds": NUMBER}
        case ErrorCode.INVALID_INPUT:
            properties = {"problems": {"type": "array", "items": ref("schemas", "Problem")}}
        case ErrorCode.CONFLICT:
            # Absent only if HiEnergy reports a conflict without the contact.
            optional = {"existing": ref("schemas", "Contact")}
        case ErrorCode.OUTCOME_UNKNOWN:
            properties = {
                "retry_after_seconds": NUMBER,
                "advertiser_id": described(
                    NUMBER, "The advertiser that the contact was submitted for."
                ),
                "sent_at": described(TIME, "When the contact was sent to HiEnergy."),
            }
        case (
            TransportCode()
            | ErrorCode.UNAUTHORIZED
            | ErrorCode.FORBIDDEN
            | ErrorCode.IDEMPOTENCY_KEY_REUSED
            | ErrorCode.NOT_FOUND
            | ErrorCode.NOT_TRIED
        ):
            pass
        case _:
            assert_never(code)
    return object_of(
        properties,
        **optional,
        upstream_request_id=described(
            TEXT, "In front of HiEnergy: the id of the request in its logs."
        ),
    )


def _error(code: Code) -> dict[str, object]:
    return {
        "description": code.meaning,
        **object_of(
            {
                "code": {"type": "string", "const": str(code)},
                "message": described(TEXT, "What is wrong, for people."),
                "timestamp": TIME,
                "request_id": described(TEXT, "The `X-Request-Id` of the response."),
                "details": _details_of(code),
            }
        ),
    }


# A code of both the rules and the transport has the meaning of the rules.
_CODES: Final[Mapping[str, Code]] = {str(code): code for code in (*TransportCode, *ErrorCode)}

ERROR_SCHEMAS: Final[Mapping[str, Json]] = {
    "Problem": object_of(
        {
            "path": {"type": "string", "examples": ["contact.email"]},
            "code": {
                "type": "string",
                "enum": list(ProblemCode),
                "description": " ".join(f"`{code}`: {code.meaning}" for code in ProblemCode),
            },
            "message": TEXT,
        }
    ),
    **{_name(code): _error(code) for code in _CODES.values()},
    **{
        document_name(codes): _document(codes)
        for codes in (
            *((code,) for code in _CODES.values()),
            *by_status(_CODES.values()).values(),
        )
    },
}
"""The schemas of all errors and of their documents, by name."""
