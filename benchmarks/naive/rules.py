"""The naive peer's rules of createContact, numbered as contact-gateway numbers them."""

import hashlib
import hmac
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any
from urllib.parse import urlsplit

from email_validator import validate_email
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import joinedload

from benchmarks.naive.tables import Advertiser, ApiKey, Contact, IdempotencyRecord
from contact_gateway.access import api_keys

ErrorCode = Enum(
    "ErrorCode",
    "UNAUTHORIZED FORBIDDEN RATE_LIMITED INVALID_INPUT IDEMPOTENCY_KEY_REUSED NOT_FOUND CONFLICT",
)
ProblemCode = Enum(
    "ProblemCode",
    "REQUIRED INVALID_TYPE INVALID_CHARACTERS INVALID_EMAIL INVALID_URL INVALID_IDEMPOTENCY_KEY "
    "TOO_LONG OUT_OF_RANGE",
)


@dataclass
class Problem:
    """A problem of an input."""

    path: str
    code: ProblemCode
    message: str


class RefusedError(Exception):
    """A rule refuses the request."""

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        problems: Sequence[Problem] = (),
        existing: Contact | None = None,
    ) -> None:
        super().__init__(message)
        self.code, self.message = code, message
        self.problems, self.existing = problems, existing


@dataclass
class Submission:
    """The values of a request, before validation."""

    api_key_id: int
    contact: object
    idempotency_key: str | None
    dry_run: bool | str
    through: str
    request_id: str


@dataclass
class Outcome:
    """A created contact, one that an earlier request created, or a preview of one."""

    contact: Contact
    is_preview: bool
    is_replayed: bool = False


async def authenticate(session: AsyncSession, text: str | None) -> ApiKey:
    """Return the valid API key of a caller, by rule 1."""
    if not text:
        raise RefusedError(ErrorCode.UNAUTHORIZED, "An API key is required.")
    presented = api_keys.parse(text)
    if presented is None:
        raise RefusedError(ErrorCode.UNAUTHORIZED, "This is not an API key. Check for a typo.")
    key = await session.scalar(select(ApiKey).where(ApiKey.lookup == presented.lookup))
    if key is None or not hmac.compare_digest(key.secret_hash, presented.secret_hash):
        raise RefusedError(ErrorCode.UNAUTHORIZED, "Unknown API key.")
    if key.revoked_at is not None:
        raise RefusedError(ErrorCode.UNAUTHORIZED, "This API key has been revoked.")
    if key.expires_at is not None and key.expires_at <= _now():
        raise RefusedError(ErrorCode.UNAUTHORIZED, "This API key has expired.")
    return key


async def authenticate_admin(session: AsyncSession, text: str | None) -> int:
    """Return the id of an admin's API key, by rules 1 and 2."""
    key = await authenticate(session, text)
    if key.role != "admin":
        raise RefusedError(ErrorCode.FORBIDDEN, "Only an admin's API key may create contacts.")
    return key.id


async def create_contact(session: AsyncSession, submission: Submission) -> Outcome:
    """Create a contact for an admin, by rules 4 to 7."""
    details, is_preview = _validate(submission)
    try:
        return await _create(session, submission, details, is_preview=is_preview)
    except IntegrityError:
        # Another request inserted the address or the idempotency key after the lookup.
        await session.rollback()
        return await _create(session, submission, details, is_preview=is_preview)


async def _create(
    session: AsyncSession, submission: Submission, details: Mapping[str, Any], *, is_preview: bool
) -> Outcome:
    given = {name: value for name, value in details.items() if value is not None}
    canonical = json.dumps(given, sort_keys=True, separators=(",", ":"))
    fingerprint = hashlib.sha256(canonical.encode()).digest()
    key = submission.idempotency_key
    if (earlier := await _created_before(session, submission, fingerprint)) is not None:
        return Outcome(earlier, is_preview, is_replayed=True)
    owner = await _hienergy_record(session, details["advertiser_id"])
    email_key = details["email"].lower()
    existing = await session.scalar(
        select(Contact)
        .where(Contact.advertiser_id == owner.id, Contact.email_key == email_key)
        .options(joinedload(Contact.advertiser))
    )
    if existing is not None:
        # A request with the same idempotency key may have created it after the lookup.
        if (earlier := await _created_before(session, submission, fingerprint)) is not None:
            return Outcome(earlier, is_preview, is_replayed=True)
        message = "The HiEnergy advertiser already has a contact with this e-mail address."
        raise RefusedError(ErrorCode.CONFLICT, message, existing=existing)
    now = _now()
    contact = Contact(
        **{**details, "advertiser_id": owner.id},
        advertiser=owner,
        email_key=email_key,
        folded_text="\n".join(details[name].casefold() for name in _SEARCHED if details[name]),
        created_at=now,
        updated_at=now,
        created_by_key_id=submission.api_key_id,
        created_through=submission.through,
        created_by_request_id=submission.request_id,
    )
    if is_preview:
        return Outcome(contact, is_preview)
    session.add(contact)
    if key is not None:
        session.add(
            IdempotencyRecord(
                api_key_id=submission.api_key_id,
                idempotency_key=key,
                fingerprint=fingerprint,
                contact=contact,
                created_at=now,
            )
        )
    await session.commit()
    return Outcome(contact, is_preview)


async def _created_before(
    session: AsyncSession, submission: Submission, fingerprint: bytes
) -> Contact | None:
    """Return the contact that the idempotency key created, by rule 5."""
    if submission.idempotency_key is None:
        return None
    primary_key = submission.api_key_id, submission.idempotency_key
    contact = joinedload(IdempotencyRecord.contact).joinedload(Contact.advertiser)
    record = await session.get(IdempotencyRecord, primary_key, options=[contact])
    if record is None:
        return None
    if record.fingerprint != fingerprint:
        message = "This idempotency key was used before with a different input."
        raise RefusedError(ErrorCode.IDEMPOTENCY_KEY_REUSED, message)
    return record.contact


async def _hienergy_record(session: AsyncSession, advertiser_id: int) -> Advertiser:
    submitted = await session.get(Advertiser, advertiser_id)
    if submitted is not None and submitted.hienergy_id is not None:
        owner = await session.get(Advertiser, submitted.hienergy_id)
        if owner is not None and owner.network_name == "HiEnergy":
            return owner
    message = "The advertiser does not resolve to a HiEnergy advertiser."
    raise RefusedError(ErrorCode.NOT_FOUND, message)


def id_or_none(text: str) -> int | None:
    """Return the id in a text, or None if no record can have it."""
    try:
        return _id(text)
    except _InvalidError:
        return None


def _now() -> datetime:
    now = datetime.now(UTC).replace(tzinfo=None)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


class _InvalidError(ValueError):
    def __init__(self, code: ProblemCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def _validate(submission: Submission) -> tuple[dict[str, Any], bool]:
    """Return the contact's fields and whether this is a dry run, by rule 4."""
    problems: list[Problem] = []
    raw, details = submission.contact, {}
    if raw is None:
        problems.append(Problem("contact", ProblemCode.REQUIRED, "A `contact` is required."))
    elif not isinstance(raw, dict):
        problems.append(Problem("contact", ProblemCode.INVALID_TYPE, "An object is expected."))
    else:
        for name, read in FIELDS.items():
            try:
                details[name] = read(raw.get(name))
            except _InvalidError as invalid:
                problems.append(Problem(f"contact.{name}", invalid.code, str(invalid)))
        if details.get("name", "") is None:
            names = details.get("given_name"), details.get("family_name")
            details["name"] = " ".join(filter(None, names)) or None
            if len(details["name"] or "") > _MAX_TEXT:
                message = "The given and the family name, joined, are too long. Send a `name`."
                problems.append(Problem("contact.name", ProblemCode.TOO_LONG, message))
    key = submission.idempotency_key
    if key is not None and not re.fullmatch("[\x21-\x7e]{1,255}", key):
        code, message = ProblemCode.INVALID_IDEMPOTENCY_KEY, "1 to 255 visible ASCII characters."
        problems.append(Problem("idempotency_key", code, message))
    dry_run = str(submission.dry_run).lower()
    if dry_run not in {"true", "false", "1", "0"}:
        code, message = ProblemCode.INVALID_TYPE, "`true` or `false` is expected."
        problems.append(Problem("dry_run", code, message))
    if problems:
        message = f"The input has {len(problems)} problem(s)."
        raise RefusedError(ErrorCode.INVALID_INPUT, message, problems)
    return details, dry_run in {"true", "1"}


def _id(value: object) -> int:
    if value is None or value == "":
        raise _InvalidError(ProblemCode.REQUIRED, "A value is required.")
    if isinstance(value, str) and re.fullmatch("-?[0-9]{1,99}", value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _InvalidError(ProblemCode.INVALID_TYPE, "A whole number is expected.")
    if not 1 <= value < 2**63:
        raise _InvalidError(ProblemCode.OUT_OF_RANGE, "An id is positive and has 64 bits.")
    return value


def _string(value: object, max_length: int) -> str:
    if not isinstance(value, str):
        raise _InvalidError(ProblemCode.INVALID_TYPE, "A string is expected.")
    if re.search("[\x00-\x1f\x7f-\x9f\ud800-\udfff]", value):
        raise _InvalidError(ProblemCode.INVALID_CHARACTERS, "Control characters are not allowed.")
    if len(value.strip()) > max_length:
        raise _InvalidError(ProblemCode.TOO_LONG, f"At most {max_length} characters are allowed.")
    return value


def _email(value: object) -> str:
    if value is None or value == "":
        raise _InvalidError(ProblemCode.REQUIRED, "A value is required.")
    text = _string(value, _MAX_EMAIL)
    try:
        return validate_email(text, check_deliverability=False).normalized
    except ValueError as error:
        raise _InvalidError(ProblemCode.INVALID_EMAIL, str(error)) from None


def _text(value: object) -> str | None:
    return None if value is None else _string(value, _MAX_TEXT).strip() or None


def _url(value: object) -> str | None:
    url = "" if value is None else _string(value, _MAX_URL).strip()
    try:
        is_url = re.fullmatch(r"https?://[^\s\\@]+", url, re.IGNORECASE) and urlsplit(url).hostname
    except ValueError:
        is_url = None
    if url and not is_url:
        raise _InvalidError(ProblemCode.INVALID_URL, "An absolute http or https URL is expected.")
    return url or None


_MAX_EMAIL = 254
_MAX_TEXT = 255
_MAX_URL = 2048
_SEARCHED = ("email", "name", "given_name", "family_name", "job_title", "phone")
FIELDS: Mapping[str, Callable[[object], Any]] = {
    "advertiser_id": _id,
    "email": _email,
    **dict.fromkeys(("name", "given_name", "family_name", "phone", "job_title"), _text),
    **dict.fromkeys(("source", "status"), _text),
    "linkedin_profile_url": _url,
}
