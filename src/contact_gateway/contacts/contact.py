"""Contacts: what one is, and how raw fields become one or every reason why not."""

import hashlib
import json
from dataclasses import MISSING, dataclass, fields, replace
from datetime import datetime
from typing import Annotated, Final

from pydantic import Field, TypeAdapter, ValidationError

from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.fields import MAX_TEXT_LENGTH, Email, HttpUrl, Id, Text
from contact_gateway.contacts.problems import Problem, ProblemCode, problems_of

_WITHIN: Final = "contact"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactDetails:
    """The fields that a submission, a preview and a contact share.

    This is the one description of these fields. Validation, the OpenAPI document and the
    GraphQL schema are made from it. Source: the published reference of `createContact`.
    """

    advertiser_id: int
    email: Annotated[
        Email,
        Field(
            description=(
                "The contact's e-mail address. One HiEnergy advertiser has one contact with an "
                "address, whatever its case."
            ),
            examples=["maya@example.com"],
        ),
    ]
    name: Annotated[
        Text,
        Field(
            description="The full name. Defaults to the given and the family name, joined.",
            examples=["Maya Lindqvist"],
        ),
    ] = None
    given_name: Annotated[Text, Field(description="The given name.", examples=["Maya"])] = None
    family_name: Annotated[Text, Field(description="The family name.", examples=["Lindqvist"])] = (
        None
    )
    phone: Annotated[
        Text, Field(description="A telephone number, as written.", examples=["+46 8 123 45 67"])
    ] = None
    job_title: Annotated[
        Text, Field(description="What the person does.", examples=["Affiliate Manager"])
    ] = None
    source: Annotated[
        Text, Field(description="Where the contact came from.", examples=["conference"])
    ] = None
    status: Annotated[
        Text, Field(description="How things stand with the contact.", examples=["active"])
    ] = None
    linkedin_profile_url: Annotated[
        HttpUrl,
        Field(
            description="The person's LinkedIn profile, an absolute http or https URL.",
            examples=["https://www.linkedin.com/in/maya-lindqvist"],
        ),
    ] = None


DETAIL_NAMES: Final = tuple(field.name for field in fields(ContactDetails))
"""The names of the shared fields, in the order in which callers see them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewContact(ContactDetails):
    """A valid submission: all that a caller says of the contact to be."""

    advertiser_id: Annotated[
        Id,
        Field(
            description=(
                "The advertiser that the contact is for, by the id of any of the brand's "
                "records. It must resolve to a HiEnergy advertiser, which will own the contact."
            ),
            examples=[1001],
        ),
    ]

    def given(self) -> dict[str, int | str]:
        """Return the fields that are not null, by the names of the published reference."""
        values = ((name, getattr(self, name)) for name in DETAIL_NAMES)
        return {name: value for name, value in values if value is not None}

    def fingerprint(self) -> bytes:
        """Return what two submissions of the same input have in common (32 bytes).

        Null fields do not count, so a field that a later version adds changes no fingerprint.
        """
        canonical = json.dumps(self.given(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactPreview(ContactDetails):
    """The contact that a submission would create, and the HiEnergy record it would lie on."""

    advertiser_name: str | None

    @classmethod
    def of(cls, submitted: NewContact, owner: Advertiser) -> "ContactPreview":
        """Return what a submission would create on the HiEnergy record `owner`."""
        details = {name: getattr(submitted, name) for name in DETAIL_NAMES}
        return cls(**details | {"advertiser_id": owner.id, "advertiser_name": owner.title})

    @classmethod
    def of_contact(cls, contact: "Contact") -> "ContactPreview":
        """Return what a repeated submission would return: the contact that there is."""
        details = {name: getattr(contact, name) for name in DETAIL_NAMES}
        return cls(**details, advertiser_name=contact.advertiser_name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact(ContactDetails):
    """A contact of exactly one HiEnergy advertiser. Times are aware and in UTC."""

    id: int
    advertiser_name: str | None
    created_at: datetime
    updated_at: datetime


_NEW_CONTACT: Final = TypeAdapter(NewContact)
NEW_CONTACT_JSON_SCHEMA: Final = _NEW_CONTACT.json_schema()
"""The JSON Schema of a submission's `contact` object."""


def new_contact(raw: object) -> NewContact | tuple[Problem, ...]:
    """Read raw fields, by the names of the published reference.

    Args:
        raw: what a caller sent as the contact; of any type, None where there was nothing.

    Returns:
        The contact to create, or every problem of the submission at once. Fields that are not
        known are ignored.
    """
    if raw is None:
        return (Problem((_WITHIN,), ProblemCode.REQUIRED, "A `contact` object is required."),)
    if not isinstance(raw, dict):
        return (Problem((_WITHIN,), ProblemCode.INVALID_TYPE, "An object is expected."),)
    try:
        submitted = _NEW_CONTACT.validate_python(
            {
                name: value
                for name, value in raw.items()
                if name in _FIELD_NAMES and (value is not None or name in _REQUIRED_NAMES)
            }
        )
    except ValidationError as error:
        problems = problems_of(error, _WITHIN)
        wrong = {problem.path[-1] for problem in problems}
        if raw.get("name") or wrong & {"given_name", "family_name", "name"}:
            return problems
        joined_name = _joined(raw.get("given_name"), raw.get("family_name"))
        return (*problems, *_joining_problems(joined_name))
    if submitted.name is not None:
        return submitted
    joined_name = _joined(submitted.given_name, submitted.family_name)
    return _joining_problems(joined_name) or replace(submitted, name=joined_name or None)


def _joined(*names: object) -> str:
    return " ".join(name.strip() for name in names if isinstance(name, str) and name.strip())


def _joining_problems(joined: str) -> tuple[Problem, ...]:
    if len(joined) <= MAX_TEXT_LENGTH:
        return ()
    message = (
        f"The given and the family name, joined, have more than {MAX_TEXT_LENGTH} characters: "
        "give a `name`."
    )
    return (Problem((_WITHIN, "name"), ProblemCode.TOO_LONG, message),)


def unknown_fields(raw: object) -> tuple[str, ...]:
    """Name the raw fields that `new_contact` ignores, in the order in which they were sent."""
    if not isinstance(raw, dict):
        return ()
    return tuple(str(name) for name in raw if name not in _FIELD_NAMES)


def field_description(name: str) -> str:
    """Return the sentence that describes a field to callers."""
    description: str = NEW_CONTACT_JSON_SCHEMA["properties"][name]["description"]
    return description


_FIELD_NAMES: Final = frozenset(field.name for field in fields(NewContact))
_REQUIRED_NAMES: Final = frozenset(
    field.name for field in fields(NewContact) if field.default is MISSING
)
