"""Case-insensitive text search in every script: stored text and search text are case-folded."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Column, ColumnElement

_SEPARATOR = "\n"


def folded(texts: Iterable[str | None]) -> str:
    """Return the case-folded text to search in, each text on a line, so that no match spans two."""
    return _SEPARATOR.join(text.casefold() for text in texts if text)


def contains_folded(column: Column[Any], text: str) -> ColumnElement[bool]:
    """Return the condition that a column of folded text contains `text`."""
    return column.contains(text.casefold(), autoescape=True)
