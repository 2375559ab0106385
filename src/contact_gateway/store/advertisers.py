"""Advertisers in SQL."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, or_, select
from sqlalchemy.dialects.sqlite import insert

from contact_gateway.contacts.advertiser import HIENERGY_NETWORK, Advertiser
from contact_gateway.contacts.catalogue import Known
from contact_gateway.contacts.source import AdvertiserFilter, Page, PageRequest
from contact_gateway.store.paging import fetch_page
from contact_gateway.store.prepared_statements import PreparedSelect
from contact_gateway.store.search import contains_folded, folded
from contact_gateway.store.tables import advertisers, contacts

_NAMES: Final = tuple(field.name for field in fields(Advertiser))
_SELECT: Final = select(*(advertisers.c[name] for name in _NAMES))
_BY_ID: Final = PreparedSelect(_SELECT, advertisers.c.id)
_submitted: Final = advertisers.alias("submitted")
_HIENERGY: Final = PreparedSelect(
    _SELECT.add_columns(_submitted.c.id).join(
        _submitted, _submitted.c.hienergy_id == advertisers.c.id
    ),
    _submitted.c.id,
)


def by_id(connection: Connection, ids: Collection[int]) -> Mapping[int, Advertiser]:
    """Return those of the advertisers that there are."""
    found = map(_advertiser, _BY_ID.rows(connection, [(an_id,) for an_id in ids]))
    return {advertiser.id: advertiser for advertiser in found}


def hienergy(connection: Connection, ids: Collection[int]) -> Mapping[int, Advertiser]:
    """Return what each of the advertisers names as its brand's HiEnergy record."""
    rows = _HIENERGY.rows(connection, [(an_id,) for an_id in ids])
    return {row[-1]: _advertiser(row) for row in rows}


def by_slug(connection: Connection, slug: str) -> Advertiser | None:
    """Return the advertiser with a slug; a brand's HiEnergy record before its others."""
    is_hienergy = advertisers.c.network_name == HIENERGY_NETWORK
    rows = connection.execute(
        _SELECT.where(advertisers.c.slug == slug)
        .order_by(is_hienergy.desc(), advertisers.c.id)
        .limit(1)
    )
    row = rows.first()
    return None if row is None else _advertiser(row)


def equivalents(
    connection: Connection, hienergy_ids: Collection[int]
) -> Mapping[int, Sequence[Advertiser]]:
    """Return the network records of each of the brands."""
    rows = connection.execute(
        _SELECT.where(
            advertisers.c.hienergy_id.in_(hienergy_ids),
            advertisers.c.id != advertisers.c.hienergy_id,
        ).order_by(advertisers.c.id)
    )
    found: dict[int, list[Advertiser]] = {hienergy_id: [] for hienergy_id in hienergy_ids}
    for row in rows:
        found[row.hienergy_id].append(_advertiser(row))
    return found


def page(
    connection: Connection, wanted: AdvertiserFilter, request: PageRequest
) -> Page[Advertiser]:
    """Return a page of advertisers, newest first."""
    query = _SELECT.order_by(advertisers.c.id.desc())
    if wanted.q is not None:
        query = query.where(has_text(wanted.q))
    if wanted.domain is not None:
        query = query.where(advertisers.c.domain == wanted.domain.lower())
    if wanted.hienergy_id is not None:
        query = query.where(advertisers.c.hienergy_id == wanted.hienergy_id)
    return fetch_page(connection, query, request, _advertiser)


def has_name(text: str) -> ColumnElement[bool]:
    """Return the condition that a text stands in an advertiser's names."""
    return contains_folded(advertisers.c.folded_names, text)


def has_text(text: str) -> ColumnElement[bool]:
    """Return the condition that a text stands in an advertiser's names, slug or domain."""
    return or_(
        has_name(text),
        advertisers.c.slug.icontains(text, autoescape=True),
        advertisers.c.domain.icontains(text, autoescape=True),
    )


def upsert(connection: Connection, records: Iterable[Advertiser]) -> None:
    """Insert the advertisers, or replace those that there are."""
    rows = [_row(advertiser) for advertiser in records]
    if not rows:
        return
    statement = insert(advertisers)
    replaced = {
        column.name: statement.excluded[column.name]
        for column in advertisers.c
        if not column.primary_key
    }
    connection.execute(
        statement.on_conflict_do_update(index_elements=[advertisers.c.id], set_=replaced), rows
    )


def ids(connection: Connection) -> frozenset[int]:
    """Return the ids of all advertisers."""
    return frozenset(connection.scalars(select(advertisers.c.id)))


def known(connection: Connection) -> Known:
    """Return what a catalogue's rows have to agree with."""
    hienergy_ids = connection.scalars(
        select(advertisers.c.id).where(advertisers.c.network_name == HIENERGY_NETWORK)
    )
    owners = connection.scalars(select(contacts.c.advertiser_id).distinct())
    named_by: dict[int, set[int]] = {}
    rows = connection.execute(
        select(advertisers.c.hienergy_id, advertisers.c.id).where(
            advertisers.c.hienergy_id != advertisers.c.id
        )
    )
    for hienergy_id, network_id in rows:
        named_by.setdefault(hienergy_id, set()).add(network_id)
    return Known(
        hienergy_ids=frozenset(hienergy_ids),
        owners=frozenset(owners),
        named_by={owner: frozenset(members) for owner, members in named_by.items()},
    )


def _advertiser(row: Sequence[Any]) -> Advertiser:  # SQLAlchemy's Table keeps no types of columns
    # Further columns, where there are any, come after the advertiser's.
    return Advertiser(**dict(zip(_NAMES, row, strict=False)))


def _row(advertiser: Advertiser) -> dict[str, object]:
    names = folded((advertiser.name, advertiser.display_name))
    return asdict(advertiser) | {"folded_names": names}
