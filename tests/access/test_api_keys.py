import string
from dataclasses import astuple, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contact_gateway.access.api_keys import PREFIX, KeyRecord, MintedKey, mint, parse, verify
from contact_gateway.access.principals import ApiKeyOwner, KeyRefusal, Role

ALPHABET = string.digits + string.ascii_letters
NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
LOOKUP = slice(len(PREFIX), len(PREFIX) + 12)
SECRET = slice(LOOKUP.stop, LOOKUP.stop + 32)


def _record(minted: MintedKey) -> KeyRecord:
    return KeyRecord(
        id=7,
        lookup=minted.lookup,
        secret_hash=minted.secret_hash,
        role=Role.ADMIN,
        label="ci",
        created_at=NOW - timedelta(days=1),
        expires_at=None,
        revoked_at=None,
    )


def _verify(minted: MintedKey, record: KeyRecord | None) -> ApiKeyOwner | KeyRefusal:
    presented = parse(minted.text)
    assert presented is not None
    return verify(presented, record, NOW)


def test_a_key_is_a_prefix_and_fifty_letters_and_digits() -> None:
    text = mint().text

    assert text.startswith("cgw_")
    assert len(text) == 54
    assert set(text.removeprefix("cgw_")) <= set(ALPHABET)


def test_keys_are_unique() -> None:
    minted = [mint() for _ in range(50)]

    assert len({key.lookup for key in minted}) == 50
    assert len({key.secret_hash for key in minted}) == 50


def test_a_minted_key_is_recognised_by_its_record() -> None:
    minted = mint()

    presented = parse(minted.text)

    assert presented is not None
    assert (presented.lookup, presented.secret_hash) == (minted.lookup, minted.secret_hash)
    assert minted.lookup == minted.text[LOOKUP]


def test_a_record_holds_a_hash_and_not_the_secret() -> None:
    minted = mint()
    secret = minted.text[SECRET]

    record = _record(minted)

    assert len(record.secret_hash) == 32
    assert secret not in repr(astuple(record))
    assert secret.encode() not in record.secret_hash


def test_the_repr_of_a_key_hides_its_secret() -> None:
    minted = mint()
    presented = parse(minted.text)

    for shown in (repr(minted), repr(presented), str(minted), f"{presented}"):
        assert minted.text[SECRET] not in shown
        assert repr(minted.secret_hash) not in shown


@given(position=st.integers(0, 53), typed=st.sampled_from(ALPHABET + string.punctuation + " é\n"))
def test_a_typo_in_one_character_is_detected(position: int, typed: str) -> None:
    text = mint().text
    mistyped = text[:position] + typed + text[position + 1 :]

    assert (parse(mistyped) is None) == (mistyped != text)


@pytest.mark.parametrize("position", range(53))
def test_two_swapped_characters_are_detected(position: int) -> None:
    text = mint().text
    first, second = text[position], text[position + 1]
    swapped = text[:position] + second + first + text[position + 2 :]

    assert (parse(swapped) is None) == (first != second)


@given(position=st.integers(0, 54), added=st.sampled_from(ALPHABET + " \n"))
def test_an_added_or_a_missing_character_is_detected(position: int, added: str) -> None:
    text = mint().text

    assert parse(text[:position] + added + text[position:]) is None
    if position < len(text):
        assert parse(text[:position] + text[position + 1 :]) is None


@given(text=st.text() | st.text(min_size=50, max_size=50).map(PREFIX.__add__))
def test_any_other_text_is_not_a_key(text: str) -> None:
    assert parse(text) is None


def test_a_known_key_speaks_for_its_owner() -> None:
    minted = mint()

    owner = _verify(minted, _record(minted))

    assert owner == ApiKeyOwner(key_id=7, label="ci", role=Role.ADMIN)


def test_a_key_that_is_not_on_record_is_unknown() -> None:
    assert _verify(mint(), None) is KeyRefusal.UNKNOWN


@pytest.mark.parametrize(
    ("expires_at", "revoked_at"),
    [
        pytest.param(None, None, id="valid"),
        pytest.param(NOW - SECOND, None, id="expired"),
        pytest.param(None, NOW - SECOND, id="revoked"),
    ],
)
def test_the_wrong_secret_learns_nothing_of_the_key(
    expires_at: datetime | None, revoked_at: datetime | None
) -> None:
    minted = mint()
    other = replace(_record(mint()), lookup=minted.lookup)
    record = replace(other, expires_at=expires_at, revoked_at=revoked_at)

    assert _verify(minted, record) is KeyRefusal.UNKNOWN


@pytest.mark.parametrize(
    ("expires_at", "is_valid"),
    [
        pytest.param(NOW + SECOND, True, id="a second before"),
        pytest.param(NOW, False, id="at the moment"),
        pytest.param(NOW - SECOND, False, id="a second after"),
    ],
)
def test_a_key_is_valid_until_the_moment_it_expires(
    expires_at: datetime,
    *,
    is_valid: bool,
) -> None:
    minted = mint()

    found = _verify(minted, replace(_record(minted), expires_at=expires_at))

    assert (found is not KeyRefusal.EXPIRED) == is_valid
    assert isinstance(found, ApiKeyOwner) == is_valid


def test_a_revoked_key_stays_revoked_after_it_has_expired() -> None:
    minted = mint()
    record = replace(_record(minted), expires_at=NOW - SECOND, revoked_at=NOW - 2 * SECOND)

    assert _verify(minted, record) is KeyRefusal.REVOKED
