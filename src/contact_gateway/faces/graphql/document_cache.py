"""A cache of valid GraphQL documents, so each is parsed, validated and planned once."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from graphql import DocumentNode, OperationType

from graphql_plans import Execute

# Any client may send documents. One takes 90 to 200 times the memory of its text, so with their
# plans all take at most 20 MB.
MAX_SIZE: Final = 96 * 1024
# A part of a plan takes as much memory as this many bytes of text.
PART_SIZE: Final = 6
# Nested fragments have parts for each place they are spread, so a short text may have a large plan.
MAX_PLAN_PARTS: Final = 2000


class Operation(NamedTuple):
    """An operation of a document, ready to execute."""

    type: OperationType
    execute: Execute


@dataclass(slots=True, eq=False)
class ValidDocument:
    """A valid document, with those of its operations that were executed before.

    Attributes:
        document: the document.
        operations: its operations by name.
        plan_parts: the size of their plans.
        is_too_large_to_plan: whether graphql-core executes it, because its plans grew too large.
    """

    document: DocumentNode
    operations: dict[str | None, Operation] = field(default_factory=dict)
    plan_parts: int = 0
    is_too_large_to_plan: bool = False


class DocumentCache:
    """A cache of the valid documents of one schema. It evicts the least recently used.

    Its size counts the texts and the plans, which may grow at any execution. Documents and plans
    hold nothing of a request: neither variables nor the caller.
    """

    def __init__(self, max_size: int = MAX_SIZE, max_plan_parts: int = MAX_PLAN_PARTS) -> None:
        self._max_size: Final = max_size
        self._max_plan_parts: Final = max_plan_parts
        self._size = 0
        self._documents: Final[OrderedDict[str, ValidDocument]] = OrderedDict()

    @property
    def size(self) -> int:
        """Return the size of the documents and their plans, in bytes of text."""
        return self._size

    def get(self, text: str) -> ValidDocument | None:
        """Return the document with a text if cached. It becomes the most recently used."""
        document = self._documents.get(text)
        if document is not None:
            self._documents.move_to_end(text)
        return document

    def put(self, text: str, document: ValidDocument) -> None:
        """Add a document, unless it is larger than the cache."""
        size = _size(text, document)
        if text in self._documents or size > self._max_size:
            return
        self._documents[text] = document
        self._size += size
        self._evict()

    def add_plan_parts(self, text: str, document: ValidDocument, parts: int) -> None:
        """Count new parts of a document's plans. Drop its plans if they are too large."""
        if document.is_too_large_to_plan or self._documents.get(text) is not document:
            return
        document.plan_parts += parts
        self._size += parts * PART_SIZE
        if document.plan_parts > self._max_plan_parts:
            self._size -= document.plan_parts * PART_SIZE
            document.operations.clear()
            document.plan_parts = 0
            document.is_too_large_to_plan = True
        self._evict()

    def _evict(self) -> None:
        while self._size > self._max_size:
            self._size -= _size(*self._documents.popitem(last=False))


def _size(text: str, document: ValidDocument) -> int:
    # JSON can contain lone surrogates, which UTF-8 cannot encode.
    size = len(text.encode("utf-8", errors="surrogatepass"))
    return size + document.plan_parts * PART_SIZE
