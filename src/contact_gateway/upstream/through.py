"""An import through a running gateway, by its REST operation for batches."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Final

from contact_gateway.access.principals import Credential
from contact_gateway.contact_files.imported_rows import (
    ImportStoppedError,
    Outcome,
    Postponed,
    RowOutcome,
    Submitted,
    invalid,
    not_found,
)
from contact_gateway.contact_files.resolver import outcome_of_conflict
from contact_gateway.contacts.outcomes import ErrorCode
from contact_gateway.contacts.policy import OnConflict
from contact_gateway.contacts.source import SourceUnavailable
from contact_gateway.upstream.calls import Call, Response, retry_after_seconds, unexpected
from contact_gateway.upstream.client import UpstreamClient
from contact_gateway.upstream.documents import UnreadableError, contact_of
from contact_gateway.upstream.error_bodies import error_body_of

CHUNK_SIZE: Final = 100
"""How many rows one request has, if the gateway allows it."""

# A gateway in front of HiEnergy takes as long as HiEnergy for a batch.
_TIMEOUT_SECONDS: Final = 300.0
_TOO_LARGE: Final = frozenset(
    {HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY}
)


class RunningGateway:
    """Implements `contact_files.importing.Destination` over a gateway's REST API.

    Args:
        client: sends the requests, relative to `/api/v1` of the gateway.
        credential: an admin's API key of the gateway.
        dry_run: whether rows are only checked.
        on_conflict: what happens if an address is taken.
    """

    name: Final = "The gateway"

    def __init__(
        self,
        client: UpstreamClient,
        credential: Credential,
        *,
        dry_run: bool,
        on_conflict: OnConflict,
    ) -> None:
        self._client: Final = client
        self._credential: Final = credential
        self._query: Final = {
            "on_conflict": on_conflict.value,
            **({"dry_run": "true"} if dry_run else {}),
        }
        self.chunk_size = CHUNK_SIZE

    async def create(self, rows: Sequence[Submitted]) -> Sequence[RowOutcome | Postponed]:
        """Create the contacts of rows; return the outcome of each.

        Raises:
            ImportStoppedError: the gateway refuses the API key, or is none.
            SourceUnavailable: the gateway does not answer.
        """
        contacts = [{**row.contact, "idempotency_key": row.idempotency_key()} for row in rows]
        response = await self._client.send(
            Call(
                "POST",
                "contacts/batch",
                self._credential,
                query=self._query,
                body={"contacts": contacts},
                timeout_seconds=_TIMEOUT_SECONDS,
            )
        )
        body = _object(response.body)
        if response.is_success:
            entries = body.get("data")
            if not isinstance(entries, list) or len(entries) != len(rows):
                raise unexpected(response)
            return [
                _row_outcome(row, _object(entry)) for row, entry in zip(rows, entries, strict=True)
            ]
        return await self._refused(rows, response)

    async def _refused(
        self, rows: Sequence[Submitted], response: Response
    ) -> Sequence[RowOutcome | Postponed]:
        """Return the outcomes of a batch that is refused as a whole."""
        # Another body is that of a proxy, which does not say whose refusal it is.
        message = error_body_of(response.body).message if response.error is not None else None
        message = message or f"The gateway responds with {response.status}."
        if response.status == HTTPStatus.TOO_MANY_REQUESTS:
            return [Postponed(retry_after_seconds(response.headers) or 1)] * len(rows)
        if response.status in _TOO_LARGE:
            if len(rows) == 1:
                return [RowOutcome(Outcome.REFUSED, message=message)]
            self.chunk_size = min(self.chunk_size, len(rows) // 2)
            return await self._create_in_halves(rows)
        if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise unexpected(response)
        raise ImportStoppedError(message)

    async def _create_in_halves(
        self, rows: Sequence[Submitted]
    ) -> Sequence[RowOutcome | Postponed]:
        middle = len(rows) // 2
        first = await self.create(rows[:middle])
        try:
            second = await self.create(rows[middle:])
        except SourceUnavailable as error:
            second = [Postponed(error.retry_after_seconds, error.reason)] * (len(rows) - middle)
        except ImportStoppedError as error:
            second = [Postponed(1, str(error))] * (len(rows) - middle)
        return [*first, *second]


def _row_outcome(row: Submitted, entry: Mapping[str, object]) -> RowOutcome | Postponed:
    if not _object(entry.get("error")):
        return _success(_object(entry.get("data")), _object(entry.get("meta")))
    error = error_body_of(entry)
    message, seconds = error.message or "", error.details.get("retry_after_seconds")
    match error.code:
        case ErrorCode.RATE_LIMITED:
            return Postponed(seconds if isinstance(seconds, int) else 1)
        case ErrorCode.SERVICE_UNAVAILABLE | ErrorCode.NOT_TRIED | ErrorCode.UNAUTHORIZED:
            return Postponed(seconds if isinstance(seconds, int) else 1, message)
        case ErrorCode.CONFLICT:
            return _conflict(row, error.details, message)
        case ErrorCode.INVALID_INPUT:
            problems = [(problem.path[-1], problem.message) for problem in error.problems]
            return invalid(problems or [("", message)])
        case ErrorCode.NOT_FOUND:
            return not_found(row, message)
        case ErrorCode.OUTCOME_UNKNOWN:
            return RowOutcome(Outcome.UNKNOWN, message=message)
        case _:
            return RowOutcome(Outcome.REFUSED, message=message)


def _success(data: Mapping[str, object], meta: Mapping[str, object]) -> RowOutcome:
    if meta.get("dry_run") is True:
        return RowOutcome(Outcome.CHECKED)
    is_old = meta.get("replayed") is True or meta.get("existed") is True
    contact_id = str(data.get("id"))
    return RowOutcome(
        Outcome.EXISTS if is_old else Outcome.CREATED,
        int(contact_id) if contact_id.isdecimal() else None,
    )


def _conflict(row: Submitted, details: Mapping[str, object], message: str) -> RowOutcome:
    try:
        existing = contact_of(details.get("existing"))
    except UnreadableError:
        return RowOutcome(Outcome.CONFLICT, message=message)
    return outcome_of_conflict(row, existing, message)


def _object(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}
