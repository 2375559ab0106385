"""What answers of upstream's API say about the traits that its documentation leaves open.

Every finding is composed here, from fixed words and numbers with bounds. None contains a value that
upstream sent, so findings can be published.
"""

from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from typing import Final, NamedTuple

from contact_gateway.contacts.advertiser import is_named_hienergy
from contact_gateway.contacts.contact import ContactDetails
from contact_gateway.settings import Known
from contact_gateway.upstream.calls import Response, seconds_of
from contact_gateway.upstream.check.answers import Reads, has_email
from contact_gateway.upstream.check.shapes import (
    DOCUMENTED_ENVELOPE,
    Row,
    error_form_of,
    owner_of,
    type_of,
)
from contact_gateway.upstream.documents import time_of
from contact_gateway.upstream.responses import ABSENT_OPERATION_STATUSES, number_of

SMALL_PAGE_SIZE: Final = 2
"""A page size that leaves contacts for a second page."""

LARGE_PAGE_SIZE: Final = 1000
"""A page size above the largest that is documented for any resource."""

_ALIASES: Final = (
    ("job_title", "title"),
    ("linkedin_profile_url", "linkedin_url", "linkedin"),
)
_CONTACT_FIELDS: Final = [
    name for name in ContactDetails._fields[1:] if name not in {names[0] for names in _ALIASES}
]
_ADVERTISER_FIELDS: Final = ("name", "display_name", "slug", "domain", "network_name")
_MAX_SECONDS_LEFT: Final = 86_400
_EPOCH_SECONDS: Final = range(10**9, 10**11)
_EPOCH_MILLISECONDS: Final = range(10**12, 10**14)
# `Date` has whole seconds, and the answer takes a moment.
_CLOCK_PRECISION_SECONDS: Final = 2


class Found(NamedTuple):
    """What was found of an open question, what it means for the gateway, and the setting for it."""

    found: str
    means: str = ""
    is_known: bool = True
    setting: Known = Known.UNKNOWN


class Finding(NamedTuple):
    """An open question and what was found of it. `key` names it in a report."""

    key: str
    question: str
    found: str
    means: str
    is_known: bool
    setting: Known


def findings_of_reads(reads: Reads) -> Sequence[Finding]:
    """Return what the reads show of each open question."""
    questions: Sequence[tuple[str, str, Callable[[Reads], Found]]] = (
        ("envelope", "Envelope of a document", _envelope),
        ("rows", "Shape of a row", _rows),
        ("id_types", "Type of an id", _ids),
        ("contact_names", "Names of a contact's title and LinkedIn profile", _names),
        ("contact_gaps", "Fields without a value in some contact", _left_out),
        ("blanks", "A field without a value", _blanks),
        ("owner", "Advertiser of a contact", _owner),
        ("times", "Times of a contact", _times),
        ("rating", "Rating of a contact", _rating),
        ("paging", "Where a list describes its pages", _paging),
        ("page_numbers", "Whether `page` and `per_page` are obeyed", _page_numbers),
        ("largest_page", f"A page of {LARGE_PAGE_SIZE} contacts", _largest_page),
        ("email_filter", "Whether `GET /contacts?email=` is obeyed", _email_filter),
        (
            "advertiser_filter",
            "Whether `GET /contacts?advertiser_id=` is obeyed",
            _advertiser_filter,
        ),
        ("single_contact", "Whether `GET /contacts/{id}` exists", _single_contact),
        (
            "advertiser_contacts",
            "Whether `GET /advertisers/{id}/contacts` exists",
            _contacts_of_advertiser,
        ),
        (
            "advertiser_contacts_unrated",
            "Whether that list shows contacts that `GET /contacts` leaves out",
            _unrated,
        ),
        ("mark", "What marks a HiEnergy record", _mark),
        ("hienergy_id", "Whether advertisers show `hienergy_id`", _hienergy_id),
        (
            "hienergy_id_filter",
            "Whether `GET /advertisers?hienergy_id=` is obeyed",
            _hienergy_id_filter,
        ),
        ("advertiser_gaps", "Fields without a value in some advertiser", _advertiser_fields),
        ("error_body", "Body of an error", _error_body),
        ("missing_operation", "Body of a missing operation", _missing_operation),
        ("rate_limit", "Rate limit headers", _rate_limit),
        ("rate_limit_reset", "Unit of `X-RateLimit-Reset`", _rate_limit_reset),
        ("retry_after", "`Retry-After` of a 429", _retry_after),
        ("clock", "Clock of HiEnergy", _clock),
    )
    return [Finding(key, question, *find(reads)) for key, question, find in questions]


def unknown(why: str) -> Found:
    """Return that a question could not be answered, and why."""
    return Found(f"not known: {why}", is_known=False)


def _envelope(reads: Reads) -> Found:
    documents = (each.document for each in (reads.contacts, reads.advertisers, reads.advertiser))
    forms = {document.envelope for document in documents if document is not None}
    if not forms:
        return unknown(reads.contacts.why_unknown)
    means = "As documented."
    if forms != {DOCUMENTED_ENVELOPE}:
        means = "Not as documented. The gateway reads this form too."
    return Found("; ".join(sorted(forms)), means)


def _rows(reads: Reads) -> Found:
    rows = [row for row in (*reads.contact_rows, *reads.advertiser_rows) if row.is_readable]
    forms = sorted({"flat" if row.is_flat else "`id`, `type`, `attributes`" for row in rows})
    lists = (reads.contacts, reads.large_page, reads.advertisers)
    if any(len(each.items or ()) > sum(row.is_readable for row in each.rows) for each in lists):
        means = "The gateway leaves these rows out and counts them in `meta.skipped`."
        return Found("; ".join([*forms, "some rows are no object with a numeric id"]), means)
    if not rows:
        return unknown("no row was listed")
    return Found("; ".join(forms), "The gateway reads both shapes.")


def _ids(reads: Reads) -> Found:
    types = {type_of(row.id) for row in (*reads.contact_rows, *reads.advertiser_rows)}
    if not types:
        return unknown("no row was listed")
    return Found("; ".join(sorted(types)), "The gateway reads both types.")


def _names(reads: Reads) -> Found:
    shown = {name for row in reads.contact_rows for name in row.fields}
    seen = [name for names in _ALIASES for name in names if name in shown]
    if not seen:
        return unknown("no contact has such a field")
    return Found(_names_of(seen), "The gateway reads all of their known names.")


def _left_out(reads: Reads) -> Found:
    rows = reads.contact_rows
    if not rows:
        return unknown("no contact was listed")
    gaps = [name for name in _CONTACT_FIELDS if any(_is_blank(row, (name,)) for row in rows)]
    gaps += [names[0] for names in _ALIASES if any(_is_blank(row, names) for row in rows)]
    means = ""
    if "email" in gaps:
        means = (
            "A contact may have no e-mail address: `email` of a contact that is read can be null."
        )
    return Found(_names_of(gaps) if gaps else "none", means)


def _blanks(reads: Reads) -> Found:
    rows = [*reads.contact_rows, *reads.advertiser_rows]
    means = "The gateway reads null and a missing field alike."
    if any(value is None for row in rows for value in row.fields.values()):
        return Found("null", means)
    if any(name not in row.fields for row in reads.contact_rows for name in _CONTACT_FIELDS):
        return Found("left out", means)
    return unknown("no row lacks a value")


def _owner(reads: Reads) -> Found:
    rows = reads.contact_rows
    if not rows:
        return unknown("no contact was listed")
    forms: set[str] = set()
    for row in rows:
        name = "`advertiser_id`" if row.fields.get("advertiser_id") is not None else "`advertiser`"
        owner = owner_of(row)
        if owner is None:
            forms.add("missing")
        else:
            forms.add(f"{name} with {'an id' if owner.isdecimal() else 'a slug'}")
    if not any("advertiser_name" in row.fields or "advertiser" in row.fields for row in rows):
        forms.add("without a name")
    means = "The gateway reads an id only." if any("slug" in form for form in forms) else ""
    if "missing" in forms:
        means = "The gateway leaves such rows out, unless one advertiser's contacts were asked for."
    return Found("; ".join(sorted(forms)), means)


def _times(reads: Reads) -> Found:
    if not reads.contact_rows:
        return unknown("no contact was listed")
    times = [
        name
        for name in ("created_at", "updated_at")
        if any(time_of(row.fields.get(name)) for row in reads.contact_rows)
    ]
    if "created_at" in times:
        means = "After a lost answer, the gateway can distinguish a new contact from an older one."
    else:
        means = "After a lost answer, the gateway cannot see whether a contact is the new one."
    return Found(_names_of(times) if times else "not shown", means)


def _rating(reads: Reads) -> Found:
    if not reads.contact_rows:
        return unknown("no contact was listed")
    if not any("rating" in row.fields for row in reads.contact_rows):
        return Found("not shown", "Whether a contact is left out of lists cannot be seen from it.")
    is_below = any(_is_unrated(row) for row in reads.contacts.rows)
    found = "shown; some listed contacts are below 1" if is_below else "shown"
    means = "`GET /contacts` lists contacts below 1 too, other than documented." if is_below else ""
    return Found(found, means)


def _paging(reads: Reads) -> Found:
    lists = (reads.contacts, reads.advertisers)
    pagings = [each.paging for each in lists if each.items is not None]
    if not pagings:
        return unknown(reads.contacts.why_unknown)
    found = dict.fromkeys(
        f"{paging.place}: {', '.join(paging.names)}" if paging.place else "nowhere"
        for paging in pagings
    )
    if any(paging.has_more is None for paging in pagings):
        means = "A full page may have a next one: the gateway answers `has_more` true for it."
    else:
        means = "The gateway reads whether there is a next page."
    return Found("; ".join(found), means)


def _page_numbers(reads: Reads) -> Found:
    first, second = reads.contacts.items, reads.next_contacts.items
    if first is None or second is None:
        failed = reads.contacts if first is None else reads.next_contacts
        return unknown(failed.why_unknown)
    if len(first) > SMALL_PAGE_SIZE:
        return Found("`per_page` is ignored", "The gateway's pages may be larger.")
    if not second or len(first) < SMALL_PAGE_SIZE:
        return unknown("the pages have too few contacts")
    if first == second:
        return Found("`page` is ignored", "Only the first page can be read.")
    return Found("obeyed", "Pages are requested by number.")


def _largest_page(reads: Reads) -> Found:
    answer = reads.large_page
    if answer.status in {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY}:
        return Found(f"refused with {answer.status}", "The gateway asks for 100 at most.")
    if answer.items is None:
        return unknown(answer.why_unknown)
    stated, count, has_more = answer.paging.page_size, len(answer.items), answer.paging.has_more
    size = count if has_more else stated
    if size is not None and 1 <= size < LARGE_PAGE_SIZE:
        means = "The gateway asks for 100 at most, and trusts the size that HiEnergy states."
        return Found(f"clamped to {size}", means)
    if size == LARGE_PAGE_SIZE or count >= LARGE_PAGE_SIZE:
        return Found("not clamped", "The gateway asks for 100 at most.")
    return unknown("the answer states no size, and may have all contacts")


def _email_filter(reads: Reads) -> Found:
    of_known, of_absent = reads.contacts_by_email, reads.contacts_by_absent_email
    if of_absent.items is None:
        return unknown(of_absent.why_unknown)
    email = reads.email
    if of_absent.rows or (email and not all(has_email(row, email) for row in of_known.rows)):
        return Found("ignored", "A lookup compares the address of every row, on its first page.")
    if email is None or of_known.items is None:
        return unknown(of_known.why_unknown)
    if not of_known.rows:
        means = "A lookup does not find every contact that is listed."
        return Found("finds nothing, though the address is listed", means)
    return Found("obeyed", "A lookup by address is one call.")


def _advertiser_filter(reads: Reads) -> Found:
    answer, wanted = reads.contacts_by_advertiser, reads.advertiser_id
    if answer.items is None or wanted is None:
        return unknown(answer.why_unknown)
    if not reads.is_owner:
        return unknown("no listed contact shows its advertiser")
    if any(owner_of(row) != wanted for row in answer.rows):
        return Found("ignored", "The contacts of one advertiser are looked for in all contacts.")
    if all(owner_of(row) == wanted for row in reads.contact_rows):
        return unknown("all contacts that were listed have one advertiser")
    if not answer.rows:
        means = "The contacts of one advertiser are not found by this filter."
        return Found("finds nothing, though a contact is listed", means)
    return Found("obeyed", "Contacts can be listed by advertiser.")


def _single_contact(reads: Reads) -> Found:
    answer = reads.contact
    if answer.status in ABSENT_OPERATION_STATUSES:
        return Found(f"no: {answer.status} for a listed contact", "A contact is read by lists.")
    if answer.row is None:
        return unknown(answer.why_unknown)
    return Found("yes", "A contact can be read by its id, listed or not.")


def _contacts_of_advertiser(reads: Reads) -> Found:
    answer = reads.contacts_of_advertiser
    if answer.status in ABSENT_OPERATION_STATUSES:
        means = "The gateway lists them with `GET /contacts?advertiser_id=`."
        return Found(f"no: {answer.status}", means)
    if answer.items is None:
        return unknown(answer.why_unknown)
    return Found("yes", "The contacts of an advertiser have their own list.")


def _unrated(reads: Reads) -> Found:
    own, general = reads.contacts_of_advertiser, reads.contacts_by_advertiser
    if own.items is None or general.items is None:
        return unknown((own if own.items is None else general).why_unknown)
    if any(_is_unrated(row) for row in own.rows):
        means = "A new contact without a rating may be found there."
        return Found("yes: some have a rating below 1", means)
    has_more = general.paging.has_more
    if has_more is None:
        # Shorter than a page that was answered, so not clamped.
        has_more = len(general.items) >= len(reads.large_page.items or ())
    if has_more:
        return unknown("the general list has more than one page")
    ids = {str(row.id) for row in general.rows}
    if any(str(row.id) not in ids for row in own.rows):
        return Found("yes", "A new contact without a rating may be found there.")
    return Found("none seen", "Of one advertiser: it may have no such contacts.")


def _mark(reads: Reads) -> Found:
    record = reads.advertiser.row if reads.is_owner else None
    rows = reads.advertiser_rows if record is None else [record]
    if not rows:
        return unknown(reads.advertisers.why_unknown)
    marks = [
        name
        for name in ("publisher_name", "network_name")
        if any(is_named_hienergy(str(row.fields.get(name))) for row in rows)
    ]
    if marks:
        means = "The gateway recognises a HiEnergy record by either."
        return Found(f"{_names_of(marks)} is HiEnergy", means)
    if record is None:
        return unknown("no advertiser that was listed has a mark")
    means = "The gateway cannot recognise HiEnergy records: `hienergy` is null."
    return Found("nothing, on the advertiser of a contact", means)


def _hienergy_id(reads: Reads) -> Found:
    rows = reads.advertiser_rows
    if not rows:
        return unknown(reads.advertisers.why_unknown)
    if any(row.fields.get("hienergy_id") is not None for row in rows):
        return Found("yes", "The gateway can relate network records to their HiEnergy record.")
    return Found("no", "The gateway cannot relate network records to their HiEnergy record.")


def _hienergy_id_filter(reads: Reads) -> Found:
    answer, every = reads.advertisers_by_hienergy_id, reads.advertisers
    if answer.status in {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY}:
        means = "`equivalents` has only what other lists show."
        return Found(f"refused with {answer.status}", means)
    if answer.items is None or every.items is None:
        return unknown((answer if answer.items is None else every).why_unknown)
    # One is the same list, filtered or not.
    if len(every.items) <= 1:
        return unknown("fewer than two advertisers are listed")
    if answer.items == every.items:
        return Found("ignored", "`equivalents` has only what other lists show.")
    return Found("obeyed", "`equivalents` is one call.")


def _advertiser_fields(reads: Reads) -> Found:
    rows = reads.advertiser_rows
    if not rows:
        return unknown(reads.advertisers.why_unknown)
    gaps = [name for name in _ADVERTISER_FIELDS if any(_is_blank(row, (name,)) for row in rows)]
    shown = {name for row in rows for name in row.fields}
    statuses = [name for name in ("status", "program_status") if name in shown]
    found = _names_of(gaps) if gaps else "none"
    found += f"; the status is {_names_of(statuses)}" if statuses else "; no status is shown"
    return Found(found, "`networkName` can be null." if "network_name" in gaps else "")


def _error_body(reads: Reads) -> Found:
    answer = reads.absent_advertiser
    if answer.response is None:
        return unknown(answer.why_unknown)
    if answer.is_success:
        return unknown("an advertiser that does not exist was answered with 2xx")
    form = error_form_of(answer.response)
    if answer.response.body is None:
        means = "The gateway cannot distinguish a missing record from a missing operation."
    elif answer.response.error is not None:
        means = "The gateway passes its `message` and `details` on."
    else:
        means = "The gateway passes on the sentences that it finds."
    return Found(f"{answer.status}: {form}", means)


def _missing_operation(reads: Reads) -> Found:
    missing = (reads.contact, reads.contacts_of_advertiser)
    for answer in missing:
        if answer.response is not None and answer.status in ABSENT_OPERATION_STATUSES:
            form = error_form_of(answer.response)
            means = "The gateway reads a 404 with JSON as a missing record."
            if answer.response.body is None or answer.status != HTTPStatus.NOT_FOUND:
                means = f"The gateway reads a {answer.status} of this form as a missing operation."
            return Found(f"{answer.status}: {form}", means)
    return unknown("no operation that was called is missing")


def _rate_limit(reads: Reads) -> Found:
    response = _with_header(reads, "X-RateLimit-Limit")
    if response is None:
        return Found("no `X-RateLimit-Limit`", "Callers get no `X-RateLimit` headers.")
    limit = number_of(response.headers.get("X-RateLimit-Limit"))
    others = [name for name in ("Remaining", "Reset") if f"X-RateLimit-{name}" in response.headers]
    number = "not a number" if limit is None or limit > 10**9 else f"{limit} calls"
    found = f"{number}; with {_names_of(others)}" if others else number
    return Found(found, "The gateway passes them on.")


def _rate_limit_reset(reads: Reads) -> Found:
    response = _with_header(reads, "X-RateLimit-Reset")
    if response is None:
        return unknown("the header was not sent")
    reset = number_of(response.headers.get("X-RateLimit-Reset"))
    if reset is None:
        return unknown("it is not a number")
    means = "The gateway answers with seconds since 1970."
    if reset <= _MAX_SECONDS_LEFT:
        return Found("seconds left", means)
    if reset in _EPOCH_SECONDS:
        return Found("seconds since 1970", means)
    if reset in _EPOCH_MILLISECONDS:
        return Found("milliseconds since 1970", means)
    return unknown("the number is in no known unit")


def _retry_after(reads: Reads) -> Found:
    for answer in reads.answers():
        if answer.response is not None and answer.status == HTTPStatus.TOO_MANY_REQUESTS:
            if "Retry-After" in answer.response.headers:
                return Found("sent", "The gateway passes it on.")
            return Found("not sent", "The gateway takes `X-RateLimit-Reset`.")
    return unknown("no call was answered with 429")


def _clock(reads: Reads) -> Found:
    answer = reads.contacts
    date = None if answer.response is None else answer.response.headers.get("Date")
    if date is None:
        return unknown("no `Date` was sent")
    sent_at = seconds_of(date)
    if sent_at is None:
        return unknown("`Date` is not a date")
    ahead = sent_at - answer.received_at
    means = "The gateway corrects times by `Date`."
    if abs(ahead) <= _CLOCK_PRECISION_SECONDS:
        return Found(f"within {_CLOCK_PRECISION_SECONDS} s of this machine", means)
    direction = "ahead of" if ahead > 0 else "behind"
    return Found(f"{abs(ahead):.0f} s {direction} this machine", means)


def _is_blank(row: Row, names: Iterable[str]) -> bool:
    return all(row.fields.get(name) in (None, "") for name in names)


def _is_unrated(row: Row) -> bool:
    rating = row.fields.get("rating")
    return isinstance(rating, (int, float)) and rating < 1


def _with_header(reads: Reads, name: str) -> Response | None:
    responses = (answer.response for answer in reads.answers())
    return next((one for one in responses if one is not None and name in one.headers), None)


def _names_of(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
