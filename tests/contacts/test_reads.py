"""Reads of a real store: permissions, arguments and results."""

from collections.abc import AsyncIterator
from typing import Final

import pytest

from contact_gateway.access.api_keys import mint
from contact_gateway.access.caller import Caller
from contact_gateway.access.principals import Credential, KeyRefusal, Role
from contact_gateway.access.rate_limits import HourlyRateLimit
from contact_gateway.contacts import reads
from contact_gateway.contacts.advertiser import HIENERGY_NETWORK, Advertiser
from contact_gateway.contacts.contact import Contact
from contact_gateway.contacts.outcomes import InvalidInput, RateLimited, Unauthorized
from contact_gateway.contacts.source import ContactCaller, Creation, Page, PageRequest, Source
from contact_gateway.store import advertisers, api_keys
from contact_gateway.store.database import Database
from contact_gateway.store.source import SqlSource
from support.contacts import submitted
from support.databases import Engine, Template, copy_of, database_at

pytestmark = pytest.mark.anyio

BRAND = Advertiser(
    id=1001, name="Northwind", slug="nw", network_name=HIENERGY_NETWORK, hienergy_id=1001
)
NETWORK_RECORD = Advertiser(id=2001, name="Northwind US", network_name="CJ", hienergy_id=1001)
ALONE = Advertiser(id=3001, name="Unlisted", network_name="CJ")
EMAILS = ("c@example.com", "b@example.com", "a@example.com")
KEY = mint()


async def _fill(database: Database) -> None:
    """Store three advertisers, three contacts and a member's key."""
    await database.write(
        lambda connection: advertisers.upsert(connection, (BRAND, NETWORK_RECORD, ALONE))
    )
    await database.write(
        lambda connection: api_keys.add(connection, KEY, role=Role.MEMBER, label="reader")
    )
    source = SqlSource(database)
    access = await source.authenticate(Credential.of(KEY.text))
    assert not isinstance(access, KeyRefusal)
    for email in reversed(EMAILS):
        contact = submitted(advertiser_id=1001, email=email)
        await access.create_contact(Creation(contact, None, dry_run=False))
    await source.close()


_TEMPLATE: Final = Template(_fill)


@pytest.fixture(scope="module")
def url(
    tmp_path_factory: pytest.TempPathFactory,
    engine_of_module: Engine,  # noqa: ARG001 - of this engine
) -> str:
    """Return the store. Nothing here writes, so all the tests may share it."""
    return copy_of(_TEMPLATE, tmp_path_factory.mktemp("queries"))


@pytest.fixture
async def source(url: str) -> AsyncIterator[Source]:
    database = database_at(url)
    source = SqlSource(database)
    yield source
    await source.close()
    await database.close()


@pytest.fixture
def caller(source: Source) -> ContactCaller:
    return Caller(Credential.of(KEY.text), source.authenticate)


def _emails(found: object) -> list[str | None]:
    assert isinstance(found, Page), found
    return [contact.email for contact in found.items]


def _problems(found: object) -> list[tuple[str, str]]:
    assert isinstance(found, InvalidInput), found
    return [(".".join(problem.path), problem.code) for problem in found.problems]


@pytest.mark.parametrize(
    ("raw", "number", "size"),
    [
        pytest.param({}, 1, 25, id="not given"),
        pytest.param({"page": 3, "per_page": 10}, 3, 10, id="numbers"),
        pytest.param({"page": "3", "per_page": "10"}, 3, 10, id="digits"),
        pytest.param({"page": None, "per_page": ""}, 1, 25, id="null and empty"),
        pytest.param({"per_page": 1}, 1, 1, id="the smallest page"),
        pytest.param({"per_page": 100}, 1, 100, id="the largest page"),
        pytest.param({"per_page": 101}, 1, 100, id="above the largest page"),
        pytest.param({"per_page": "9" * 5000}, 1, 100, id="very many digits"),
        pytest.param({"limit": 101}, 1, 100, id="above the largest page, by its other name"),
        pytest.param({"page": 2**31 - 1}, 2**31 - 1, 25, id="the last page"),
    ],
)
async def test_a_page_has_a_number_and_a_size(
    caller: ContactCaller, raw: dict[str, object], number: int, size: int
) -> None:
    for found in (
        await reads.contacts(caller, raw),
        await reads.advertisers(caller, raw),
        await reads.contacts_of_advertiser(caller, "2001", raw),
    ):
        assert isinstance(found, Page)
        assert found.request == PageRequest(number, size)


@pytest.mark.parametrize(
    ("raw", "problems"),
    [
        ({"page": 0}, [("page", "OUT_OF_RANGE")]),
        ({"page": "-1"}, [("page", "OUT_OF_RANGE")]),
        ({"page": 2**31}, [("page", "OUT_OF_RANGE")]),
        ({"page": "9" * 5000}, [("page", "OUT_OF_RANGE")]),
        ({"page": "two"}, [("page", "INVALID_TYPE")]),
        ({"per_page": 0}, [("per_page", "OUT_OF_RANGE")]),
        ({"per_page": True}, [("per_page", "INVALID_TYPE")]),
        ({"per_page": 2.0}, [("per_page", "INVALID_TYPE")]),
        ({"q": "a\x00"}, [("q", "INVALID_CHARACTERS")]),
        ({"domain": "a" * 256}, [("domain", "TOO_LONG")]),
        (
            {"per_page": 0, "q": 1, "page": 0},
            [("page", "OUT_OF_RANGE"), ("per_page", "OUT_OF_RANGE"), ("q", "INVALID_TYPE")],
        ),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
async def test_all_invalid_values_are_reported(
    caller: ContactCaller,
    raw: dict[str, object],
    problems: list[tuple[str, str]],
) -> None:
    assert _problems(await reads.contacts(caller, raw)) == problems
    assert _problems(await reads.advertisers(caller, raw)) == problems


@pytest.mark.parametrize("page", ["3000000000", 2**63, "9" * 20, "9" * 5000])
async def test_a_page_number_that_is_too_large_names_the_largest(
    caller: ContactCaller, page: object
) -> None:
    found = await reads.contacts(caller, {"page": page})

    assert isinstance(found, InvalidInput)
    assert [problem.message for problem in found.problems] == [
        "The largest allowed value is 2147483647."
    ]


@pytest.mark.parametrize(
    ("advertiser_id", "code"), [("a b", "INVALID_TYPE"), ("0", "OUT_OF_RANGE")]
)
async def test_an_invalid_advertiser_id_in_a_filter_is_reported(
    caller: ContactCaller, advertiser_id: str, code: str
) -> None:
    found = await reads.contacts(caller, {"advertiser_id": advertiser_id})

    assert _problems(found) == [("advertiser_id", code)]


@pytest.mark.parametrize(
    ("raw", "emails"),
    [
        pytest.param({}, EMAILS, id="no filter"),
        pytest.param({"q": "b@"}, EMAILS[1:2], id="q"),
        pytest.param({"q": "  b@ "}, EMAILS[1:2], id="q, trimmed"),
        pytest.param({"email": "A@example.com"}, EMAILS[2:], id="email"),
        pytest.param({"advertiser_id": "2001"}, EMAILS, id="a network record's id"),
        pytest.param({"advertiser_id": " 2001\n"}, EMAILS, id="an id, trimmed"),
        pytest.param({"advertiser_id": 3001}, (), id="an id without a brand"),
        pytest.param({"advertiser_id": " NW "}, EMAILS, id="a slug"),
        pytest.param({"advertiser_id": "acme"}, (), id="an unknown slug"),
        pytest.param({"advertiser_name": "north"}, EMAILS, id="advertiser's name"),
        pytest.param({"domain": "other.example"}, (), id="domain"),
    ],
)
async def test_the_filters_are_known_by_their_names(
    caller: ContactCaller, raw: dict[str, object], emails: tuple[str, ...]
) -> None:
    assert tuple(_emails(await reads.contacts(caller, raw))) == emails


@pytest.mark.parametrize("name", ["sort", "", "PAGE", "offset", "phone", "advertiser_slug"])
@pytest.mark.parametrize("value", ["x", "", None], ids=["text", "empty", "null"])
async def test_an_unknown_parameter_is_refused(
    caller: ContactCaller, name: str, value: str | None
) -> None:
    """It would be a filter that is not applied. HiEnergy's own filters are unknown here."""
    raw = {name: value}

    for found in (
        await reads.contacts(caller, raw),
        await reads.advertisers(caller, raw),
        await reads.contacts_of_advertiser(caller, "1001", raw),
    ):
        assert _problems(found) == [(name, "UNKNOWN_PARAMETER")]


async def test_invalid_and_unknown_parameters_are_reported_together(caller: ContactCaller) -> None:
    found = await reads.contacts(caller, {"sort": "email", "page": 0, "email": "a@example.com"})

    assert _problems(found) == [("page", "OUT_OF_RANGE"), ("sort", "UNKNOWN_PARAMETER")]


@pytest.mark.parametrize(
    ("raw", "ids"),
    [
        pytest.param({"name": "NORTHWIND"}, [2001, 1001], id="name"),
        pytest.param({"name": "nw"}, [], id="name, not the slug"),
        pytest.param({"q": "nw"}, [1001], id="q"),
        pytest.param({"q": "north", "name": "us"}, [2001], id="both"),
        pytest.param({"hienergy_id": 1001}, [2001, 1001], id="brand"),
        pytest.param({"hienergy_id": " 1001"}, [2001, 1001], id="brand, trimmed"),
        pytest.param({"q": "nw", "page": " 1 ", "per_page": " "}, [1001], id="page, trimmed"),
        pytest.param({"query": "nw"}, [1001], id="query"),
        pytest.param({"search": "nw", "q": "north"}, [1001], id="search and q"),
        pytest.param({"network": "cj"}, [3001, 2001], id="network"),
        pytest.param({"network": "c"}, [], id="network, not a part of it"),
    ],
)
async def test_advertisers_are_found_by_their_filters(
    caller: ContactCaller, raw: dict[str, object], ids: list[int]
) -> None:
    found = await reads.advertisers(caller, raw)

    assert isinstance(found, Page)
    assert [record.id for record in found.items] == ids


@pytest.mark.parametrize("empty", ["", None, "   "], ids=["empty", "null", "blank"])
@pytest.mark.parametrize("name", ["q", "email", "advertiser_id", "advertiser_name", "domain"])
async def test_an_empty_filter_counts_as_not_given(
    caller: ContactCaller, name: str, empty: str | None
) -> None:
    assert tuple(_emails(await reads.contacts(caller, {name: empty}))) == EMAILS


@pytest.mark.parametrize(
    ("contact_id", "email"),
    [
        pytest.param("1", "a@example.com", id="there"),
        pytest.param("4", None, id="not there"),
        pytest.param("acme", None, id="no number"),
        pytest.param("0", None, id="zero"),
        pytest.param("", None, id="empty"),
        pytest.param(str(2**63), None, id="above 64 bits"),
        pytest.param("9" * 5000, None, id="very many digits"),
    ],
)
async def test_a_contact_is_found_by_its_id_or_is_nothing(
    caller: ContactCaller, contact_id: str, email: str | None
) -> None:
    found = await reads.contact(caller, contact_id)

    assert (found.email if isinstance(found, Contact) else found) == email


@pytest.mark.parametrize(
    ("advertiser_id", "advertiser"),
    [("1001", BRAND), ("2001", NETWORK_RECORD), ("404", None), ("acme", None), ("", None)],
)
async def test_an_advertiser_is_found_by_its_id_or_is_nothing(
    caller: ContactCaller, advertiser_id: str, advertiser: Advertiser | None
) -> None:
    assert await reads.advertiser(caller, advertiser_id) == advertiser


@pytest.mark.parametrize(
    ("advertiser_id", "slug", "advertiser"),
    [
        pytest.param("2001", None, NETWORK_RECORD, id="id"),
        pytest.param(None, "nw", BRAND, id="slug"),
        pytest.param(None, "none", None, id="an unknown slug"),
    ],
)
async def test_an_advertiser_is_found_by_id_or_slug(
    caller: ContactCaller,
    advertiser_id: str | None,
    slug: str | None,
    advertiser: Advertiser | None,
) -> None:
    found = await reads.advertiser_by_id_or_slug(caller, advertiser_id, slug)

    assert found == advertiser


@pytest.mark.parametrize(
    ("advertiser_id", "slug"), [("1001", "nw"), (None, None)], ids=["both", "neither"]
)
async def test_an_advertiser_is_read_by_either_id_or_slug(
    caller: ContactCaller, advertiser_id: str | None, slug: str | None
) -> None:
    found = await reads.advertiser_by_id_or_slug(caller, advertiser_id, slug)

    assert _problems(found) == [("id", "INVALID_ARGUMENTS")]


@pytest.mark.parametrize(
    ("advertiser_id", "emails"),
    [
        pytest.param("1001", EMAILS, id="the HiEnergy record"),
        pytest.param("2001", EMAILS, id="a network record"),
        pytest.param("nw", EMAILS, id="a slug"),
        pytest.param("3001", (), id="a record without a brand"),
    ],
)
async def test_an_advertisers_contacts_are_those_of_its_hienergy_record(
    caller: ContactCaller, advertiser_id: str, emails: tuple[str, ...]
) -> None:
    found = await reads.contacts_of_advertiser(caller, advertiser_id, {})

    assert tuple(_emails(found)) == emails


@pytest.mark.parametrize("advertiser_id", ["404", "no-such-slug", "0", "9" * 5000, ""])
async def test_an_advertiser_that_is_not_there_has_no_list(
    caller: ContactCaller, advertiser_id: str
) -> None:
    assert await reads.contacts_of_advertiser(caller, advertiser_id, {}) is None


async def test_the_own_store_has_no_other_operations(caller: ContactCaller) -> None:
    assert await reads.pass_through(caller, "deals", "active=true") is None


async def test_a_second_advertiser_beside_that_of_the_path_is_refused(
    caller: ContactCaller,
) -> None:
    found = await reads.contacts_of_advertiser(caller, "1001", {"advertiser_id": "3001"})

    assert _problems(found) == [("advertiser_id", "UNKNOWN_PARAMETER")]


async def _every_read(caller: ContactCaller) -> list[object]:
    # Each with input that would be refused or not be found.
    return [
        await reads.contact(caller, "404"),
        await reads.contacts(caller, {"page": 0}),
        await reads.contacts_of_advertiser(caller, "404", {"page": 0}),
        await reads.advertisers(caller, {"page": 0}),
        await reads.advertiser(caller, "404"),
        await reads.advertiser_by_id_or_slug(caller, None, None),
    ]


@pytest.mark.parametrize(
    ("credential", "reason"),
    [
        pytest.param(None, KeyRefusal.MISSING, id="no key"),
        pytest.param("hunter2", KeyRefusal.MALFORMED, id="no key of ours"),
        pytest.param(mint().text, KeyRefusal.UNKNOWN, id="an unknown key"),
    ],
)
async def test_without_a_valid_key_a_read_is_refused(
    source: Source, credential: str | None, reason: KeyRefusal
) -> None:
    caller = Caller(None if credential is None else Credential.of(credential), source.authenticate)

    assert await _every_read(caller) == [Unauthorized(reason)] * 6


async def test_without_a_valid_key_related_records_are_refused(source: Source) -> None:
    caller: ContactCaller = Caller(None, source.authenticate)

    assert await reads.related_advertiser(caller, 1001) == Unauthorized(KeyRefusal.MISSING)
    assert await reads.equivalents(caller, 1001) == Unauthorized(KeyRefusal.MISSING)


async def test_a_read_over_the_limit_is_refused(source: Source) -> None:
    rate_limit = HourlyRateLimit(1)
    await reads.contact(Caller(Credential.of(KEY.text), source.authenticate, rate_limit), "1")

    answers = await _every_read(Caller(Credential.of(KEY.text), source.authenticate, rate_limit))

    assert all(isinstance(answer, RateLimited) for answer in answers)


async def test_all_reads_of_a_request_are_one_operation(source: Source) -> None:
    rate_limit = HourlyRateLimit(1)

    answers = await _every_read(Caller(Credential.of(KEY.text), source.authenticate, rate_limit))

    assert not any(isinstance(answer, RateLimited) for answer in answers)
