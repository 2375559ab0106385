"""Lookups of a contact by its address, in every list where HiEnergy may show it.

A new contact may be in no list: lists leave out unrated contacts, and may lag behind a creation. So
a lookup can show that a contact exists, and never that it does not.
"""

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from datetime import datetime, timedelta
from itertools import chain
from typing import Final, NamedTuple, TypeAlias

from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.contact import Contact, NewContact
from contact_gateway.contacts.ledger import Attempt
from contact_gateway.contacts.outcomes import (
    Forbidden,
    InvalidInput,
    RateLimited,
    ReadRefusal,
    Unauthorized,
)
from contact_gateway.contacts.source import ContactFilter, Page, PageRequest, SourceUnavailable
from contact_gateway.contacts.text import email_key
from contact_gateway.contacts.timestamps import timestamp
from contact_gateway.upstream.operations import Operations

# How far the gateway's clock may differ from HiEnergy's, or a `Date` from that of its database.
_MAX_CLOCK_SKEW: Final = timedelta(seconds=60)
# How far the gateway's may differ at most, such as by the time zone: without a `Date`, a new
# contact must not be taken for an older one.
_MAX_UNKNOWN_SKEW: Final = timedelta(days=1)
# `Date` has whole seconds, and clocks drift.
_DATE_PRECISION: Final = timedelta(seconds=2)
_FIRST_PAGE: Final = PageRequest(number=1, size=100)
# How many owners with an unknown brand are read.
_MAX_OWNERS: Final = 3


class Found(NamedTuple):
    """The contacts with an address that HiEnergy shows.

    Attributes:
        of_brand: those of the submitted advertiser's brand.
        of_unknown_brand: those whose advertiser HiEnergy does not relate to the submitted one.
    """

    of_brand: tuple[Contact, ...]
    of_unknown_brand: tuple[Contact, ...]

    def with_id(self, contact_id: int) -> Contact | None:
        """Return the contact with an id, or None."""
        shown = (*self.of_brand, *self.of_unknown_brand)
        return next((contact for contact in shown if contact.id == contact_id), None)


NotAccepted: TypeAlias = Unauthorized | Forbidden | RateLimited
"""Why HiEnergy shows no list to the credential."""

_Listed: TypeAlias = tuple[Contact, ...] | NotAccepted | SourceUnavailable


async def find_contacts(
    caller: Operations, wanted: NewContact | Attempt | Contact, *, is_first_look: bool = False
) -> Found | NotAccepted:
    """Look for a contact by its address in all lists, or in two of them if it is a first look.

    A result other than a refusal proves that HiEnergy accepts the credential.

    Raises:
        SourceUnavailable: no list could be read.
    """
    advertiser_id, email = wanted.advertiser_id, wanted.email or ""
    by_address = ContactFilter(email=email)
    lists = [
        caller.contacts_of_advertiser(advertiser_id, by_address, _FIRST_PAGE),
        caller.contacts(by_address, _FIRST_PAGE),
    ]
    if not is_first_look:
        of_record = ContactFilter(email=email, advertiser_id=advertiser_id)
        lists.append(caller.contacts(of_record, _FIRST_PAGE))
    own, *others = await asyncio.gather(*(_listed(each, email_key(email)) for each in lists))
    # A list of one advertiser is empty if upstream does not know it, which accepts no credential.
    refusal = _refusal((own, others[0]))
    if refusal is not None:
        return refusal
    of_brand = {contact.id: contact for contact in (own if isinstance(own, tuple) else ())}
    of_others: dict[int, Contact] = {}
    for contact in chain.from_iterable(each for each in others if isinstance(each, tuple)):
        if contact.id not in of_brand:
            is_of_record = contact.advertiser_id == advertiser_id
            (of_brand if is_of_record else of_others)[contact.id] = contact
    brand = await _brand(caller, advertiser_id, of_others.values()) if of_others else {}
    related = (each for each in of_others.values() if brand.get(each.advertiser_id))
    unrelated = (each for each in of_others.values() if each.advertiser_id not in brand)
    return Found((*of_brand.values(), *related), tuple(unrelated))


def created_since(contacts: Iterable[Contact], earliest: datetime) -> list[Contact]:
    """Return the contacts that were created at a time or later, the oldest first."""
    least = timestamp(earliest)
    dated = [each for each in contacts if each.created_at is not None and each.created_at >= least]
    return sorted(dated, key=lambda contact: (contact.created_at or least, contact.id))


def is_since(contact: Contact, sent_at: datetime, caller: Operations) -> bool:
    """Return whether a contact shows a time at which a call at `sent_at` may have created it."""
    return bool(created_since((contact,), earliest_creation(sent_at, caller)))


def is_older(contact: Contact, sent_at: datetime, caller: Operations) -> bool:
    """Return whether a contact is surely older than a call at `sent_at`.

    `Date` may be of a proxy, whose clock differs from that of HiEnergy's database.
    """
    if contact.created_at is None:
        return False
    skew = _MAX_UNKNOWN_SKEW if caller.clock_ahead() is None else _MAX_CLOCK_SKEW
    return contact.created_at < timestamp(earliest_creation(sent_at, caller) - skew)


def earliest_creation(sent_at: datetime, caller: Operations) -> datetime:
    """Return the earliest time that upstream may show for a contact from a call at `sent_at`."""
    ahead = caller.clock_ahead()
    return sent_at - _MAX_CLOCK_SKEW if ahead is None else sent_at + ahead - _DATE_PRECISION


async def _listed(page: Awaitable[Page[Contact] | ReadRefusal | None], key: str) -> _Listed:
    """Return the contacts of a page whose address has a key."""
    try:
        found = await page
    except SourceUnavailable as error:
        return error
    if found is None:
        return SourceUnavailable("upstream does not know the advertiser of a lookup")
    if isinstance(found, InvalidInput):
        return SourceUnavailable("upstream refused a lookup as invalid")
    if not isinstance(found, Page):
        return found
    return tuple(
        contact
        for contact in found.items
        if contact.email is not None and email_key(contact.email) == key
    )


def _refusal(lists: Sequence[_Listed]) -> NotAccepted | None:
    """Return why no list is shown, or None if one is.

    Raises:
        SourceUnavailable: no list could be read, and none is refused.
    """
    refusals = [each for each in lists if isinstance(each, NotAccepted)]
    # What the other list shows does not say that the key is valid, or has calls left.
    general = next((each for each in refusals if not isinstance(each, Forbidden)), None)
    if general is not None or any(isinstance(each, tuple) for each in lists):
        return general
    if refusals:
        return refusals[0]
    raise next(each for each in reversed(lists) if isinstance(each, SourceUnavailable))


async def _brand(
    caller: Operations, advertiser_id: int, contacts: Iterable[Contact]
) -> dict[int, bool]:
    """Return whether the owners of contacts are of an advertiser's brand, as far as shown."""
    submitted = await _advertiser(caller, advertiser_id)
    if submitted is None:
        return {}
    owners = list(dict.fromkeys(contact.advertiser_id for contact in contacts))
    if submitted.hienergy_id is not None:
        return {owner: owner == submitted.hienergy_id for owner in owners}
    brand: dict[int, bool] = {}
    for owner_id in owners[:_MAX_OWNERS]:
        owner = await _advertiser(caller, owner_id)
        if owner is None or not owner.is_hienergy:
            continue
        if owner.domain is not None and owner.domain == submitted.domain:
            brand[owner_id] = True
    return brand


async def _advertiser(caller: Operations, advertiser_id: int) -> Advertiser | None:
    try:
        found = await caller.advertiser(advertiser_id)
    except SourceUnavailable:
        return None
    return found if isinstance(found, Advertiser) else None
