import string
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contact_gateway.access.api_keys import (
    PREFIX,
    KeyRecord,
    MintedKey,
    Rotation,
    RotationRefusal,
    end_of,
    mint,
    parse,
    refusal_of,
    rotate,
    verify,
)
from contact_gateway.access.principals import ApiKeyOwner, KeyRefusal, Role

ALPHABET = string.digits + string.ascii_letters
NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)
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


def _verify(
    minted: MintedKey, record: KeyRecord | None, now: datetime = NOW
) -> ApiKeyOwner | KeyRefusal:
    presented = parse(minted.text)
    assert presented is not None
    return verify(presented, record, now)


def _rotated(
    record: KeyRecord, overlap: timedelta, expires_at: datetime | None = None
) -> tuple[MintedKey, KeyRecord]:
    rotation = rotate(record, overlap, NOW, expires_at)
    assert isinstance(rotation, Rotation)
    return rotation.minted, rotation.record


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
    assert secret not in repr(record)
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

    assert owner == ApiKeyOwner(7, "ci", Role.ADMIN, minted.secret_hash)


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
    other = _record(mint())._replace(lookup=minted.lookup)
    record = other._replace(expires_at=expires_at, revoked_at=revoked_at)

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

    found = _verify(minted, _record(minted)._replace(expires_at=expires_at))

    assert (found is not KeyRefusal.EXPIRED) == is_valid
    assert isinstance(found, ApiKeyOwner) == is_valid


def test_a_revoked_key_stays_revoked_after_it_has_expired() -> None:
    minted = mint()
    record = _record(minted)._replace(expires_at=NOW - SECOND, revoked_at=NOW - 2 * SECOND)

    assert _verify(minted, record) is KeyRefusal.REVOKED


def test_a_rotation_replaces_the_secret_and_nothing_else() -> None:
    record = _record(mint())

    minted, rotated = _rotated(record, DAY)

    assert minted.lookup == record.lookup
    assert parse(minted.text) is not None
    assert rotated == record._replace(
        secret_hash=minted.secret_hash,
        old_secret_hash=record.secret_hash,
        old_secret_expires_at=NOW + DAY,
    )


def test_both_secrets_speak_for_the_same_owner_until_the_overlap_ends() -> None:
    old = mint()
    new, record = _rotated(_record(old), DAY)

    during = [_verify(key, record, NOW + DAY - SECOND) for key in (old, new)]
    after = [_verify(key, record, NOW + DAY) for key in (old, new)]

    owners = [ApiKeyOwner(7, "ci", Role.ADMIN, key.secret_hash) for key in (old, new)]
    assert during == owners
    assert after == [KeyRefusal.ROTATED, owners[1]]


def test_without_an_overlap_the_old_secret_ends_at_once() -> None:
    old = mint()
    new, record = _rotated(_record(old), timedelta())

    assert _verify(old, record) is KeyRefusal.ROTATED
    assert isinstance(_verify(new, record), ApiKeyOwner)


def test_a_revocation_ends_both_secrets() -> None:
    old = mint()
    new, record = _rotated(_record(old), DAY)
    revoked = record._replace(revoked_at=NOW)

    assert [_verify(key, revoked) for key in (old, new)] == [KeyRefusal.REVOKED] * 2


@pytest.mark.parametrize(
    ("expires_in", "new_expires_in", "wanted"),
    [
        pytest.param(None, None, (None, DAY), id="never"),
        pytest.param(2 * DAY, None, (2 * DAY, DAY), id="later"),
        pytest.param(SECOND, None, (SECOND, SECOND), id="before the overlap ends"),
        pytest.param(SECOND, 90 * DAY, (90 * DAY, SECOND), id="later than before"),
        pytest.param(None, SECOND, (SECOND, SECOND), id="earlier than before"),
    ],
)
def test_a_rotation_keeps_the_expiry_unless_it_is_given_and_the_old_secret_gains_no_time(
    expires_in: timedelta | None,
    new_expires_in: timedelta | None,
    wanted: tuple[timedelta | None, timedelta],
) -> None:
    record = _record(mint())._replace(expires_at=None if expires_in is None else NOW + expires_in)

    _, rotated = _rotated(record, DAY, None if new_expires_in is None else NOW + new_expires_in)

    key_ends, old_secret_ends = wanted
    assert rotated.expires_at == (None if key_ends is None else NOW + key_ends)
    assert rotated.old_secret_expires_at == NOW + old_secret_ends
    assert end_of(rotated, rotated.secret_hash) == rotated.expires_at
    assert end_of(rotated, record.secret_hash) == rotated.old_secret_expires_at


@pytest.mark.parametrize(
    ("record", "refusal"),
    [
        pytest.param(
            _record(mint())._replace(revoked_at=NOW), RotationRefusal.REVOKED, id="revoked"
        ),
        pytest.param(
            _record(mint())._replace(expires_at=NOW), RotationRefusal.EXPIRED, id="expired"
        ),
    ],
)
def test_a_key_that_has_ended_is_not_rotated(record: KeyRecord, refusal: RotationRefusal) -> None:
    assert rotate(record, DAY, NOW) is refusal
    assert rotate(record, timedelta(), NOW, NOW + DAY) is refusal


def test_a_second_rotation_waits_for_the_end_of_the_overlap() -> None:
    _, record = _rotated(_record(mint()), DAY)

    assert rotate(record, DAY, NOW + DAY - SECOND) is RotationRefusal.OVERLAP
    assert isinstance(rotate(record, DAY, NOW + DAY), Rotation)


def test_an_overlap_is_of_the_latest_two_secrets_alone() -> None:
    oldest = mint()
    old, first = _rotated(_record(oldest), timedelta())
    new, second = _rotated(first, DAY)

    assert [refusal_of(second, key.secret_hash, NOW) for key in (oldest, old, new)] == [
        KeyRefusal.ROTATED,
        None,
        None,
    ]


def test_a_second_rotation_without_an_overlap_ends_both_secrets() -> None:
    oldest = mint()
    old, first = _rotated(_record(oldest), DAY)
    new, second = _rotated(first, timedelta())

    assert _verify(oldest, second) is KeyRefusal.UNKNOWN
    assert _verify(old, second) is KeyRefusal.ROTATED
    assert isinstance(_verify(new, second), ApiKeyOwner)
    # A request in flight was authenticated with it.
    assert refusal_of(second, oldest.secret_hash, NOW) is KeyRefusal.ROTATED
