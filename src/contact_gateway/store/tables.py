"""The tables. A test compares them with what the migrations create."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    false,
    text,
)

from contact_gateway.contacts.timestamps import Timestamp, timestamp


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time in UTC, also in databases without time zones, such as SQLite."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Convert a time to UTC, for the database."""
        return _in_utc(value)

    def result_processor(
        self, dialect: Dialect, _coltype: object
    ) -> Callable[[Any], datetime | None]:  # a driver's value has any type
        """Return the function that converts a driver's time: a text, or in the session's zone."""
        return _parsed if dialect.name == "sqlite" else _in_utc


class ShownTime(TypeDecorator[Timestamp]):
    """The text of a time, from a column of times that is only read."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def result_processor(
        self, dialect: Dialect, _coltype: object
    ) -> Callable[[Any], Timestamp]:  # a driver's value has any type
        """Return the function that converts a driver's time."""
        return _shown if dialect.name == "sqlite" else timestamp


# A contact's two times are mostly equal, and most pages are the newest ones.
@lru_cache(maxsize=1024)
def _shown(text: str) -> Timestamp:
    """Return the text of a time from the text that SQLAlchemy stores."""
    return Timestamp(f"{text[:10]}T{text[11:23]}Z")


def _in_utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.astimezone(UTC)


def _parsed(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(f"{text}+00:00")


# SQLite generates ids only for a column declared INTEGER, which has 64 bits there.
Id: Final = BigInteger().with_variant(Integer(), "sqlite")

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

advertisers: Final = Table(
    "advertisers",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("display_name", Text),
    Column("slug", Text),
    Column("domain", Text),
    Column("network_name", Text, nullable=False),
    Column("publisher_name", Text),
    Column("status", Text),
    # Of a HiEnergy record, its own id: then resolving any record is one lookup.
    Column("hienergy_id", Id, ForeignKey("advertisers.id"), index=True),
    # What is compared and searched, folded: databases fold only ASCII, or each in another way.
    Column("slug_key", Text, index=True),
    Column("domain_key", Text),
    Column("folded_names", Text, nullable=False),
    # The names, the slug and the domain: what `q` searches. Its index is in `text_index`.
    Column("folded_text", Text),
    # With the id, so that the newest rows are read first, and no others.
    Index(None, "domain_key", "id"),
    Index(None, "network_name", "id"),
)

api_keys: Final = Table(
    "api_keys",
    metadata,
    Column("id", Id, primary_key=True),
    Column("lookup", String(12), nullable=False, unique=True),
    Column("secret_hash", LargeBinary(32), nullable=False),
    Column("role", String(16), nullable=False),
    Column("label", Text, nullable=False),
    Column("is_demo", Boolean, nullable=False, server_default=false()),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),
    Column("revoked_at", UtcDateTime),
    # Of the secret before the last rotation. With the same `lookup`, one statement finds both.
    Column("old_secret_hash", LargeBinary(32)),
    Column("old_secret_expires_at", UtcDateTime),
    Column("last_used_on", Date),
    sqlite_autoincrement=True,
)

contacts: Final = Table(
    "contacts",
    metadata,
    Column("id", Id, primary_key=True),
    Column("advertiser_id", Id, ForeignKey("advertisers.id"), nullable=False),
    Column("email", Text, nullable=False),
    Column("email_key", Text, nullable=False),
    Column("name", Text),
    Column("given_name", Text),
    Column("family_name", Text),
    Column("phone", Text),
    Column("job_title", Text),
    Column("source", Text),
    Column("status", Text),
    Column("linkedin_profile_url", Text),
    # What `q` searches, folded likewise. Its index is in `text_index`.
    Column("folded_text", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    # The audit trail; null in contacts that are older. There is no foreign key, which SQLite can
    # add only by copying the table: keys are revoked, never deleted.
    Column("created_by_key_id", Id),
    Column("created_through", String(16)),
    Column("created_by_request_id", String(128)),
    # No duplicates, even by processes that race. It also finds an address, as its first column. Not
    # a constraint, which SQLite drops only by copying the table.
    Index(None, "email_key", "advertiser_id", unique=True),
    Index(None, "advertiser_id", "id"),
    # For `contacts.email_keys`.
    Index(
        "ix_contacts_distinct_email_key",
        text("split_part(email_key, ' #', 1)"),
        postgresql_where=text("email_key LIKE '% #%'"),
    ).ddl_if(dialect="postgresql"),
    # The id of a deleted contact is never reused.
    sqlite_autoincrement=True,
)

idempotency_records: Final = Table(
    "idempotency_records",
    metadata,
    Column("api_key_id", Id, ForeignKey("api_keys.id"), primary_key=True),
    Column("idempotency_key", String(255), primary_key=True),
    Column("fingerprint", LargeBinary(32), nullable=False),
    Column("contact_id", Id, ForeignKey("contacts.id", ondelete="CASCADE"), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Index(None, "created_at"),
    Index(None, "contact_id"),
)

attempts: Final = Table(
    "attempts",
    metadata,
    # The digest of a person and an idempotency key, neither of which can be derived from it.
    Column("key", LargeBinary(32), primary_key=True),
    Column("scope", LargeBinary(32)),
    Column("fingerprint", LargeBinary(32), nullable=False),
    Column("advertiser_id", Id, nullable=False),
    Column("email", Text, nullable=False),
    Column("sent_at", UtcDateTime, nullable=False),
    Column("holder", String(32), nullable=False),
    Column("held_until", UtcDateTime, nullable=False, index=True),
    Column("contact", Text),
    Column("contact_id", Id, index=True),
    Column("is_unnamed", Boolean, nullable=False, server_default=false()),
)
