"""Rotation of API keys, and the last day on which each was used."""

import sqlalchemy as sa
from alembic import op

from contact_gateway.store.tables import UtcDateTime

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Upgrade the schema. Keys that are stored have one secret, and no known use."""
    op.add_column("api_keys", sa.Column("old_secret_hash", sa.LargeBinary(32)))
    op.add_column("api_keys", sa.Column("old_secret_expires_at", UtcDateTime()))
    op.add_column("api_keys", sa.Column("last_used_on", sa.Date()))
