"""Text search that disregards case in every script: folded once when stored, and when asked."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Column, ColumnElement

_SEPARATOR = "\n"


def folded(texts: Iterable[str | None]) -> str:
    """Return what is searched of a record: its texts, folded, apart from each other."""
    return _SEPARATOR.join(text.casefold() for text in texts if text)


def contains_folded(column: Column[Any], text: str) -> ColumnElement[bool]:
    """Return the condition that a column of folded text contains a text."""
    return column.contains(text.casefold(), autoescape=True)
