"""Text search in every script: stored text and search text are folded."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Column, ColumnElement

from contact_gateway.contacts.text import folded

_SEPARATOR = "\n"


def searched(texts: Iterable[str | None]) -> str:
    """Return the folded text to search in, each text on a line, so that no match spans two."""
    return _SEPARATOR.join(folded(text) for text in texts if text)


def contains_folded(column: Column[Any], text: str) -> ColumnElement[bool]:
    """Return the condition that a column of folded text contains `text`."""
    return column.contains(folded(text), autoescape=True)
