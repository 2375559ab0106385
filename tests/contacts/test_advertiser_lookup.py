"""Which advertiser a text names, on a source that may ignore filters, as HiEnergy may."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import pytest

from contact_gateway.contacts.advertiser import HIENERGY_NETWORK, Advertiser
from contact_gateway.contacts.advertiser_lookup import (
    MAX_CANDIDATES,
    advertiser_named,
    name_of_advertiser,
)
from contact_gateway.contacts.outcomes import Forbidden, NotFound, ReadRefusal
from contact_gateway.contacts.source import AdvertiserFilter, Page, PageRequest
from support.fake_source import FakeSource

pytestmark = pytest.mark.anyio

KESTREL = Advertiser(
    id=1001,
    name="Kestrel",
    slug="kestrel",
    domain="kestrel.example",
    network_name=HIENERGY_NETWORK,
    hienergy_id=1001,
)
KESTREL_US = Advertiser(id=2001, name="Kestrel US", network_name="CJ", hienergy_id=1001)
KESTREL_EU = Advertiser(id=2002, name="Kestrel EU", network_name="Awin", hienergy_id=1001)
# Two records with the same name, of unknown brands.
MERIDIANS = (
    Advertiser(id=3001, name="Meridian", display_name="Méridian", network_name="CJ"),
    Advertiser(id=3002, name="Meridian", slug="meridian-awin", network_name="Awin"),
)
MERIDIAN_HOTELS = Advertiser(id=3003, name="Meridian Hotels", domain="bücher.example")
SHOP = Advertiser(id=4001, name="Shop.example", domain="shops.example")
RECORDS: Final = (SHOP, MERIDIAN_HOTELS, *MERIDIANS, KESTREL_EU, KESTREL_US, KESTREL)
REFUSAL: Final = Forbidden("not this one")


class Catalogue(FakeSource):
    """A source with other records."""

    def __init__(
        self,
        records: Sequence[Advertiser] = RECORDS,
        *,
        ignores_filters: bool = False,
        has_more: bool = False,
        refuses: str | None = None,
    ) -> None:
        super().__init__()
        self._records = records
        self._ignores_filters = ignores_filters
        self._has_more = has_more
        self._refuses = refuses
        self.asked: list[str] = []

    def _refusal(self, question: str) -> ReadRefusal | None:
        self.asked.append(question)
        return REFUSAL if question == self._refuses else None

    async def advertisers(
        self, wanted: AdvertiserFilter, page: PageRequest
    ) -> Page[Advertiser] | ReadRefusal:
        if refusal := self._refusal("name" if wanted.domain is None else "domain"):
            return refusal
        found = [
            record
            for record in self._records
            if self._ignores_filters
            or (wanted.domain is not None and record.domain == wanted.domain)
            or (wanted.name is not None and wanted.name.casefold() in record.name.casefold())
        ]
        return Page(found, page, has_more=self._has_more)

    async def advertisers_by_id(self, ids: Collection[int]) -> Mapping[int, Advertiser]:
        self.asked.append("id")
        return {record.id: record for record in self._records if record.id in ids}

    async def advertiser_by_slug(self, slug: str) -> Advertiser | ReadRefusal | None:
        return self._refusal("slug") or next(
            (record for record in self._records if record.slug == slug), None
        )


@pytest.mark.parametrize(
    ("name", "found", "asked"),
    [
        pytest.param("2001", KESTREL_US, "id", id="an id"),
        pytest.param("meridian-awin", MERIDIANS[1], "slug", id="a slug"),
        pytest.param("kestrel.example", KESTREL, "slug domain", id="a domain"),
        pytest.param("Shop.example", SHOP, "slug domain name", id="a name like a domain"),
        pytest.param("KESTREL us", KESTREL_US, "name", id="a whole name in capitals"),
        pytest.param("KESTREL", KESTREL, "slug name", id="a whole name before parts of names"),
        pytest.param("estre", KESTREL, "slug name", id="a part of the names of one brand"),
        pytest.param("Kestrel\tEU", None, "name", id="two words that are not a name"),
        pytest.param("9", None, "id", id="an unknown id"),
        pytest.param("9" * 20, None, "slug name", id="digits that are no id"),
        pytest.param("nobody.example", None, "slug domain name", id="an unknown domain"),
    ],
)
async def test_a_text_names_one_advertiser_or_none(
    name: str, found: Advertiser | None, asked: str
) -> None:
    catalogue = Catalogue()

    result = await advertiser_named(catalogue, name)

    assert catalogue.asked == asked.split()
    if found is None:
        assert isinstance(result, NotFound)
        assert result.candidates == ()
    else:
        assert result == found


@pytest.mark.parametrize("ignores_filters", [False, True], ids=["filtered", "not filtered"])
@pytest.mark.parametrize(
    ("name", "found", "asked"),
    [
        pytest.param("2001", KESTREL_US, "id", id="an id"),
        pytest.param("kestrel", KESTREL, "slug", id="a slug"),
        pytest.param("kestrel.example", KESTREL, "slug domain", id="a domain"),
        pytest.param("Shop.example", None, "slug domain", id="a name like a domain"),
        pytest.param("estre", None, "slug", id="a part of a name"),
        pytest.param("Kestrel US", None, "", id="a whole name"),
    ],
)
async def test_names_are_not_looked_up_where_they_are_not_accepted(
    name: str, found: Advertiser | None, asked: str, *, ignores_filters: bool
) -> None:
    catalogue = Catalogue(ignores_filters=ignores_filters)

    result = await advertiser_named(catalogue, name, accepts_names=False)

    assert catalogue.asked == asked.split()
    assert result == found if found else isinstance(result, NotFound)


@pytest.mark.parametrize("ignores_filters", [False, True], ids=["filtered", "not filtered"])
async def test_several_brands_with_one_name_are_candidates(*, ignores_filters: bool) -> None:
    result = await advertiser_named(Catalogue(ignores_filters=ignores_filters), "MERIDIAN")

    assert isinstance(result, NotFound)
    assert result.candidates == MERIDIANS


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("kestrel.example", KESTREL),
        ("xn--bcher-kva.example", MERIDIAN_HOTELS),
        ("Shop.example", SHOP),
        ("hotels", MERIDIAN_HOTELS),
        ("nobody", None),
    ],
    ids=["a domain", "a domain in ASCII", "a name like a domain", "a part of a name", "no name"],
)
async def test_records_that_do_not_match_are_no_candidates(
    name: str, found: Advertiser | None
) -> None:
    result = await advertiser_named(Catalogue(ignores_filters=True), name)

    assert result == found if found else isinstance(result, NotFound)


async def test_a_record_of_an_unknown_brand_does_not_make_a_whole_name_ambiguous() -> None:
    unknown = Advertiser(id=5001, name="KESTREL", domain="kestrel.example", network_name="Impact")
    catalogue = Catalogue([unknown, KESTREL])

    assert await advertiser_named(catalogue, "KESTREL") == KESTREL
    assert await advertiser_named(catalogue, "kestrel.example") == KESTREL
    assert isinstance(await advertiser_named(catalogue, "estrel"), NotFound)


async def test_one_match_is_not_enough_where_there_are_more_than_can_be_read() -> None:
    result = await advertiser_named(Catalogue(has_more=True), "Meridian Hotels")

    assert isinstance(result, NotFound)
    assert result.candidates == (MERIDIAN_HOTELS,)


async def test_the_candidates_are_bounded_and_begin_with_hienergys_records() -> None:
    others = [Advertiser(id=number, name="Kestrel 2") for number in range(1, MAX_CANDIDATES + 5)]

    result = await advertiser_named(Catalogue([*others, KESTREL_US, KESTREL]), "estrel")

    assert isinstance(result, NotFound)
    assert result.candidates == (KESTREL, *others[: MAX_CANDIDATES - 1])


@pytest.mark.parametrize("question", ["slug", "domain", "name"])
async def test_a_refusal_of_the_source_is_returned(question: str) -> None:
    assert await advertiser_named(Catalogue(refuses=question), "a.example") == REFUSAL


@pytest.mark.parametrize(
    ("raw", "name", "problem"),
    [
        (" Kestrel\n", "Kestrel", None),
        (1001, "1001", None),
        (None, "", "REQUIRED"),
        ("  ", "", "REQUIRED"),
        (True, "", "INVALID_TYPE"),
        (["Kestrel"], "", "INVALID_TYPE"),
        ("a\x00b", "", "INVALID_CHARACTERS"),
        ("a" * 256, "", "TOO_LONG"),
    ],
    ids=["a text", "a number", "nothing", "blanks", "true", "a list", "NUL", "a long text"],
)
def test_the_name_is_one_line_of_text_or_a_number(
    raw: object, name: str, problem: str | None
) -> None:
    text, problems = name_of_advertiser(raw, "advertiser")

    assert text == name
    assert [(each.path, each.code) for each in problems] == (
        [] if problem is None else [(("advertiser",), problem)]
    )
