"""Attempts without a known outcome: their person, and whether the contact has no known id."""

import sqlalchemy as sa
from alembic import op

from contact_gateway.store.tables import Id

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Upgrade the schema."""
    op.add_column("attempts", sa.Column("scope", sa.LargeBinary(32)))
    op.add_column("attempts", sa.Column("contact_id", Id))
    op.add_column(
        "attempts",
        sa.Column("is_unnamed", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    op.create_index("ix_attempts_contact_id", "attempts", ["contact_id"])
