"""What an import sends for a row, and the outcome of the row."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from contact_gateway.contact_files.columns import ADVERTISER, FIELDS


class Outcome(StrEnum):
    """The outcome of a row, in reports and summaries."""

    CREATED = "created"
    EXISTS = "exists"
    CHECKED = "checked"
    INVALID = "invalid"
    CONFLICT = "conflict"
    NOT_FOUND = "not_found"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    FAILED = "failed"

    @property
    def is_refusal(self) -> bool:
        """Whether the contact of the row is not there, or may not be."""
        return self not in {Outcome.CREATED, Outcome.EXISTS, Outcome.CHECKED}


class RowOutcome(NamedTuple):
    """What became of a row. `problems` are sentences by the field that they are about."""

    outcome: Outcome
    contact_id: int | None = None
    message: str = ""
    problems: Mapping[str, str] = MappingProxyType({})


def invalid(problems: Iterable[tuple[str, str]]) -> RowOutcome:
    """Return the outcome of a row with problems: pairs of a field and a sentence."""
    by_field: dict[str, str] = {}
    sentences = []
    for field, sentence in problems:
        if field not in FIELDS:
            sentences.append(sentence)
        else:
            by_field[field] = f"{by_field[field]} {sentence}" if field in by_field else sentence
    if by_field:
        sentences.append(f"Correct {', '.join(f'`{field}`' for field in by_field)}.")
    return RowOutcome(Outcome.INVALID, message=" ".join(sentences), problems=by_field)


class Postponed(NamedTuple):
    """The row has no outcome yet, and may be sent again after some seconds.

    `reason` says why to the operator; None if only the rate is limited.
    """

    seconds: int
    reason: str | None = None


class Submitted(NamedTuple):
    """A row as it is sent.

    Attributes:
        contact: the fields of the contact, by the names of the published reference.
        cells: the fields as they are in the file.
    """

    contact: Mapping[str, object]
    cells: Mapping[str, object]

    def idempotency_key(self) -> str:
        """Return the key of the row, which depends on nothing but its own cells."""
        canonical = json.dumps(self.cells, sort_keys=True, separators=(",", ":"))
        return f"import-{hashlib.sha256(canonical.encode()).hexdigest()}"


def not_found(row: Submitted, message: str) -> RowOutcome:
    """Return the outcome of a row whose advertiser has no HiEnergy record."""
    field = ADVERTISER if ADVERTISER in row.cells else "advertiser_id"
    return RowOutcome(Outcome.NOT_FOUND, message=message, problems={field: message})


class ImportStoppedError(RuntimeError):
    """An import cannot continue. The message is a sentence that says why."""
