"""Documents that have been parsed and validated, so that none is read twice."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from graphql import DocumentNode

from graphql_plans import Execute

# Anybody may send documents. One takes 90 to 200 times the memory of its text, so all take some
# 20 MB at the most, with their plans.
MAX_SIZE: Final = 96 * 1024
# A part of a plan takes as much memory as so many bytes of text do.
PART_SIZE: Final = 6
# Fragments that meet in many ways have parts for each, so plans may be far larger than their text.
MAX_PLAN_PARTS: Final = 2000


class DocumentKey(NamedTuple):
    """What the validity of a document depends on, beside the schema."""

    text: str
    names_operation: bool
    """Whether the request chooses an operation: where it does, there may be several."""


@dataclass(slots=True, eq=False)
class ValidDocument:
    """A document that was found valid, and how those of its operations are executed that were.

    Attributes:
        document: the document.
        operations: what executes an operation, by its name.
        plan_parts: how large the plans of all operations are.
        is_too_large_to_plan: whether the plans were let go, and graphql-core executes instead.
    """

    document: DocumentNode
    operations: dict[str | None, Execute] = field(default_factory=dict)
    plan_parts: int = 0
    is_too_large_to_plan: bool = False

    def let_go_of_plans(self) -> None:
        """Leave all operations to graphql-core."""
        self.operations.clear()
        self.plan_parts = 0
        self.is_too_large_to_plan = True


class DocumentCache:
    """Keeps valid documents of one schema; beyond a size, the least recently used goes first.

    It holds documents and their plans alone: variables and the caller belong to a request. The size
    is that of the texts and of what the plans were made of, which may be added at any execution.
    """

    def __init__(self, max_size: int = MAX_SIZE, max_plan_parts: int = MAX_PLAN_PARTS) -> None:
        self._max_size: Final = max_size
        self._max_plan_parts: Final = max_plan_parts
        self._size = 0
        self._documents: Final[OrderedDict[DocumentKey, ValidDocument]] = OrderedDict()

    @property
    def size(self) -> int:
        """Return the size of all that is kept."""
        return self._size

    def get(self, key: DocumentKey) -> ValidDocument | None:
        """Return a document that is kept; this is a use of it."""
        document = self._documents.get(key)
        if document is not None:
            self._documents.move_to_end(key)
        return document

    def keep(self, key: DocumentKey, document: ValidDocument) -> None:
        """Keep a document, unless it is larger than all that may be kept."""
        size = _size(key, document)
        if key in self._documents or size > self._max_size:
            return
        self._documents[key] = document
        self._size += size
        self._displace()

    def grow(self, key: DocumentKey, document: ValidDocument, parts: int) -> None:
        """Count what was added to the plans of a document; let them go where they are too large."""
        if document.is_too_large_to_plan or self._documents.get(key) is not document:
            return
        document.plan_parts += parts
        self._size += parts * PART_SIZE
        if document.plan_parts > self._max_plan_parts:
            self._size -= document.plan_parts * PART_SIZE
            document.let_go_of_plans()
        self._displace()

    def _displace(self) -> None:
        while self._size > self._max_size:
            self._size -= _size(*self._documents.popitem(last=False))


def _size(key: DocumentKey, document: ValidDocument) -> int:
    # A lone surrogate, which JSON can spell and UTF-8 cannot, counts as well.
    text = len(key.text.encode("utf-8", errors="surrogatepass"))
    return text + document.plan_parts * PART_SIZE
