"""${message}."""

import sqlalchemy as sa
from alembic import op

from contact_gateway.store.tables import Id, UtcDateTime

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    """Upgrade the schema."""
    ${upgrades if upgrades else "pass"}
