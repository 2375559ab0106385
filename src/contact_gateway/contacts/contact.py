"""Contacts: their fields, and how raw input becomes a contact or a list of problems."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Generic, NamedTuple, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.fields import (
    MAX_TEXT_LENGTH,
    Email,
    HttpUrl,
    Id,
    Text,
    valid_email,
    valid_http_url,
    valid_id,
    valid_text,
)
from contact_gateway.contacts.problems import Problem, ProblemCode, problems_of
from contact_gateway.contacts.timestamps import Timestamp

_PATH: Final = "contact"
_CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"))

EmailT_co = TypeVar("EmailT_co", bound=str | None, covariant=True)


class ContactDetails(NamedTuple, Generic[EmailT_co]):
    """The fields that a submission, a preview and a contact share.

    A submission has an e-mail address; a contact of HiEnergy may have none. A place that names the
    fields names all of them, so the type checker reports each place that a new field is missing
    from. Source: the published reference of `createContact`.
    """

    advertiser_id: int
    email: EmailT_co
    name: str | None
    given_name: str | None
    family_name: str | None
    phone: str | None
    job_title: str | None
    source: str | None
    status: str | None
    linkedin_profile_url: str | None


class NewContact(ContactDetails[str]):
    """A valid submission. `advertiser_id` is the submitted one, not resolved yet."""

    __slots__ = ()

    def given(self) -> dict[str, object]:
        """Return the fields that are not null, by the names of the published reference."""
        named = zip(self._fields, self, strict=True)
        return {field: value for field, value in named if value is not None}

    def fingerprint(self) -> bytes:
        """Return a SHA-256 (32 bytes) that is equal for equal submissions.

        Null fields do not count, so a field added in a later version leaves old fingerprints valid.
        """
        return hashlib.sha256(_CANONICAL.encode(self.given()).encode()).digest()

    def has_values_of(self, contact: "Contact") -> bool:
        """Return whether a contact of the same address and owner has all the other values too."""
        shown = contact.details
        return self == shown._replace(advertiser_id=self.advertiser_id, email=self.email)


class ContactPreview(NamedTuple):
    """The contact that a submission would create, on the HiEnergy record that would own it."""

    details: ContactDetails[str | None]
    advertiser_name: str | None
    not_checked: tuple[str, ...] = ()

    @classmethod
    def of(cls, submitted: NewContact, owner: Advertiser) -> "ContactPreview":
        """Return the preview of a submission on the HiEnergy record `owner`."""
        return cls(submitted._replace(advertiser_id=owner.id), owner.title)


class Contact(NamedTuple):
    """A contact of exactly one HiEnergy advertiser. Its times are the text that is shown.

    It has the fields of its details itself, because a list makes many contacts. The gateway's own
    store has all fields. HiEnergy may not show the address and the times.
    """

    id: int
    advertiser_id: int
    email: str | None
    name: str | None
    given_name: str | None
    family_name: str | None
    phone: str | None
    job_title: str | None
    source: str | None
    status: str | None
    linkedin_profile_url: str | None
    advertiser_name: str | None
    created_at: Timestamp | None
    updated_at: Timestamp | None

    @property
    def details(self) -> ContactDetails[str | None]:
        """The fields that a submission has too."""
        return ContactDetails(*self[1:-3])


def completed(contact: Contact, submitted: NewContact) -> Contact:
    """Return a contact with the submission's values in the fields that it does not show."""
    missing: dict[str, Any] = {
        field: value for field, value in submitted._asdict().items() if not getattr(contact, field)
    }
    return contact._replace(**missing)


def _described(description: str, example: object) -> object:
    return Field(description=description, examples=[example])


@dataclass(frozen=True, kw_only=True)
class _Submitted:
    """The fields of a submission, as Pydantic validates and describes them."""

    advertiser_id: Annotated[
        Id,
        _described(
            "The advertiser of the contact, by the id of any of the brand's records. It must "
            "resolve to a HiEnergy advertiser, which will own the contact.",
            1001,
        ),
    ]
    email: Annotated[
        Email,
        _described(
            "The contact's e-mail address, unique for each HiEnergy advertiser regardless of case "
            "and Unicode form.",
            "maya@example.com",
        ),
    ]
    name: Annotated[
        Text,
        _described(
            "The full name. Defaults to the given and family names, joined.", "Maya Lindqvist"
        ),
    ] = None
    given_name: Annotated[Text, _described("The given name.", "Maya")] = None
    family_name: Annotated[Text, _described("The family name.", "Lindqvist")] = None
    phone: Annotated[Text, _described("A telephone number, as written.", "+46 8 123 45 67")] = None
    job_title: Annotated[Text, _described("The job title.", "Affiliate Manager")] = None
    source: Annotated[Text, _described("Where the contact came from.", "conference")] = None
    status: Annotated[Text, _described("The status of the relationship.", "active")] = None
    linkedin_profile_url: Annotated[
        HttpUrl,
        _described(
            "The LinkedIn profile, an absolute http or https URL.",
            "https://www.linkedin.com/in/maya-lindqvist",
        ),
    ] = None


_SUBMITTED: Final = TypeAdapter(_Submitted)
NEW_CONTACT_JSON_SCHEMA: Final = _SUBMITTED.json_schema()
"""The JSON Schema of a submission's `contact` object."""

_FIELD_NAMES: Final = frozenset(ContactDetails._fields)
_NAMES: Final = ("name", "given_name", "family_name")
_BETWEEN_WORDS: Final = str.maketrans("", "", "_- ")


def new_contact(raw: object) -> NewContact | tuple[Problem, ...]:
    """Validate raw fields, named as in the published reference; ignore unknown ones.

    Args:
        raw: what the client sent as the contact: any type, None if it sent nothing.

    Returns:
        The contact to create, or every problem at once.
    """
    if raw is None:
        return (Problem((_PATH,), ProblemCode.REQUIRED, "A `contact` object is required."),)
    if not isinstance(raw, Mapping):
        return (Problem((_PATH,), ProblemCode.INVALID_TYPE, "An object is expected."),)
    try:
        valid = _validated(raw)
    except ValidationError as error:
        problems = tuple(_naming(each, raw) for each in problems_of(error, _PATH))
        if {problem.path[-1] for problem in problems}.isdisjoint(_NAMES):
            full_name = _full_name(*(valid_text(raw.get(field)) for field in _NAMES))
            return (*problems, full_name) if isinstance(full_name, Problem) else problems
        return problems
    full_name = _full_name(valid.name, valid.given_name, valid.family_name)
    if isinstance(full_name, Problem):
        return (full_name,)
    return valid if full_name == valid.name else valid._replace(name=full_name)


def _validated(raw: Mapping[str, object]) -> NewContact:
    """Return the valid fields of a submission.

    Raises:
        ValidationError: with the problems of all fields.
    """
    given = raw.get
    try:
        return NewContact(
            valid_id(given("advertiser_id")),
            valid_email(given("email")),
            valid_text(given("name")),
            valid_text(given("given_name")),
            valid_text(given("family_name")),
            valid_text(given("phone")),
            valid_text(given("job_title")),
            valid_text(given("source")),
            valid_text(given("status")),
            valid_http_url(given("linkedin_profile_url")),
        )
    except ValueError:
        # Pydantic validates by the same functions, and continues after a problem. It takes twice
        # as long.
        fields = {name: value for name, value in raw.items() if name in _FIELD_NAMES}
        return NewContact(**vars(_SUBMITTED.validate_python(fields)))


def _naming(problem: Problem, raw: Mapping[str, object]) -> Problem:
    """Name a required field that was sent in another spelling, such as `advertiserId`."""
    if problem.code is not ProblemCode.REQUIRED:
        return problem
    field = problem.path[-1]
    letters = _letters(field)
    for name in raw:
        if name not in _FIELD_NAMES and _letters(name) == letters:
            message = f"{problem.message} The field is called `{field}`, not `{name}`."
            return problem._replace(message=message)
    return problem


def _letters(name: str) -> str:
    return name.lower().translate(_BETWEEN_WORDS)


def _full_name(name: str | None, given: str | None, family: str | None) -> str | Problem | None:
    """Return the name, or else the others joined; a problem if that is too long for `name`."""
    joined = name or (f"{given} {family}" if given and family else given or family)
    if joined is None or len(joined) <= MAX_TEXT_LENGTH:
        return joined
    message = (
        f"The given and family names, joined, have more than {MAX_TEXT_LENGTH} characters. "
        "Send a shorter `name`."
    )
    return Problem((_PATH, "name"), ProblemCode.TOO_LONG, message)


def unknown_fields(raw: object) -> tuple[str, ...]:
    """Return the names of the raw fields that `new_contact` ignores, in the order sent."""
    if not isinstance(raw, Mapping):
        return ()
    return tuple(str(name) for name in raw if name not in _FIELD_NAMES)


def field_description(name: str) -> str:
    """Return the description of a field of a submission, for the API's schemas."""
    description: str = NEW_CONTACT_JSON_SCHEMA["properties"][name]["description"]
    return description
