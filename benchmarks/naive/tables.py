"""The naive peer's tables, as far as it needs them, as SQLAlchemy's declarative models.

The file is contact-gateway's, whose times are in UTC and do not say so.
"""

import os
from datetime import datetime

from sqlalchemy import ForeignKey, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

engine = create_async_engine(f"sqlite+aiosqlite:///{os.environ['DATABASE']}")
sessions = async_sessionmaker(engine, expire_on_commit=False)


@event.listens_for(engine.sync_engine, "connect")
def _prepare(connection: DBAPIConnection, _: object) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


class Base(DeclarativeBase):
    """What all models share."""


class ApiKey(Base):
    """An API key, by its hash."""

    __tablename__ = "api_keys"

    id: Mapped[int] = mapped_column(primary_key=True)
    lookup: Mapped[str]
    secret_hash: Mapped[bytes]
    role: Mapped[str]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class Advertiser(Base):
    """A record of a brand; `hienergy_id` is its canonical one, or its own id."""

    __tablename__ = "advertisers"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    display_name: Mapped[str | None]
    network_name: Mapped[str]
    hienergy_id: Mapped[int | None]

    @property
    def title(self) -> str:
        """The name to show."""
        return self.display_name or self.name


class Contact(Base):
    """A contact of a HiEnergy advertiser."""

    __tablename__ = "contacts"

    id: Mapped[int] = mapped_column(primary_key=True)
    advertiser_id: Mapped[int] = mapped_column(ForeignKey(Advertiser.id))
    email: Mapped[str]
    email_key: Mapped[str]
    name: Mapped[str | None]
    given_name: Mapped[str | None]
    family_name: Mapped[str | None]
    phone: Mapped[str | None]
    job_title: Mapped[str | None]
    source: Mapped[str | None]
    status: Mapped[str | None]
    linkedin_profile_url: Mapped[str | None]
    folded_text: Mapped[str]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    created_by_key_id: Mapped[int | None]
    created_through: Mapped[str | None]
    created_by_request_id: Mapped[str | None]

    advertiser: Mapped[Advertiser] = relationship()


class IdempotencyRecord(Base):
    """What an idempotency key of an API key created, and from which input."""

    __tablename__ = "idempotency_records"

    api_key_id: Mapped[int] = mapped_column(ForeignKey(ApiKey.id), primary_key=True)
    idempotency_key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes]
    contact_id: Mapped[int] = mapped_column(ForeignKey(Contact.id))
    created_at: Mapped[datetime]

    contact: Mapped[Contact] = relationship()
