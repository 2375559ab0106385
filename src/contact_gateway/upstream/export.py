"""What an export reads from HiEnergy: its list of contacts, page by page."""

from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from typing import Final, TypeAlias

from contact_gateway.contact_files.exporting import ExportedPart, ExportError
from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.contact import Contact
from contact_gateway.contacts.outcomes import InvalidInput, RateLimited, ReadRefusal
from contact_gateway.contacts.source import ContactFilter, Page, PageRequest, SourceUnavailable
from contact_gateway.upstream.calls import UpstreamUnavailable
from contact_gateway.upstream.source import UpstreamReads

MAX_OUTAGES: Final = 5
"""How often in a row a page after the first is asked for again if HiEnergy does not answer."""

MAX_PAGES_OF_KNOWN_CONTACTS: Final = 10
"""How many pages in a row may have contacts of earlier pages alone."""

_PAGE_SIZE: Final = 100

Wait: TypeAlias = Callable[[int, str], Awaitable[None]]
"""Waits for a number of seconds, for a reason that it shows."""


async def exported_contacts(
    reads: UpstreamReads, advertiser: Advertiser | None, wait: Wait
) -> AsyncIterator[ExportedPart]:
    """Yield all contacts, or those of an advertiser's brand, each once, in HiEnergy's order.

    HiEnergy has no snapshot of a list: each new contact moves the others to later places, where
    they are met again. So the ids of all contacts are held.

    Raises:
        ExportError: HiEnergy refuses a page, or its pages do not end.
        SourceUnavailable: HiEnergy does not answer.
    """
    brand: set[int] = set()
    if advertiser is not None and advertiser.hienergy_id is not None:
        brand = {advertiser.id, advertiser.hienergy_id}
    known: set[int] = set()
    pages_of_known = 0
    number = 0
    is_guess = False
    while pages_of_known < MAX_PAGES_OF_KNOWN_CONTACTS:
        number += 1
        page = await _page(
            reads, advertiser, PageRequest(number, _PAGE_SIZE), wait, is_guess=is_guess
        )
        if page is None:
            return
        is_guess = page.is_guess
        new = {contact.id: contact for contact in page.items if contact.id not in known}
        known.update(new)
        # HiEnergy may ignore the filter.
        of_brand = [each for each in new.values() if not brand or each.advertiser_id in brand]
        yield ExportedPart(of_brand, page.skipped)
        if not (page.items or page.skipped):
            return
        # HiEnergy may have clamped the size, or ignored the number.
        if not page.has_more and not (is_guess and (new or not page.items)):
            return
        pages_of_known = 0 if new else pages_of_known + 1
    raise ExportError(
        f"HiEnergy's pages {number - pages_of_known + 1} to {number} have the contacts of earlier "
        "pages. Run `contact-gateway upstream check`"
    )


async def _page(
    reads: UpstreamReads,
    advertiser: Advertiser | None,
    request: PageRequest,
    wait: Wait,
    *,
    is_guess: bool,
) -> Page[Contact] | None:
    """Read a page, and wait as long as HiEnergy asks for.

    Return None if HiEnergy does not have a page that `is_guess`: no other page says that it exists.
    """
    outages = 0
    page: Page[Contact] | ReadRefusal | None
    while True:
        try:
            if advertiser is None:
                page = await reads.contacts(ContactFilter(), request)
            else:
                # HiEnergy may list no contacts of a network record.
                owner_id = advertiser.hienergy_id or advertiser.id
                page = await reads.contacts_of_brand(owner_id, ContactFilter(), request)
        except SourceUnavailable as error:
            if (
                is_guess
                and isinstance(error, UpstreamUnavailable)
                and error.status == HTTPStatus.NOT_FOUND
            ):
                return None
            outages += 1
            # What does not answer at the start is more likely a wrong setting.
            if request.number == 1 or outages > MAX_OUTAGES:
                raise
            await wait(max(error.retry_after_seconds, 2**outages), "HiEnergy does not answer")
            continue
        match page:
            case Page():
                return page
            case RateLimited(seconds):
                await wait(seconds, "HiEnergy limits the rate")
            case None | InvalidInput() if is_guess:
                return None
            case None:
                raise ExportError("HiEnergy does not have this advertiser any more")
            case refusal:
                raise ExportError(f"HiEnergy refuses page {request.number}: {refusal.message}")
