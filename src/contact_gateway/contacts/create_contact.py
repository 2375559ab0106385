"""`createContact`: its rules in their order, for every face.

Rules 1 to 4 are here. Rules 5 to 7 depend on what is stored: they are `policy.decide`, which the
source calls once it has the facts. If another system is the source of truth, it judges the key and
the facts, and its refusals become the rules' own; the input is still validated first.
"""

from collections.abc import Awaitable, Callable, Mapping

from contact_gateway.contacts import policy
from contact_gateway.contacts.admission import (
    Options,
    Submission,
    authenticated,
    options_of,
    within_quota,
)
from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.advertiser_lookup import advertiser_named, name_of_advertiser
from contact_gateway.contacts.contact import NewContact, new_contact
from contact_gateway.contacts.origin import Origin
from contact_gateway.contacts.outcomes import AdmissionRefusal, CreateContactOutcome, InvalidInput
from contact_gateway.contacts.source import Access, ContactCaller, Creation


async def create_contact(
    caller: ContactCaller, read: Callable[[], Awaitable[Submission]]
) -> CreateContactOutcome:
    """Create a contact on the HiEnergy record of the submitted advertiser, or return why not.

    Args:
        caller: the sender of the request.
        read: reads the submission. Called only for a caller that may create contacts, so no other
            caller learns anything from the body. May raise errors of the face.

    Raises:
        SourceUnavailable: the source does not respond. The submission may be repeated.
    """
    access = await _admitted(caller)
    if isinstance(access, AdmissionRefusal):
        return access
    submission = await read()
    creation = valid_creation(submission.raw, options_of(submission), submission.origin)
    if isinstance(creation, InvalidInput):
        return creation
    return policy.answer(await access.create_contact(creation), creation.on_conflict)


async def create_contact_for_advertiser(
    caller: ContactCaller, fields: Mapping[str, object], submission: Submission
) -> CreateContactOutcome:
    """Create a contact for the one advertiser that a text names, or return why not.

    Args:
        caller: the sender of the request.
        fields: the fields of the contact, but `advertiser` in place of `advertiser_id`: an id,
            slug, domain or name.
        submission: all but the fields.

    Raises:
        SourceUnavailable: the source does not respond. The submission may be repeated.
    """
    access = await _admitted(caller)
    if isinstance(access, AdmissionRefusal):
        return access
    name, problems = name_of_advertiser(fields.get("advertiser"), "advertiser")
    # Validate with any id, before the advertiser is looked up.
    raw = {**fields, "advertiser_id": 1}
    options = options_of(submission._replace(problems=(*problems, *submission.problems)))
    creation = valid_creation(raw, options, submission.origin)
    if isinstance(creation, InvalidInput):
        return creation
    found = await advertiser_named(access, name)
    if not isinstance(found, Advertiser):
        return found
    contact = creation.contact._replace(advertiser_id=found.hienergy_id or found.id)
    outcome = await access.create_contact(creation._replace(contact=contact))
    return policy.answer(outcome, creation.on_conflict)


async def allowed(caller: ContactCaller) -> Access | AdmissionRefusal:
    """Apply rules 1 and 2. An address that is guessing keys is `RateLimited`."""
    access = await authenticated(caller)
    if isinstance(access, AdmissionRefusal):
        return access
    return policy.may_create(access.principal.role) or access


async def _admitted(caller: ContactCaller) -> Access | AdmissionRefusal:
    """Apply rules 1 to 3."""
    access = await allowed(caller)
    if isinstance(access, AdmissionRefusal):
        return access
    return await within_quota(caller, access) or access


def valid_creation(raw: object, options: Options, origin: Origin | None) -> Creation | InvalidInput:
    """Apply rule 4."""
    contact = new_contact(raw)
    idempotency_key, dry_run, on_conflict, problems = options
    if not isinstance(contact, NewContact):
        return InvalidInput((*contact, *problems))
    if problems:
        return InvalidInput(problems)
    return Creation(contact, idempotency_key, dry_run, origin, on_conflict)
