"""The answers of upstream to the calls of a check."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Final

from contact_gateway.contacts.text import email_key
from contact_gateway.upstream.calls import Response
from contact_gateway.upstream.check.shapes import (
    Document,
    Paging,
    Row,
    document_of,
    paging_of,
    row_of,
)


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a call, or the reason why there is none.

    Attributes:
        asked: the method, the path and the names of the parameters, without their values.
        received_at: seconds since 1970.
        reason: fixed words, for findings and reports.
        error: the client's reason, for the operator. It may contain a request id of upstream.
    """

    asked: str
    response: Response | None = None
    received_at: float = 0.0
    reason: str = ""
    error: str = ""

    @property
    def status(self) -> int | None:
        """The status of the response."""
        return None if self.response is None else self.response.status

    @property
    def is_success(self) -> bool:
        """Whether the call was answered with 2xx."""
        return self.response is not None and self.response.is_success

    @property
    def document(self) -> Document | None:
        """The document of a success."""
        if self.response is None or not self.is_success:
            return None
        return document_of(self.response.body)

    @property
    def items(self) -> Sequence[object] | None:
        """The resources of a list, whether they can be read or not; None if it is no list."""
        document = self.document
        return document.content if document and isinstance(document.content, list) else None

    @property
    def rows(self) -> Sequence[Row]:
        """The rows of a list that can be read."""
        rows = (row_of(item) for item in self.items or ())
        return [row for row in rows if row is not None]

    @property
    def row(self) -> Row | None:
        """The single record of an answer."""
        return row_of(self.document.content) if self.document else None

    @property
    def paging(self) -> Paging:
        """What a list says of its pages."""
        return paging_of(self.document) if self.document else Paging()

    @property
    def why_unknown(self) -> str:
        """Why there is no document, in a report's words."""
        if self.response is None:
            return self.reason
        if not self.is_success:
            return f"{self.asked} was answered with {self.response.status}"
        return f"the answer to {self.asked} cannot be read"


_NOT_SENT: Final = Answer("")
_NO_ADDRESS: Final = Answer("", reason="no contact with an address is listed")
_NO_CONTACT: Final = Answer("", reason="no contact is listed")
_NO_ADVERTISER: Final = Answer("", reason="no advertiser is listed")


@dataclass(slots=True, kw_only=True)
class Reads:
    """The answers to the reads, or why one was not sent.

    Attributes:
        email: the address of a contact that was listed.
        advertiser_id: the id or slug of an advertiser, as it was shown.
        is_owner: whether that advertiser owns a listed contact.
    """

    contacts: Answer
    next_contacts: Answer = _NOT_SENT
    large_page: Answer = _NOT_SENT
    contacts_by_email: Answer = _NO_ADDRESS
    contacts_by_absent_email: Answer = _NOT_SENT
    contact: Answer = _NO_CONTACT
    advertisers: Answer = _NOT_SENT
    advertiser: Answer = _NO_ADVERTISER
    contacts_of_advertiser: Answer = _NO_ADVERTISER
    contacts_by_advertiser: Answer = _NO_ADVERTISER
    advertisers_by_hienergy_id: Answer = _NO_ADVERTISER
    absent_advertiser: Answer = _NOT_SENT
    email: str | None = None
    advertiser_id: str | None = None
    is_owner: bool = False

    @property
    def contact_rows(self) -> Sequence[Row]:
        """The contacts that any list showed."""
        lists = (self.contacts, self.large_page, self.contacts_of_advertiser)
        return [row for answer in lists for row in answer.rows]

    @property
    def advertiser_rows(self) -> Sequence[Row]:
        """The advertisers that were shown."""
        one = self.advertiser.row
        return [*self.advertisers.rows, *([] if one is None else [one])]

    def answers(self) -> Iterator[Answer]:
        """Return all answers."""
        values = (getattr(self, each.name) for each in fields(self))
        return (value for value in values if isinstance(value, Answer))


def has_email(row: Row, email: str) -> bool:
    """Return whether a contact has an e-mail address, in any case."""
    shown = row.fields.get("email")
    return isinstance(shown, str) and email_key(shown) == email_key(email)
