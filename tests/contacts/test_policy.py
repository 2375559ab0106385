from datetime import UTC, datetime

import pytest

from contact_gateway.access.principals import KeyRefusal, Role
from contact_gateway.contacts.advertiser import HIENERGY_NETWORK, Advertiser
from contact_gateway.contacts.contact import Contact, ContactPreview
from contact_gateway.contacts.outcomes import (
    CreateContactOutcome,
    Created,
    Existing,
    IdempotencyKeyReused,
    Previewed,
    Unauthorized,
)
from contact_gateway.contacts.policy import (
    Earlier,
    Facts,
    Insert,
    OnConflict,
    answer,
    decide,
    may_create,
    unknown_outcome_message,
)
from support.contacts import FORBIDDEN, KEY_REUSED, NOT_FOUND, conflict, stored, submitted

NOW = datetime(2026, 5, 4, tzinfo=UTC)
# Submitted for a network record; the brand's HiEnergy record is 1001.
SUBMITTED = submitted(advertiser_id=2001, email="maya@example.com", name="Maya", phone="1")
BRAND = Advertiser(
    id=1001,
    name="Northwind",
    display_name="Northwind Outfitters",
    network_name=HIENERGY_NETWORK,
    hienergy_id=1001,
)
NETWORK_RECORD = Advertiser(id=2001, name="Northwind US", network_name="CJ", hienergy_id=1001)
EARLIER = stored(
    submitted(advertiser_id=1001, email="maya@example.com"),
    NOW,
    id_=41,
    advertiser_name="Northwind Outfitters",
)
PREVIEWED_EARLIER = Previewed(ContactPreview(EARLIER.details, EARLIER.advertiser_name))
EXISTING = EARLIER._replace(id=42)
SAME_INPUT = Earlier(SUBMITTED.fingerprint(), EARLIER)
OTHER_INPUT = Earlier(SUBMITTED._replace(phone="2").fingerprint(), EARLIER)
BOTH = pytest.mark.parametrize("dry_run", [False, True], ids=["for real", "dry run"])


@pytest.mark.parametrize("role", Role)
def test_only_admins_create_contacts(role: Role) -> None:
    refusal = may_create(role)

    assert refusal == (None if role is Role.ADMIN else FORBIDDEN)


@BOTH
@pytest.mark.parametrize("earlier", [None, SAME_INPUT, OTHER_INPUT])
@pytest.mark.parametrize("ended", [KeyRefusal.REVOKED, KeyRefusal.EXPIRED])
def test_an_api_key_that_has_ended_meanwhile_comes_before_all_else(
    ended: KeyRefusal, earlier: Earlier | None, *, dry_run: bool
) -> None:
    facts = Facts(earlier=earlier, hienergy=BRAND, existing=EXISTING, refusal=ended)

    assert decide(SUBMITTED, facts, dry_run=dry_run) == Unauthorized(ended)


def test_where_all_rules_hold_the_contact_is_inserted_on_the_hienergy_record() -> None:
    facts = Facts(earlier=None, hienergy=BRAND, existing=None)

    assert decide(SUBMITTED, facts, dry_run=False) == Insert(BRAND, SUBMITTED)


def test_a_dry_run_previews_the_contact_on_the_hienergy_record() -> None:
    facts = Facts(earlier=None, hienergy=BRAND, existing=None)

    assert decide(SUBMITTED, facts, dry_run=True) == Previewed(
        ContactPreview(
            submitted(advertiser_id=1001, email="maya@example.com", name="Maya", phone="1"),
            "Northwind Outfitters",
        )
    )


def test_a_preview_names_a_brand_without_a_display_name_by_its_name() -> None:
    brand = BRAND._replace(display_name=None)

    assert ContactPreview.of(SUBMITTED, brand).advertiser_name == "Northwind"


@BOTH
@pytest.mark.parametrize(
    "hienergy",
    [
        pytest.param(None, id="nothing"),
        pytest.param(NETWORK_RECORD, id="another network record"),
    ],
)
def test_an_advertiser_that_names_no_hienergy_record_is_not_found(
    hienergy: Advertiser | None,
    *,
    dry_run: bool,
) -> None:
    facts = Facts(earlier=None, hienergy=hienergy, existing=None)

    assert decide(SUBMITTED, facts, dry_run=dry_run) == NOT_FOUND


@BOTH
def test_a_contact_with_the_address_is_a_conflict_that_shows_it(*, dry_run: bool) -> None:
    facts = Facts(earlier=None, hienergy=BRAND, existing=EXISTING)

    assert decide(SUBMITTED, facts, dry_run=dry_run) == conflict(EXISTING)


@BOTH
def test_a_repeated_key_with_the_same_input_returns_what_it_created(*, dry_run: bool) -> None:
    facts = Facts(earlier=SAME_INPUT, hienergy=BRAND, existing=EARLIER)

    expected = PREVIEWED_EARLIER if dry_run else Created(EARLIER, replayed=True)
    assert decide(SUBMITTED, facts, dry_run=dry_run) == expected


@BOTH
@pytest.mark.parametrize("hienergy", [None, BRAND], ids=["unresolved", "resolved"])
@pytest.mark.parametrize("existing", [None, EXISTING], ids=["free", "taken"])
@pytest.mark.parametrize(
    ("earlier", "outcome"),
    [
        pytest.param(SAME_INPUT, Created(EARLIER, replayed=True), id="same input"),
        pytest.param(OTHER_INPUT, KEY_REUSED, id="other input"),
    ],
)
def test_a_used_key_comes_before_the_advertiser_and_the_address(
    earlier: Earlier,
    outcome: Created | IdempotencyKeyReused,
    existing: Contact | None,
    hienergy: Advertiser | None,
    *,
    dry_run: bool,
) -> None:
    facts = Facts(earlier=earlier, hienergy=hienergy, existing=existing)

    replays = isinstance(outcome, Created)
    expected = PREVIEWED_EARLIER if replays and dry_run else outcome
    assert decide(SUBMITTED, facts, dry_run=dry_run) == expected


@BOTH
def test_the_advertiser_comes_before_the_address(*, dry_run: bool) -> None:
    facts = Facts(earlier=None, hienergy=None, existing=EXISTING)

    assert decide(SUBMITTED, facts, dry_run=dry_run) == NOT_FOUND


@pytest.mark.parametrize(
    ("outcome", "answered"),
    [
        pytest.param(conflict(EXISTING), Existing(EXISTING), id="a conflict"),
        pytest.param(conflict(None), conflict(None), id="a conflict without a contact"),
        pytest.param(NOT_FOUND, NOT_FOUND, id="another refusal"),
        pytest.param(Created(EARLIER), Created(EARLIER), id="a contact"),
    ],
)
def test_only_a_conflict_becomes_the_existing_contact_and_only_where_it_is_asked_for(
    outcome: CreateContactOutcome, answered: CreateContactOutcome
) -> None:
    assert answer(outcome, OnConflict.RETURN_EXISTING) == answered
    assert answer(outcome, OnConflict.REFUSE) == outcome


@pytest.mark.parametrize("candidate", [None, EXISTING], ids=["not shown", "shown"])
@pytest.mark.parametrize(
    ("is_unnamed", "advice"),
    [
        pytest.param(False, "Repeat with the same idempotency key", id="lost"),
        pytest.param(True, "With this idempotency key, it is not sent again.", id="unnamed"),
    ],
)
def test_an_unknown_outcome_says_what_to_do(
    advice: str, candidate: Contact | None, *, is_unnamed: bool
) -> None:
    message = unknown_outcome_message(is_unnamed=is_unnamed, candidate=candidate)

    assert advice in message
    assert ("contact 42 " in message) == (candidate is not None)
