"""Lists, compared with Python's `in` and `sorted` over the same rows.

The limits are low, so that a few rows make each list take each of its ways.
"""

import asyncio
import random
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import psycopg
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, insert
from sqlalchemy import Engine as SqlEngine

from contact_gateway.contacts.advertiser import HIENERGY_NETWORK, Advertiser
from contact_gateway.contacts.source import AdvertiserFilter, ContactFilter, PageRequest
from contact_gateway.contacts.text import domain_key, email_key, folded
from contact_gateway.database_url import PostgresqlServer, parse_database_url
from contact_gateway.store import advertisers, contacts, lists, schema_version
from contact_gateway.store.advertisers import comparing_columns
from contact_gateway.store.tables import contacts as contacts_table
from support.databases import Engine, database_at, databases_on, new_database
from support.text_index import index_waiting_rows

NOW: Final = datetime(2026, 1, 2, tzinfo=UTC)
NETWORKS: Final = ("CJ", "Awin", "awin", "Étranger", "étranger")
WORDS: Final = (
    *(
        "abc",
        "abcabc",
        "Abd",
        "100%",
        "a_b",
        "c\\d",
        'say "hi"',
        "it's",
        "ÉCOLE",
        "école",
        "\u017ftra\xdfe",
    ),
    *(
        "한국어",
        "東京",
        "東京都",
        "🙂🙂🙂",
        "ﬁn",
        "İstanbul",
        "-- x",
        "*",
        "NOT abc",
        "aaa",
        "aaaa",
    ),
)
FRAGMENTS: Final = (
    "a",
    "ab",
    "bc",
    "cab",
    "b a",
    "%",
    "_",
    "\\",
    '"',
    "'",
    "é",
    "京",
    "국어",
    "zzz",
    ".",
)
DOMAINS: Final = ("one.example", "two.example", "bücher.example", "absent.example")
EMAILS: Final = ("same@example.com", "SAME@example.com", "anna@one.example", "no@example.com")


class Row(NamedTuple):
    """A contact, as far as filters read it."""

    id: int
    advertiser_id: int
    email_key: str
    folded_text: str


class Rows:
    """What is stored. Not a tuple, which Hypothesis would print."""

    def __init__(
        self, engine: SqlEngine, advertisers: Sequence[Advertiser], contacts: Sequence[Row]
    ) -> None:
        self.engine: Final = engine
        self.advertisers: Final = advertisers
        self.contacts: Final = contacts


def _advertisers() -> Iterator[Advertiser]:
    choose = random.Random(1)  # noqa: S311 - not a secret
    for number in range(1, 121):
        brand = (number - 1) % 40 + 1
        is_hienergy = number == brand
        yield Advertiser(
            id=number,
            name=" ".join(choose.choices(WORDS, k=2)),
            display_name=choose.choice((None, *WORDS)),
            slug=f"slug-{number}",
            domain=choose.choice((None, *DOMAINS[:-1])),
            network_name=HIENERGY_NETWORK if is_hienergy else choose.choice(NETWORKS),
            hienergy_id=brand if number < 100 else None,
        )


def _contacts(connection: Connection) -> Sequence[Row]:
    choose = random.Random(2)  # noqa: S311 - not a secret
    rows, values = [], []
    for number in range(1, 601):
        # Some brands have many contacts, and the last one none.
        owner = int(choose.random() ** 2 * 39) + 1
        email = f"{number % 7}{choose.choice(('anna', 'abc', 'x'))}{number}@one.example"
        key = email_key(email)
        if number % 50 == 0:
            email, key = "same@example.com", contacts.distinct_key("same@example.com", number)
        name = " ".join(choose.choices(WORDS, k=2))
        text = contacts.folded_text(email, (name, choose.choice((None, *WORDS)), None))
        rows.append(Row(number, owner, key, text))
        values.append(
            {
                "id": number,
                "advertiser_id": owner,
                "email": email,
                "email_key": key,
                "name": name,
                "folded_text": text,
                "created_at": NOW,
                "updated_at": NOW,
            }
        )
    connection.execute(insert(contacts_table), values)
    return rows


@pytest.fixture(scope="module", params=list(Engine), ids=str)
def rows(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rows]:
    """Return the rows of a database for each engine, on SQLite half of them not indexed yet."""
    with databases_on(request.param):
        url = new_database(tmp_path_factory.mktemp("lists"))
        stored = asyncio.run(_fill(url))
        address = parse_database_url(url)
        engine = (
            create_engine(
                "postgresql+psycopg://",
                creator=lambda: psycopg.connect(address.uri, cursor_factory=psycopg.RawCursor),
                paramstyle="numeric_dollar",
            )
            if isinstance(address, PostgresqlServer)
            else create_engine(f"sqlite:///{address.path}")
        )
        yield Rows(engine, *stored)
        engine.dispose()


async def _fill(url: str) -> tuple[Sequence[Advertiser], Sequence[Row]]:
    records = list(_advertisers())
    database = database_at(url)
    await schema_version.prepare(database)

    def fill(connection: Connection) -> Sequence[Row]:
        # A brand's HiEnergy record before its others.
        advertisers.upsert(connection, records)
        rows = _contacts(connection)
        if connection.dialect.name == "sqlite":
            index_waiting_rows(connection, "advertisers", 60)
            index_waiting_rows(connection, "contacts", 300)
        return rows

    contacts_ = await database.write(fill)
    await database.close()
    return records, contacts_


@pytest.fixture
def connection(rows: Rows) -> Iterator[Connection]:
    with rows.engine.connect() as connection:
        yield connection


@pytest.fixture(
    params=[(1, 1, 1), (7, 20, 3), (10_000, 10_000, 500)],
    ids=["least limits", "low limits", "high limits"],
)
def _limits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    newest, few, groups = request.param
    monkeypatch.setattr(lists, "NEWEST", newest)
    monkeypatch.setattr(lists, "FEW", few)
    monkeypatch.setattr(lists, "MAX_GROUPS", groups)


texts = st.none() | st.sampled_from((*WORDS, *FRAGMENTS)) | st.text("abc d%_\"'é京", min_size=1)
sizes = st.integers(1, 12)
numbers = st.integers(1, 4)
befores = st.none() | st.integers(1, 601)
some_examples = settings(max_examples=50)


def _contact_filter(fields: Mapping[str, Any]) -> ContactFilter:
    return ContactFilter(**fields)


def _advertiser_filter(fields: Mapping[str, Any]) -> AdvertiserFilter:
    return AdvertiserFilter(**fields)


@pytest.mark.usefixtures("_limits")
@some_examples
@example(ContactFilter(advertiser_name="abc"), 5, 1, None)
@example(ContactFilter(q="abc", advertiser_name="abc", domain="one.example"), 5, 2, None)
@example(ContactFilter(email="same@example.com", q="abc"), 5, 1, 300)
@given(
    st.fixed_dictionaries(
        {
            "q": texts,
            "query": st.none() | texts,
            "email": st.none() | st.none() | st.sampled_from(EMAILS),
            "advertiser_id": st.none() | st.none() | st.integers(1, 125),
            "advertiser_name": st.none() | texts,
            "domain": st.none() | st.none() | st.sampled_from(DOMAINS),
        }
    ).map(_contact_filter),
    sizes,
    numbers,
    befores,
)
def test_contacts_are_those_that_match_newest_first(
    connection: Connection,
    rows: Rows,
    wanted: ContactFilter,
    size: int,
    number: int,
    before: int | None,
) -> None:
    by_id = {record.id: record for record in rows.advertisers}

    def is_owner(owner: Advertiser) -> bool:
        named = by_id.get(wanted.advertiser_id or 0)
        return named is not None and named.hienergy_id == owner.id

    def matches(row: Row) -> bool:
        owner = by_id[row.advertiser_id]
        return (
            all(
                text is None or folded(text) in row.folded_text for text in (wanted.q, wanted.query)
            )
            and (wanted.email is None or row.email_key.split(" #")[0] == email_key(wanted.email))
            and (wanted.advertiser_id is None or is_owner(owner))
            and _matches_brand(owner, wanted.advertiser_name, wanted.domain)
        )

    expected = _page([row.id for row in rows.contacts if matches(row)], size, number, before)
    page = contacts.page(connection, wanted, PageRequest(number, size), before)

    assert ([contact.id for contact in page.items], page.has_more) == expected


@pytest.mark.usefixtures("_limits")
@some_examples
@example(AdvertiserFilter(q="abc", network="AWIN"), 5, 1, None)
@given(
    st.fixed_dictionaries(
        {
            "q": texts,
            "name": st.none() | texts,
            "domain": st.none() | st.none() | st.sampled_from(DOMAINS),
            "domain_or_url": st.none() | st.none() | st.sampled_from(DOMAINS),
            "network": st.none() | st.sampled_from(("hienergy", "AWIN", "cj", "ÉTRANGER", "none")),
            "hienergy_id": st.none() | st.none() | st.integers(1, 41),
        }
    ).map(_advertiser_filter),
    sizes,
    numbers,
    befores,
)
def test_advertisers_are_those_that_match_newest_first(
    connection: Connection,
    rows: Rows,
    wanted: AdvertiserFilter,
    size: int,
    number: int,
    before: int | None,
) -> None:
    network = wanted.network

    def matches(record: Advertiser) -> bool:
        columns = comparing_columns(record.name, record.display_name, record.slug, record.domain)
        return (
            (wanted.q is None or folded(wanted.q) in str(columns["folded_text"]))
            and _matches_brand(record, wanted.name, wanted.domain)
            and _matches_brand(record, None, wanted.domain_or_url)
            and (network is None or folded(record.network_name or "") == folded(network))
            and (wanted.hienergy_id is None or record.hienergy_id == wanted.hienergy_id)
        )

    ids = [record.id for record in rows.advertisers if matches(record)]
    page = advertisers.page(connection, wanted, PageRequest(number, size), before)

    assert ([record.id for record in page.items], page.has_more) == _page(ids, size, number, before)


def _matches_brand(record: Advertiser, name: str | None, domain: str | None) -> bool:
    columns = comparing_columns(record.name, record.display_name, None, record.domain)
    return (name is None or folded(name) in str(columns["folded_names"])) and (
        domain is None or columns["domain_key"] == domain_key(domain)
    )


def _page(
    ids: Sequence[int], size: int, number: int, before: int | None
) -> tuple[Sequence[int], bool]:
    newest = sorted(ids, reverse=True)
    start = (number - 1) * size
    if before is not None:
        newest, start = [an_id for an_id in newest if an_id < before], 0
    return newest[start : start + size], len(newest) > start + size
