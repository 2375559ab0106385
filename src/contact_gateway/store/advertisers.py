"""Advertisers in SQL."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, select

from contact_gateway.contacts.advertiser import HIENERGY_NETWORK, Advertiser
from contact_gateway.contacts.source import AdvertiserFilter, Page, PageRequest
from contact_gateway.contacts.text import domain_key, domain_of, folded
from contact_gateway.store.paging import fetch_page
from contact_gateway.store.prepared_statements import PreparedSelect
from contact_gateway.store.search import contains_folded, searched
from contact_gateway.store.tables import advertisers, contacts
from contact_gateway.store.upserts import upsert as upsert_statement

_COLUMNS: Final = (
    advertisers.c.id,
    advertisers.c.name,
    advertisers.c.display_name,
    advertisers.c.slug,
    advertisers.c.domain,
    advertisers.c.network_name,
    advertisers.c.publisher_name,
    advertisers.c.status,
    advertisers.c.hienergy_id,
)
_SELECT: Final = select(*_COLUMNS)
_BY_ID: Final = PreparedSelect(_SELECT, advertisers.c.id)
_submitted: Final = advertisers.alias("submitted")
_HIENERGY: Final = PreparedSelect(
    _SELECT.add_columns(_submitted.c.id)
    .join(_submitted, _submitted.c.hienergy_id == advertisers.c.id)
    # Until a contact is stored on it, no import may make it a network record.
    .with_for_update(read=True, key_share=True, of=advertisers),
    _submitted.c.id,
)


def by_id(connection: Connection, ids: Collection[int]) -> Mapping[int, Advertiser]:
    """Return the advertisers that exist, by id."""
    found = map(_advertiser, _BY_ID.rows(connection, [(an_id,) for an_id in ids]))
    return {advertiser.id: advertiser for advertiser in found}


def values_by_id(connection: Connection, ids: Collection[int]) -> Mapping[int, Sequence[Any]]:
    """Return the values of the advertisers that exist, in the order of a catalogue, by id."""
    return {row[0]: row for row in _BY_ID.rows(connection, [(an_id,) for an_id in ids])}


def hienergy(connection: Connection, ids: Collection[int]) -> Mapping[int, Advertiser]:
    """Return the HiEnergy record of each advertiser's brand, by the id of the advertiser.

    The records stay HiEnergy's until the end of the transaction, which must be one that writes.
    """
    rows = _HIENERGY.rows(connection, [(an_id,) for an_id in ids])
    return {row[-1]: _advertiser(row) for row in rows}


def by_slug(connection: Connection, slug: str) -> Advertiser | None:
    """Return the advertiser with a slug; a brand's HiEnergy record before its others."""
    is_hienergy = advertisers.c.network_name == HIENERGY_NETWORK
    rows = connection.execute(
        _SELECT.where(advertisers.c.slug_key == folded(slug))
        .order_by(is_hienergy.desc(), advertisers.c.id)
        .limit(1)
    )
    row = rows.first()
    return None if row is None else _advertiser(row)


def equivalents(
    connection: Connection, hienergy_ids: Collection[int]
) -> Mapping[int, Sequence[Advertiser]]:
    """Return the network records of each brand, by the id of its HiEnergy record."""
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
    for text in (wanted.q, wanted.query, wanted.search):
        if text is not None:
            query = query.where(has_text(text))
    if wanted.name is not None:
        query = query.where(has_name(wanted.name))
    if wanted.domain is not None:
        query = query.where(has_domain(wanted.domain))
    if wanted.domain_or_url is not None:
        query = query.where(has_domain(domain_of(wanted.domain_or_url)))
    if wanted.network is not None:
        # There are few networks, and databases fold only ASCII.
        names = connection.scalars(select(advertisers.c.network_name).distinct())
        same = [name for name in names if folded(name) == folded(wanted.network)]
        query = query.where(advertisers.c.network_name.in_(same))
    if wanted.hienergy_id is not None:
        query = query.where(advertisers.c.hienergy_id == wanted.hienergy_id)
    return fetch_page(connection, query, request, _advertiser)


def has_name(text: str) -> ColumnElement[bool]:
    """Return the condition that the names contain a text."""
    return contains_folded(advertisers.c.folded_names, text)


def has_text(text: str) -> ColumnElement[bool]:
    """Return the condition that the names, slug or domain contain a text."""
    return contains_folded(advertisers.c.folded_text, text)


def has_domain(domain: str) -> ColumnElement[bool]:
    """Return the condition that the domain is this one, in Unicode or in ASCII."""
    return advertisers.c.domain_key == domain_key(domain)


def comparing_columns(
    name: str, display_name: str | None, slug: str | None, domain: str | None
) -> dict[str, object]:
    """Return the values of the columns that advertisers are compared and searched by."""
    ascii_domain = None if domain is None else domain_key(domain)
    other_form = ascii_domain if domain is not None and not domain.isascii() else None
    return {
        "slug_key": None if slug is None else folded(slug),
        "domain_key": ascii_domain,
        "folded_names": searched((name, display_name)),
        "folded_text": searched((name, display_name, slug, domain, other_form)),
    }


def upsert(connection: Connection, records: Iterable[Advertiser]) -> None:
    """Insert advertisers; replace those that exist."""
    rows = [_row(advertiser) for advertiser in records]
    if not rows:
        return
    connection.execute(upsert_statement(connection, advertisers), rows)


def lock(connection: Connection, ids: Collection[int]) -> None:
    """Let no other transaction store a contact or a record of these until this one ends.

    SQLite needs no lock: there is one writer.
    """
    rows = select(advertisers.c.id).where(advertisers.c.id.in_(ids)).order_by(advertisers.c.id)
    connection.execute(rows.with_for_update()).all()


def with_contacts(connection: Connection, ids: Collection[int]) -> frozenset[int]:
    """Return which of some advertisers have contacts."""
    owners = select(contacts.c.advertiser_id).where(contacts.c.advertiser_id.in_(ids)).distinct()
    return frozenset(connection.scalars(owners))


def ids(connection: Connection) -> frozenset[int]:
    """Return the ids of all advertisers."""
    return frozenset(connection.scalars(select(advertisers.c.id)))


def misplaced(connection: Connection, records: Collection[Advertiser]) -> int | None:
    """Return an advertiser of those that were just stored that does not fit others, or None.

    Its owner is not a HiEnergy record, or it is not one itself, but owns contacts or records.
    """
    owner = advertisers.alias("owner")
    owned, owners = advertisers.c.hienergy_id, contacts.c.advertiser_id
    ids = [record.id for record in records]
    network_ids = [record.id for record in records if not record.is_hienergy]
    queries = (
        select(advertisers.c.id)
        .join(owner, owner.c.id == owned)
        .where(advertisers.c.id.in_(ids), owner.c.network_name != HIENERGY_NETWORK),
        select(owned).where(owned.in_(network_ids), owned != advertisers.c.id),
        select(owners).where(owners.in_(network_ids)),
    )
    found = (connection.scalar(query.limit(1)) for query in queries)
    return next((an_id for an_id in found if an_id is not None), None)


def _advertiser(row: Sequence[Any]) -> Advertiser:  # SQLAlchemy does not type columns of a Table
    """Return the advertiser of a row of `_COLUMNS`; further columns may follow."""
    return Advertiser(
        id=row[0],
        name=row[1],
        display_name=row[2],
        slug=row[3],
        domain=row[4],
        network_name=row[5],
        publisher_name=row[6],
        status=row[7],
        hienergy_id=row[8],
    )


def _row(advertiser: Advertiser) -> dict[str, object]:
    return {
        "id": advertiser.id,
        "name": advertiser.name,
        "display_name": advertiser.display_name,
        "slug": advertiser.slug,
        "domain": advertiser.domain,
        "network_name": advertiser.network_name,
        "publisher_name": advertiser.publisher_name,
        "status": advertiser.status,
        "hienergy_id": advertiser.hienergy_id,
        **comparing_columns(
            advertiser.name, advertiser.display_name, advertiser.slug, advertiser.domain
        ),
    }
