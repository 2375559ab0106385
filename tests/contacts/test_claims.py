"""Claims of an attempt in the ledger: granted, waiting, or taken over."""

from datetime import UTC, datetime, timedelta

from contact_gateway.contacts.ledger import NO_HOLDER, Attempt, claim
from support.contacts import stored, submitted

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
FIRST = Attempt(
    scope=b"s" * 32,
    fingerprint=b"a" * 32,
    advertiser_id=2001,
    email="maya@example.com",
    sent_at=NOON,
    holder="first",
    held_until=NOON + 12 * SECOND,
)
LATER = FIRST._replace(holder="later", sent_at=NOON + SECOND, held_until=NOON + 13 * SECOND)
CONTACT = stored(
    submitted(advertiser_id=1001, email="maya@example.com"), NOON, advertiser_name="Northwind"
)


def test_where_there_is_none_the_newcomer_may_call() -> None:
    assert claim(None, FIRST) is FIRST


def test_one_that_is_held_stays_as_it_is() -> None:
    assert claim(FIRST, LATER) is FIRST


def test_one_that_is_answered_stays_as_it_is_also_after_its_hold() -> None:
    answered = FIRST._replace(contact=CONTACT)
    much_later = LATER._replace(sent_at=NOON + timedelta(hours=1))

    assert claim(answered, LATER) is answered
    assert claim(answered, much_later) is answered


def test_one_that_created_an_unnamed_contact_is_never_taken_over() -> None:
    unnamed = FIRST._replace(is_unnamed=True)
    much_later = LATER._replace(sent_at=NOON + timedelta(hours=1))

    assert claim(unnamed, much_later) is unnamed


def test_one_is_in_flight_while_a_worker_waits_for_its_answer() -> None:
    lost = FIRST._replace(holder=NO_HOLDER)

    assert FIRST.is_in_flight(NOON)
    assert not FIRST.is_in_flight(FIRST.held_until)
    assert not lost.is_in_flight(NOON)
    assert not FIRST._replace(contact=CONTACT).is_in_flight(NOON)


def test_an_attempt_whose_hold_has_ended_is_taken_over_with_its_data() -> None:
    newcomer = LATER._replace(
        sent_at=FIRST.held_until,
        held_until=NOON + 24 * SECOND,
        email="noor@example.com",
        fingerprint=b"b" * 32,
    )

    assert claim(FIRST, newcomer) == FIRST._replace(holder="later", held_until=newcomer.held_until)
