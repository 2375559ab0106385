"""The audit trail: which API key created a contact, through which face and in which request."""

import sqlalchemy as sa
from alembic import op

from contact_gateway.store.tables import Id

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Upgrade the schema."""
    op.add_column("contacts", sa.Column("created_by_key_id", Id))
    op.add_column("contacts", sa.Column("created_through", sa.String(16)))
    op.add_column("contacts", sa.Column("created_by_request_id", sa.String(128)))
