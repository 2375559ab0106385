"""Documents that have been parsed and validated, so that none is read twice."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from graphql import DocumentNode

from contact_gateway.faces.graphql.compiler import Execute

# A document and its plans take 100 to 600 times the memory of its text, and anybody may send some.
MAX_TEXT_BYTES: Final = 128 * 1024


class DocumentKey(NamedTuple):
    """What the validity of a document depends on, beside the schema."""

    text: str
    names_operation: bool
    """Whether the request chooses an operation: where it does, there may be several."""


@dataclass(frozen=True, slots=True)
class ValidDocument:
    """A document that was found valid, and how those of its operations are executed that were."""

    document: DocumentNode
    operations: dict[str | None, Execute] = field(default_factory=dict)


class DocumentCache:
    """Keeps valid documents of one schema; beyond a size, the least recently used goes first.

    It holds documents alone: variables and the caller belong to a request. The size is that of
    the texts.
    """

    def __init__(self, max_text_bytes: int = MAX_TEXT_BYTES) -> None:
        self._max_text_bytes: Final = max_text_bytes
        self._text_bytes = 0
        self._documents: Final[OrderedDict[DocumentKey, ValidDocument]] = OrderedDict()

    def get(self, key: DocumentKey) -> ValidDocument | None:
        """Return a document that is kept; this is a use of it."""
        document = self._documents.get(key)
        if document is not None:
            self._documents.move_to_end(key)
        return document

    def keep(self, key: DocumentKey, document: ValidDocument) -> None:
        """Keep a document, unless it is larger than all that may be kept."""
        size = _text_bytes(key)
        if key in self._documents or size > self._max_text_bytes:
            return
        self._documents[key] = document
        self._text_bytes += size
        while self._text_bytes > self._max_text_bytes:
            oldest, _ = self._documents.popitem(last=False)
            self._text_bytes -= _text_bytes(oldest)


def _text_bytes(key: DocumentKey) -> int:
    # A lone surrogate, which JSON can spell and UTF-8 cannot, counts as well.
    return len(key.text.encode("utf-8", errors="surrogatepass"))
