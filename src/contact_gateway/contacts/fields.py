"""The types of input fields, with their limits.

Pydantic both validates each type and describes it as JSON Schema, so each limit is defined once.
Each function `valid_…` returns a value as its type stores it. If the value is invalid, it raises a
`ValueError` that Pydantic reports as a problem.
"""

import re
from functools import lru_cache
from typing import Annotated, Final

from email_validator import EmailNotValidError, validate_email
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainValidator,
    TypeAdapter,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError, PydanticKnownError, Url

from contact_gateway.contacts.problems import ProblemCode, refusal
from contact_gateway.contacts.text import BLANK_CLASS, normal, trimmed

MAX_ID: Final = 2**63 - 1
MAX_EMAIL_LENGTH: Final = 254
MAX_URL_LENGTH: Final = 2048
MAX_TEXT_LENGTH: Final = 255

ID_PATTERN: Final = "^[1-9][0-9]{0,18}$"
"""An id as a string, for JSON Schema. In input, zeros before it are allowed."""

PRINTABLE_PATTERN: Final = rf"^{BLANK_CLASS}*[^\x00-\x1f\x7f-\x9f]*{BLANK_CLASS}*$"
"""The characters of a text, for JSON Schema, whose strings cannot contain lone surrogates."""

_UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
# The host needs a letter or a digit. Credentials are refused: they would be stored in the clear.
_HTTP_URL: Final = re.compile(
    r"https?://(?=[^/?#]*[^\W_])[^\s/?#\\@]+(?:[/?#][^\s\\]*)?", re.IGNORECASE
)
# Addresses whose local part the library leaves unchanged, so only the domain has to be validated.
# Capitals are not among them: the library rewrites some local parts, such as POSTMASTER.
_PLAIN_ADDRESS: Final = re.compile(
    r"(?P<local_part>[a-z0-9]+(?:[._+-][a-z0-9]+)*)@(?P<domain>[A-Za-z0-9.-]+)"
)
# The NFC of a text has at least a fourth of its characters (Unicode Standard Annex 15, section 9).
_MAX_NORMALIZED_LENGTH: Final = 4 * MAX_TEXT_LENGTH
_FLAGS: Final = {"true": True, "1": True, "false": False, "0": False}


def _trimmed(value: object) -> str:
    """Trim a text, and only then refuse control characters: a line break at its end is a blank."""
    if not isinstance(value, str):
        raise PydanticKnownError("string_type")
    text = trimmed(value)
    if not text.isprintable() and _UNPRINTABLE.search(text):
        raise refusal(
            ProblemCode.INVALID_CHARACTERS,
            "Control characters, NUL and lone surrogates are not allowed.",
        )
    return text


def _limited(text: str, max_length: int) -> str:
    if len(text) > max_length:
        raise PydanticKnownError("string_too_long", {"max_length": max_length})
    return text


def valid_text(value: object) -> str | None:
    """Return a value as `Text` has it."""
    if value is None:
        return None
    # Most texts: the steps below do the same, and take three times as long.
    if isinstance(value, str) and value.isascii() and value.isprintable():
        text = value.strip(" ")
        if len(text) <= MAX_TEXT_LENGTH:
            return text or None
    text = _trimmed(value)
    # A text that is too long in any form is not normalised, since that takes time.
    if len(text) <= _MAX_NORMALIZED_LENGTH:
        text = normal(text)
    return _limited(text, MAX_TEXT_LENGTH) or None


def _required(value: object) -> str:
    text = valid_text("" if value is None else value)
    if text is None:
        raise refusal(ProblemCode.REQUIRED, "A value is required.")
    return text


def valid_email(value: object) -> str:
    """Return a value as `Email` has it."""
    text = _trimmed("" if value is None else value)
    if not text:
        raise refusal(ProblemCode.REQUIRED, "A value is required.")
    return normalize_email(_limited(text, MAX_EMAIL_LENGTH))


def _digits_as_number(value: object) -> object:
    if not isinstance(value, str):
        return value
    digits = value.removeprefix("-")
    if not (digits.isdecimal() and digits.isascii()):
        return value
    if digits != value:
        return -1
    # Twenty digits are too many for any id, and int() refuses thousands.
    return int(value.lstrip("0")[:20] or "0")


def _flag(value: object) -> object:
    flag = _FLAGS.get(value.lower()) if isinstance(value, str) else value
    if not isinstance(flag, bool):
        raise refusal(ProblemCode.INVALID_TYPE, "`true` or `false` is expected.")
    return flag


def normalize_email(value: str) -> str:
    """Return the address as the e-mail library normalises it, without a DNS lookup.

    Raises:
        PydanticCustomError: the text is not an address.
    """
    plain = _PLAIN_ADDRESS.fullmatch(value)
    if plain and len(value) <= MAX_EMAIL_LENGTH:
        domain = _normalized_domain(plain["domain"])
        if domain is not None:
            return f"{plain['local_part']}@{domain}"
    try:
        return validate_email(value, check_deliverability=False).normalized
    except EmailNotValidError as error:
        raise refusal(ProblemCode.INVALID_EMAIL, str(error)) from None


@lru_cache(maxsize=4096)
def _normalized_domain(domain: str) -> str | None:
    """Return the normalised domain; None if it is invalid or not ASCII.

    Cached: most of the validation time is spent on the domain, and most addresses share theirs.
    """
    try:
        normalized = validate_email(f"a@{domain}", check_deliverability=False).domain
    except EmailNotValidError:
        return None
    return normalized if normalized.isascii() else None


def valid_http_url(value: object) -> str | None:
    """Return a value as `HttpUrl` has it."""
    url = "" if value is None else _limited(_trimmed(value), MAX_URL_LENGTH)
    if not url:
        return None
    try:
        if not _HTTP_URL.fullmatch(url):
            raise ValueError(url)
        Url(url)
    except ValueError:
        raise refusal(
            ProblemCode.INVALID_URL, "An absolute http or https URL with a host is expected."
        ) from None
    return url


def _nullable_text(max_length: int, pattern: str) -> WithJsonSchema:
    """Return the JSON Schema of a text or null: one type, where Pydantic would write `anyOf`."""
    return WithJsonSchema({"type": ["string", "null"], "maxLength": max_length, "pattern": pattern})


Id = Annotated[
    int,
    Field(strict=True, ge=1, le=MAX_ID),
    BeforeValidator(_digits_as_number),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": MAX_ID},
                {"type": "string", "pattern": ID_PATTERN},
            ]
        }
    ),
]
"""A 64-bit id, as a number or as a string of digits, since JavaScript rounds large numbers."""

_ID: Final[TypeAdapter[int]] = TypeAdapter(Id)


def valid_id(value: object) -> int:
    """Return a value as `Id` has it."""
    number = _digits_as_number(value)
    if type(number) is int and 1 <= number <= MAX_ID:
        return number
    return _ID.validate_python(value)


def id_of(value: object) -> int | None:
    """Return the id that a value stands for, or None if it is none."""
    try:
        return valid_id(value)
    except ValueError:
        return None


PositiveNumber = Annotated[int, Field(strict=True, ge=1), BeforeValidator(_digits_as_number)]
"""A whole number from 1 on, as a number or as digits; the field sets its upper limit."""

Flag = Annotated[bool, BeforeValidator(_flag)]
"""A boolean, also as `true`, `1`, `false` or `0` in any case."""

Email = Annotated[
    str,
    PlainValidator(valid_email),
    WithJsonSchema({"type": "string", "maxLength": MAX_EMAIL_LENGTH, "format": "email"}),
]
"""A deliverable-looking e-mail address, trimmed and normalised."""

Text = Annotated[
    str | None, PlainValidator(valid_text), _nullable_text(MAX_TEXT_LENGTH, PRINTABLE_PATTERN)
]
"""One line of text: trimmed, in its normal form, and null if empty."""


def _normalized_if_valid(email: str | None) -> str | None:
    try:
        return email and normalize_email(email)
    except PydanticCustomError:
        return email


SearchedEmail = Annotated[Text, AfterValidator(_normalized_if_valid)]
"""An address to search for, normalised as stored ones are. Other text matches none."""

RequiredText = Annotated[
    str,
    PlainValidator(_required),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": MAX_TEXT_LENGTH}),
]
"""One line of text that is not empty after trimming."""

HttpUrl = Annotated[
    str | None,
    PlainValidator(valid_http_url),
    # Not the format `uri`: an empty text and surrounding blanks are valid too.
    _nullable_text(
        MAX_URL_LENGTH, rf"^{BLANK_CLASS}*([Hh][Tt][Tt][Pp][Ss]?://\S+)?{BLANK_CLASS}*$"
    ),
]
"""An absolute http or https URL with a host, trimmed but otherwise as written; null if empty."""
