"""The tools: each passes its arguments to the domain and converts the outcome.

Names and arguments are those of HiEnergy's own tools, results the documents of the REST face.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from contact_gateway.contacts import reads
from contact_gateway.contacts.admission import Submission
from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.advertiser_lookup import find_advertiser
from contact_gateway.contacts.batch import Batch, Entry, entries_of
from contact_gateway.contacts.contact import ContactDetails, unknown_fields
from contact_gateway.contacts.create_contact import create_contact, create_contact_for_advertiser
from contact_gateway.contacts.create_contacts import create_contacts
from contact_gateway.contacts.origin import Face, Origin
from contact_gateway.contacts.outcomes import NotFound, ReadRefusal
from contact_gateway.contacts.problems import Problem, unknown_parameters
from contact_gateway.faces.request_context import RequestContext
from contact_gateway.faces.rest.documents import (
    Document,
    Echo,
    advertiser_resource,
    batch_document,
    contact_resource,
    outcome_document,
    page_document,
    read_refusal_document,
    record_document,
    refusal_document,
)

Arguments: TypeAlias = Mapping[str, object]
Tool: TypeAlias = Callable[[RequestContext, Arguments], Awaitable[Document]]

FLAT_FIELDS: Final = tuple(name for name in ContactDetails._fields if name != "advertiser_id")
"""The fields of a contact that are arguments of `add_contact_for_advertiser`."""

MAX_BATCH_SIZE: Final = 100
"""How many contacts `add_contacts` creates at most."""

_UNKNOWN_ADVERTISER: Final = NotFound("Unknown advertiser. Check the id.")
_OPTIONS: Final = ("dry_run", "idempotency_key", "on_conflict")


async def add_contact(context: RequestContext, arguments: Arguments) -> Document:
    """Create a contact for the advertiser with an id."""
    submission = _submission(context, arguments, "contact")

    async def read() -> Submission:
        return submission

    outcome = await create_contact(context.caller, read)
    return outcome_document(outcome, Echo(context.request_id, path_of=".".join, shows_replay=True))


async def add_contact_for_advertiser(context: RequestContext, arguments: Arguments) -> Document:
    """Create a contact for the one advertiser that a text names."""
    submission = _submission(context, arguments, "advertiser", *FLAT_FIELDS)
    outcome = await create_contact_for_advertiser(context.caller, arguments, submission)
    echo = Echo(
        context.request_id,
        path_of=lambda path: ".".join(path).removeprefix("contact."),
        shows_replay=True,
    )
    return outcome_document(outcome, echo)


async def add_contacts(context: RequestContext, arguments: Arguments) -> Document:
    """Create many contacts, each for the advertiser with an id."""
    options = _submission(context, arguments, "contacts")
    entries = entries_of(arguments.get("contacts"))

    async def read() -> Batch:
        return Batch(entries, options._replace(problems=(*options.problems, *_unknown(entries))))

    max_size = min(MAX_BATCH_SIZE, context.max_batch_size)
    outcome = await create_contacts(context.caller, read, max_size)
    if isinstance(outcome, ReadRefusal):
        return refusal_document(outcome, context.request_id, ".".join)
    return batch_document(outcome, [()] * len(outcome.outcomes), context.request_id)


def _unknown(entries: Sequence[Entry] | Problem) -> Iterator[Problem]:
    """Yield the problems of fields that a contact does not have."""
    if isinstance(entries, Problem):
        return
    known = (*ContactDetails._fields, "idempotency_key")
    for index, entry in enumerate(entries):
        names = (path.removeprefix("contact.") for path in entry.ignored_fields)
        yield from unknown_parameters(names, known, "contacts", str(index))


def _submission(context: RequestContext, arguments: Arguments, *fields: str) -> Submission:
    contact, known = arguments.get("contact"), (*fields, *_OPTIONS)
    return Submission(
        raw=contact,
        parameters={name: value for name, value in arguments.items() if name in _OPTIONS},
        problems=(
            *unknown_parameters((name for name in arguments if name not in known), known),
            *unknown_parameters(unknown_fields(contact), ContactDetails._fields, "contact"),
        ),
        origin=Origin(Face.MCP, context.request_id),
    )


async def search_contacts(context: RequestContext, arguments: Arguments) -> Document:
    """Return a page of contacts."""
    found = await reads.contacts(context.caller, arguments)
    return page_document(found, contact_resource, context.request_id)


async def get_advertiser_contacts(context: RequestContext, arguments: Arguments) -> Document:
    """Return a page of the contacts of the one advertiser that a text names."""
    filters = dict(arguments)
    found = await find_advertiser(
        context.caller, {"advertiser": filters.pop("advertiser", None)}, "advertiser"
    )
    if not isinstance(found, Advertiser):
        return read_refusal_document(found, context.request_id)
    page = await reads.contacts_of_advertiser(context.caller, str(found.id), filters)
    return page_document(page or _UNKNOWN_ADVERTISER, contact_resource, context.request_id)


async def search_advertisers(context: RequestContext, arguments: Arguments) -> Document:
    """Return a page of advertisers."""
    found = await reads.advertisers(context.caller, arguments)
    return page_document(found, advertiser_resource, context.request_id)


async def search_advertisers_by_domain(context: RequestContext, arguments: Arguments) -> Document:
    """Return a page of the advertisers with a domain."""
    found = await reads.advertisers_by_domain(context.caller, arguments)
    return page_document(found, advertiser_resource, context.request_id)


async def get_advertiser(context: RequestContext, arguments: Arguments) -> Document:
    """Return the one advertiser that a text names."""
    found = await find_advertiser(context.caller, arguments, "id")
    return record_document(found, advertiser_resource, context.request_id)
