"""Pagination: a query for one page reads a row more, to know whether there is a next page."""

from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, Select

from contact_gateway.contacts.source import Page, PageRequest

T = TypeVar("T")


def fetch_page(
    connection: Connection,
    query: Select[Any],
    request: PageRequest,
    read: Callable[[Row[Any]], T],
) -> Page[T]:
    """Run an ordered query for one page, and read each row with `read`."""
    offset = (request.number - 1) * request.size
    rows = connection.execute(query.limit(request.size + 1).offset(offset)).all()
    return Page(
        items=tuple(read(row) for row in rows[: request.size]),
        request=request,
        has_more=len(rows) > request.size,
    )
