"""Advertisers in SQL."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, FromClause, and_, func, select

from contact_gateway.contacts.advertiser import HIENERGY_NETWORK, Advertiser
from contact_gateway.contacts.source import AdvertiserFilter, Page, PageRequest
from contact_gateway.contacts.text import domain_key, domain_of, folded
from contact_gateway.store import lists
from contact_gateway.store.lists import Condition, Group, List, Part
from contact_gateway.store.paging import page_of, part_of
from contact_gateway.store.prepared_statements import PreparedNewest, PreparedSelect
from contact_gateway.store.search import contains_folded, searched
from contact_gateway.store.tables import advertisers, contacts
from contact_gateway.store.upserts import upsert as upsert_statement

_SELECT: Final = select(*(advertisers.c[field] for field in Advertiser._fields))
_BY_ID: Final = PreparedSelect(_SELECT, advertisers.c.id)
_NEWEST: Final = PreparedNewest(_SELECT, advertisers.c.id)
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
    found = map(Advertiser._make, _BY_ID.rows(connection, [(an_id,) for an_id in ids]))
    return {advertiser.id: advertiser for advertiser in found}


def hienergy(connection: Connection, ids: Collection[int]) -> Mapping[int, Advertiser]:
    """Return the HiEnergy record of each advertiser's brand, by the id of the advertiser.

    The records stay HiEnergy's until the end of the transaction, which must be one that writes.
    """
    rows = _HIENERGY.rows(connection, [(an_id,) for an_id in ids])
    return {row[-1]: Advertiser._make(row[:-1]) for row in rows}


def by_slug(connection: Connection, slug: str) -> Advertiser | None:
    """Return the advertiser with a slug; a brand's HiEnergy record before its others."""
    is_hienergy = advertisers.c.network_name == HIENERGY_NETWORK
    named = _SELECT.where(advertisers.c.slug_key == folded(slug))
    row = connection.execute(named.order_by(is_hienergy.desc(), advertisers.c.id).limit(1)).first()
    return None if row is None else Advertiser._make(row)


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
        found[row.hienergy_id].append(Advertiser._make(row))
    return found


class Brand(NamedTuple):
    """Folded texts that the names of a brand contain, and keys that its domain equals."""

    names: Sequence[str] = ()
    domains: Sequence[str] = ()

    @property
    def is_set(self) -> bool:
        """Return whether it is a condition at all."""
        return bool(self.names or self.domains)

    def holds(self, rows: FromClause) -> ColumnElement[bool]:
        """Return the condition on an advertiser."""
        names = (contains_folded(rows.c.folded_names, name) for name in self.names)
        return and_(*names, *(rows.c.domain_key == domain for domain in self.domains))

    def owns(self, rows: FromClause) -> ColumnElement[bool]:
        """Return the condition on a row with an `advertiser_id`.

        A value, not EXISTS: PostgreSQL might first read all advertisers that the brand is of.
        """
        owner = advertisers.c.id == rows.c.advertiser_id
        return select(self.holds(advertisers)).where(owner).scalar_subquery()


def page(
    connection: Connection,
    wanted: AdvertiserFilter,
    request: PageRequest,
    before: int | None = None,
) -> Page[Advertiser]:
    """Return a page of advertisers, newest first; with `before`, of those with lower ids."""
    part = part_of(request, before)
    listed = _list(connection, wanted)
    rows = lists.ordered_rows(connection, _NEWEST, listed, part)
    if rows is not None:
        return page_of(request, map(Advertiser._make, rows))
    ids = lists.ids(connection, listed, part)
    found = by_id(connection, ids)
    return page_of(request, (found[an_id] for an_id in ids))


def hienergy_ids(connection: Connection, brand: Brand, limit: int) -> Sequence[int]:
    """Return the ids of the HiEnergy records of brands, newest first, up to a limit."""
    groups = [Group("domain_key", (domain,)) for domain in brand.domains]
    listed = _listed((), brand.names, groups, lambda rows: rows.c.hienergy_id == rows.c.id)
    return lists.ids(connection, listed, Part(limit))


def _list(connection: Connection, wanted: AdvertiserFilter) -> List:
    """Return the list of a filter. The group with the fewest rows comes first."""
    groups: list[Group] = []
    if wanted.hienergy_id is not None:
        groups.append(Group("hienergy_id", (wanted.hienergy_id,)))
    if wanted.domain is not None:
        groups.append(Group("domain_key", (domain_key(wanted.domain),)))
    if wanted.domain_or_url is not None:
        groups.append(Group("domain_key", (domain_key(domain_of(wanted.domain_or_url)),)))
    if wanted.network is not None:
        groups.append(Group("network_name", _networks(connection, wanted.network)))
    texts = lists.folded_texts(wanted.q, wanted.query, wanted.search)
    return _listed(texts, lists.folded_texts(wanted.name), groups)


def _listed(
    texts: Sequence[str], names: Sequence[str], groups: Sequence[Group], *conditions: Condition
) -> List:
    """Return the advertisers with texts, names and conditions, in all of the groups."""
    in_names = Brand(names).holds if names else None
    return List(
        advertisers,
        groups[0] if groups else None,
        # The folded text has the names, too, and an index.
        (*texts, *names),
        (*filter(None, (in_names,)), *(group.holds for group in groups[1:]), *conditions),
    )


def _networks(connection: Connection, network: str) -> Sequence[str]:
    """Return the names of a network, in any case: databases fold only ASCII.

    Each step reads the next name from the index, so that it takes no longer with more advertisers.
    """
    name = advertisers.c.network_name
    names = select(func.min(name).label("name")).cte("names", recursive=True)
    following = select(func.min(name)).where(name > names.c.name).scalar_subquery()
    names = names.union_all(select(following).where(names.c.name.is_not(None)))
    found = connection.scalars(select(names.c.name).where(names.c.name.is_not(None)))
    return [each for each in found if folded(each) == folded(network)]


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
    rows = [
        {
            **each._asdict(),
            **comparing_columns(each.name, each.display_name, each.slug, each.domain),
        }
        for each in records
    ]
    if rows:
        connection.execute(upsert_statement(connection.dialect.name, advertisers), rows)


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
    """Return one of the advertisers just stored that does not fit the others, or None.

    Its owner is not a HiEnergy record, or it is a network record that owns contacts or records.
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
