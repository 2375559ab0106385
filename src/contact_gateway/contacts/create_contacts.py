"""`createContacts`: `createContact` many times, with an outcome for each submission.

The rules are those of `create_contact`. Rules 1 and 2 hold for the whole batch. Each submission
counts as one operation (rule 3) and is validated on its own (rule 4).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from contact_gateway.contacts import policy
from contact_gateway.contacts.admission import Options, Submission, options_of, within_quota
from contact_gateway.contacts.batch import Batch, BatchOutcome, Entry, derived_key
from contact_gateway.contacts.create_contact import allowed, valid_creation
from contact_gateway.contacts.origin import Origin
from contact_gateway.contacts.outcomes import (
    AdmissionRefusal,
    BatchedOutcome,
    Forbidden,
    InvalidInput,
    RateLimited,
    ReadRefusal,
    Unauthorized,
)
from contact_gateway.contacts.problems import Problem, ProblemCode
from contact_gateway.contacts.source import Access, ContactCaller, Creation

# Other requests are served in between: a submission takes about 5 µs.
_VALIDATED_AT_ONCE: Final = 100


async def create_contacts(
    caller: ContactCaller, read: Callable[[], Awaitable[Batch]], max_size: int
) -> BatchOutcome | ReadRefusal:
    """Create contacts on the HiEnergy records of the submitted advertisers.

    Args:
        caller: the sender of the request.
        read: reads the batch. Called only for a caller that may create contacts. May raise errors
            of the face.
        max_size: how many submissions a batch may have.

    Returns:
        The outcome of each submission, or why the whole batch is refused.

    Raises:
        SourceUnavailable: the source does not respond to any submission. They may be repeated.
    """
    access = await allowed(caller)
    if isinstance(access, AdmissionRefusal):
        return access
    batch = await read()
    options = options_of(batch.options)
    entries = _readable(batch, options, max_size)
    if isinstance(entries, InvalidInput):
        return await within_quota(caller, access) or entries
    quota = await caller.spend(access.principal, operations=max(1, len(entries)))
    over = 0 if quota is None else min(quota.excess, len(entries))
    admitted = entries[: len(entries) - over]
    outcomes = await _outcomes(access, admitted, options, batch.options.origin)
    if isinstance(outcomes, (Unauthorized, Forbidden)):
        return outcomes
    seconds = 0 if quota is None else quota.seconds_left()
    return BatchOutcome((*outcomes, *[RateLimited(seconds)] * over))


def _readable(batch: Batch, options: Options, max_size: int) -> Sequence[Entry] | InvalidInput:
    """Return the entries of a batch, or the problems of the batch as a whole."""
    entries, problems = batch.entries, options.problems
    if isinstance(entries, Problem):
        return InvalidInput((entries, *problems))
    if len(entries) > max_size:
        message = f"At most {max_size} contacts are allowed. Split them into several requests."
        problems = (Problem(("contacts",), ProblemCode.TOO_LONG, message), *problems)
    return InvalidInput(problems) if problems else entries


async def _outcomes(
    access: Access, entries: Sequence[Entry], options: Options, origin: Origin | None
) -> Sequence[BatchedOutcome] | Unauthorized | Forbidden:
    """Apply rules 4 to 8 to each entry, and rules 1 and 2 where the source applies them."""
    checked: list[Creation | InvalidInput] = []
    for index, entry in enumerate(entries):
        if index % _VALIDATED_AT_ONCE == 0:
            await asyncio.sleep(0)
        checked.append(valid_creation(entry.contact, _options_of(index, entry, options), origin))
    creations = [each for each in checked if isinstance(each, Creation)]
    carried_out = await access.create_contacts(creations) if creations else ()
    # If the key is refused for the first one, it is for all.
    if carried_out and isinstance(first := carried_out[0], (Unauthorized, Forbidden)):
        return first
    answers = iter(carried_out)
    return [
        each if isinstance(each, InvalidInput) else policy.answer(next(answers), each.on_conflict)
        for each in checked
    ]


def _options_of(index: int, entry: Entry, options: Options) -> Options:
    """Return the options of an entry: those of its batch, with what it has of its own."""
    key = entry.idempotency_key
    if key is None and options.idempotency_key is not None:
        key = derived_key(options.idempotency_key, index)
    if key is None and not entry.ignored_fields:
        return options
    return options_of(
        Submission(
            raw=None,
            idempotency_key=key,
            dry_run=options.dry_run,
            on_conflict=options.on_conflict,
            ignored_fields=entry.ignored_fields,
        )
    )
