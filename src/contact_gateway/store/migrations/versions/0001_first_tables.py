"""First tables: advertisers, API keys, contacts, idempotency records."""

import sqlalchemy as sa
from alembic import op

from contact_gateway.store.tables import Id, UtcDateTime

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Upgrade the schema."""
    op.create_table(
        "advertisers",
        sa.Column("id", Id, primary_key=True, autoincrement=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("display_name", sa.Text()),
        sa.Column("slug", sa.Text()),
        sa.Column("domain", sa.Text()),
        sa.Column("network_name", sa.Text(), nullable=False),
        sa.Column("publisher_name", sa.Text()),
        sa.Column("status", sa.Text()),
        sa.Column("hienergy_id", Id, sa.ForeignKey("advertisers.id")),
        sa.Column("folded_names", sa.Text(), nullable=False),
    )
    op.create_index("ix_advertisers_slug", "advertisers", ["slug"])
    op.create_index("ix_advertisers_hienergy_id", "advertisers", ["hienergy_id"])
    op.create_table(
        "api_keys",
        sa.Column("id", Id, primary_key=True),
        sa.Column("lookup", sa.String(12), nullable=False, unique=True),
        sa.Column("secret_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("is_demo", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime()),
        sa.Column("revoked_at", UtcDateTime()),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "contacts",
        sa.Column("id", Id, primary_key=True),
        sa.Column("advertiser_id", Id, sa.ForeignKey("advertisers.id"), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("email_key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text()),
        sa.Column("given_name", sa.Text()),
        sa.Column("family_name", sa.Text()),
        sa.Column("phone", sa.Text()),
        sa.Column("job_title", sa.Text()),
        sa.Column("source", sa.Text()),
        sa.Column("status", sa.Text()),
        sa.Column("linkedin_profile_url", sa.Text()),
        sa.Column("folded_text", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.UniqueConstraint(
            "advertiser_id", "email_key", name="uq_contacts_advertiser_id_email_key"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_contacts_email_key", "contacts", ["email_key"])
    if op.get_bind().dialect.name == "postgresql":
        op.create_index(
            "ix_contacts_distinct_email_key",
            "contacts",
            [sa.text("split_part(email_key, ' #', 1)")],
            postgresql_where=sa.text("email_key LIKE '% #%'"),
        )
    op.create_table(
        "idempotency_records",
        sa.Column("api_key_id", Id, sa.ForeignKey("api_keys.id"), primary_key=True),
        sa.Column("idempotency_key", sa.String(255), primary_key=True),
        sa.Column("fingerprint", sa.LargeBinary(32), nullable=False),
        sa.Column(
            "contact_id", Id, sa.ForeignKey("contacts.id", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("created_at", UtcDateTime(), nullable=False),
    )
    op.create_index("ix_idempotency_records_created_at", "idempotency_records", ["created_at"])
    op.create_index("ix_idempotency_records_contact_id", "idempotency_records", ["contact_id"])
