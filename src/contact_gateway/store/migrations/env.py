"""Alembic's entry point. It migrates over the connection that `store.schema_version` passes."""

from alembic import context
from sqlalchemy import Connection

from contact_gateway.store.tables import metadata

connection = context.config.attributes["connection"]
if not isinstance(connection, Connection):
    raise TypeError("Alembic's command line is not supported. Run `contact-gateway migrate`.")
# The caller's transaction is used, so a migration that fails is rolled back.
context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
