"""The ledger of creations in front of an upstream API."""

import sqlalchemy as sa
from alembic import op

from contact_gateway.store.tables import Id, UtcDateTime

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Upgrade the schema."""
    op.create_table(
        "attempts",
        sa.Column("key", sa.LargeBinary(32), primary_key=True),
        sa.Column("fingerprint", sa.LargeBinary(32), nullable=False),
        sa.Column("advertiser_id", Id, nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("sent_at", UtcDateTime(), nullable=False),
        sa.Column("holder", sa.String(32), nullable=False),
        sa.Column("held_until", UtcDateTime(), nullable=False),
        sa.Column("contact", sa.Text()),
    )
    op.create_index("ix_attempts_held_until", "attempts", ["held_until"])
