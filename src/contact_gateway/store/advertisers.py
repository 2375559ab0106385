"""Advertisers in SQL."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, Select, or_, select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from contact_gateway.contacts.advertiser import HIENERGY_NETWORK, Advertiser
from contact_gateway.contacts.catalogue import Known
from contact_gateway.contacts.source import AdvertiserFilter, Page, PageRequest
from contact_gateway.store.paging import fetch_page
from contact_gateway.store.search import contains_folded, folded
from contact_gateway.store.tables import advertisers, contacts

COLUMNS: Final = tuple(column for column in advertisers.c if column.name != "folded_names")


async def by_id(connection: AsyncConnection, ids: Collection[int]) -> Mapping[int, Advertiser]:
    """Return those of the advertisers that there are."""
    rows = await connection.execute(_select().where(advertisers.c.id.in_(ids)))
    return {row.id: _advertiser(row) for row in rows}


async def by_slug(connection: AsyncConnection, slug: str) -> Advertiser | None:
    """Return the advertiser with a slug; a brand's HiEnergy record before its others."""
    is_hienergy = advertisers.c.network_name == HIENERGY_NETWORK
    rows = await connection.execute(
        _select()
        .where(advertisers.c.slug == slug)
        .order_by(is_hienergy.desc(), advertisers.c.id)
        .limit(1)
    )
    row = rows.first()
    return None if row is None else _advertiser(row)


async def equivalents(
    connection: AsyncConnection, hienergy_ids: Collection[int]
) -> Mapping[int, Sequence[Advertiser]]:
    """Return the network records of each of the brands."""
    rows = await connection.execute(
        _select()
        .where(
            advertisers.c.hienergy_id.in_(hienergy_ids),
            advertisers.c.id != advertisers.c.hienergy_id,
        )
        .order_by(advertisers.c.id)
    )
    found: dict[int, list[Advertiser]] = {hienergy_id: [] for hienergy_id in hienergy_ids}
    for row in rows:
        found[row.hienergy_id].append(_advertiser(row))
    return found


async def page(
    connection: AsyncConnection, wanted: AdvertiserFilter, request: PageRequest
) -> Page[Advertiser]:
    """Return a page of advertisers, newest first."""
    query = _select().order_by(advertisers.c.id.desc())
    if wanted.q is not None:
        query = query.where(has_text(wanted.q))
    if wanted.domain is not None:
        query = query.where(advertisers.c.domain == wanted.domain.lower())
    if wanted.hienergy_id is not None:
        query = query.where(advertisers.c.hienergy_id == wanted.hienergy_id)
    return await fetch_page(connection, query, request, _advertiser)


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


async def upsert(connection: AsyncConnection, records: Iterable[Advertiser]) -> None:
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
    await connection.execute(
        statement.on_conflict_do_update(index_elements=[advertisers.c.id], set_=replaced), rows
    )


async def ids(connection: AsyncConnection) -> frozenset[int]:
    """Return the ids of all advertisers."""
    return frozenset(await connection.scalars(select(advertisers.c.id)))


async def known(connection: AsyncConnection) -> Known:
    """Return what a catalogue's rows have to agree with."""
    hienergy_ids = await connection.scalars(
        select(advertisers.c.id).where(advertisers.c.network_name == HIENERGY_NETWORK)
    )
    owners = await connection.scalars(select(contacts.c.advertiser_id).distinct())
    named_by: dict[int, set[int]] = {}
    rows = await connection.execute(
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


def _select() -> Select[Any]:  # the columns' types are not kept by SQLAlchemy's Table
    return select(*COLUMNS)


def _advertiser(row: Row[Any]) -> Advertiser:
    return Advertiser(**row._mapping)


def _row(advertiser: Advertiser) -> dict[str, object]:
    names = folded((advertiser.name, advertiser.display_name))
    return asdict(advertiser) | {"folded_names": names}
