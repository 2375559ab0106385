"""The advertisers that rows of a file name by an id, a slug, a domain or a name."""

from collections.abc import Mapping
from typing import Final

from contact_gateway.access.bounded_dict import BoundedDict
from contact_gateway.contact_files.columns import ADVERTISER
from contact_gateway.contact_files.imported_rows import (
    ImportStoppedError,
    Outcome,
    Postponed,
    RowOutcome,
    invalid,
)
from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.advertiser_lookup import advertiser_named, name_of_advertiser
from contact_gateway.contacts.contact import NewContact, new_contact
from contact_gateway.contacts.fields import id_of
from contact_gateway.contacts.outcomes import InvalidInput, NotFound, RateLimited
from contact_gateway.contacts.source import Advertisers
from contact_gateway.contacts.text import folded

_MAX_CACHED: Final = 4096
_NEEDS_OPTION: Final = (
    "No advertiser has this id, slug or domain. To find advertisers by name, use --resolve-names."
)


class AdvertiserCells:
    """Finds advertisers, each once. What is not found is cached too, for this import.

    With `accepts_names`, a name stands for the one advertiser that it matches.
    """

    def __init__(self, advertisers: Advertisers, *, accepts_names: bool) -> None:
        self._advertisers: Final = advertisers
        self._accepts_names: Final = accepts_names
        self._found: Final = BoundedDict[str, int | RowOutcome](_MAX_CACHED)

    async def contact_of(
        self, cells: Mapping[str, object]
    ) -> Mapping[str, object] | RowOutcome | Postponed:
        """Return the fields of a contact with the id of the advertiser that the row names.

        Raises:
            ImportStoppedError: the advertisers may not be read.
            SourceUnavailable: their source does not answer.
        """
        contact = {field: value for field, value in cells.items() if field != ADVERTISER}
        name, problems = name_of_advertiser(cells.get(ADVERTISER), ADVERTISER)
        if problems:
            return _refused(contact, RowOutcome(Outcome.INVALID, message=problems[0].message))
        an_id = id_of(name) or await self._id_of(name)
        if isinstance(an_id, Postponed):
            return an_id
        if isinstance(an_id, RowOutcome):
            return _refused(contact, an_id)
        return {**contact, "advertiser_id": an_id}

    async def _id_of(self, name: str) -> int | RowOutcome | Postponed:
        key = folded(name)
        if key not in self._found:
            answer = await self._look_up(name)
            if isinstance(answer, Postponed):
                return answer
            self._found[key] = answer
        return self._found[key]

    async def _look_up(self, name: str) -> int | RowOutcome | Postponed:
        answer = await advertiser_named(self._advertisers, name, accepts_names=self._accepts_names)
        match answer:
            case Advertiser():
                return answer.hienergy_id or answer.id
            case RateLimited(seconds):
                return Postponed(seconds)
            case NotFound(message, candidates=candidates):
                if candidates:
                    listed = ", ".join(f"{each.id} {each.title}" for each in candidates)
                    message = f"Several advertisers match: {listed}. Write the id of one of them."
                elif not self._accepts_names:
                    message = _NEEDS_OPTION
                return RowOutcome(Outcome.NOT_FOUND, message=message)
            case InvalidInput():
                return RowOutcome(Outcome.INVALID, message=answer.message)
            case refusal:
                raise ImportStoppedError(refusal.message)


def _refused(contact: Mapping[str, object], outcome: RowOutcome) -> RowOutcome:
    """Return the outcome of a row without an advertiser, with the problems of its other cells."""
    problem = (ADVERTISER, outcome.message)
    # With any id, as in `create_contact_for_advertiser`.
    checked = new_contact({**contact, "advertiser_id": 1})
    others = () if isinstance(checked, NewContact) else checked
    if outcome.outcome is Outcome.INVALID or others:
        return invalid((problem, *((each.path[-1], each.message) for each in others)))
    return outcome._replace(problems=dict((problem,)))
