"""Searched text is found in each of its forms, by SQLite itself."""

import unicodedata
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, delete, insert, select

from contact_gateway.contacts.text import folded, normal, trimmed
from contact_gateway.store.advertisers import comparing_columns
from contact_gateway.store.search import contains_folded, searched
from contact_gateway.store.tables import advertisers

# Without lone surrogates, which are refused and which SQLite cannot store.
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
letters = st.text(
    st.sampled_from(
        "aeéèöñß\u0301\u0308\u0323\u017f\u0345\u1112\u1161\u11ab\ud55c\ufb01\uff2d %_\\"
    ),
    min_size=1,
)
FORMS = ("NFC", "NFD", "NFKC", "NFKD")


@pytest.fixture(scope="module")
def connection() -> Iterator[Connection]:
    engine = create_engine("sqlite://")
    advertisers.create(engine)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts | letters, st.sampled_from(FORMS), st.sampled_from(FORMS))
def test_a_name_is_found_by_each_of_its_forms(
    connection: Connection, name: str, stored_form: str, wanted_form: str
) -> None:
    stored = normal(trimmed(unicodedata.normalize(stored_form, name)))  # type: ignore[arg-type]
    wanted = unicodedata.normalize(wanted_form, name)  # type: ignore[arg-type]
    assume(stored)
    connection.execute(delete(advertisers))
    row = comparing_columns(f"Before {stored}", None, None, None)
    connection.execute(insert(advertisers).values(id=1, name=stored, network_name="CJ", **row))

    has_text = contains_folded(advertisers.c.folded_text, folded(wanted))
    found = connection.scalar(select(advertisers.c.id).where(has_text))

    assert found == 1


@given(st.lists(st.none() | texts | letters | st.sampled_from(["ab", "abc", "B"])), texts | letters)
def test_texts_that_others_contain_are_left_out_and_found_as_before(
    given_texts: list[str | None], wanted: str
) -> None:
    lines = [folded(text) for text in given_texts if text]
    needle = folded(wanted)

    kept = searched(given_texts)

    assert (needle in kept) == (not needle or any(needle in line for line in lines))
    assert len(kept.split("\n")) <= max(len(lines), 1)


@given(st.lists(st.none() | st.text(st.characters(codec="ascii", categories=["L", "N", "P"]))))
def test_texts_in_ascii_are_folded_as_beside_another_text(given_texts: list[str | None]) -> None:
    alone, beside_another = searched(given_texts), searched([*given_texts, "\xe9"])

    assert beside_another == (f"{alone}\n\xe9" if alone else "\xe9")
