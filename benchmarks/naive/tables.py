"""The naive peer's declarative models of the tables that it uses.

Times in the file are UTC, without a time zone.
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
def _set_pragmas(connection: DBAPIConnection, _: object) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


class Base(DeclarativeBase):
    """The base of the models."""


class ApiKey(Base):
    """An API key, stored as a hash."""

    __tablename__ = "api_keys"

    id: Mapped[int] = mapped_column(primary_key=True)
    lookup: Mapped[str]
    secret_hash: Mapped[bytes]
    role: Mapped[str]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class Advertiser(Base):
    """An advertiser. `hienergy_id` is the HiEnergy record of the same brand."""

    __tablename__ = "advertisers"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    display_name: Mapped[str | None]
    network_name: Mapped[str]
    hienergy_id: Mapped[int | None]

    @property
    def title(self) -> str:
        """The display name, or else the name."""
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
    """The contact that an idempotency key created, and the fingerprint of its input."""

    __tablename__ = "idempotency_records"

    api_key_id: Mapped[int] = mapped_column(ForeignKey(ApiKey.id), primary_key=True)
    idempotency_key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes]
    contact_id: Mapped[int] = mapped_column(ForeignKey(Contact.id))
    created_at: Mapped[datetime]

    contact: Mapped[Contact] = relationship()
