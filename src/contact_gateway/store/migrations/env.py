"""Alembic's entry point: it migrates over the connection that `store.schema` hands in."""

from alembic import context
from sqlalchemy import Connection

from contact_gateway.store.tables import metadata


def _run() -> None:
    connection = context.config.attributes["connection"]
    if not isinstance(connection, Connection):
        raise TypeError("run `contact-gateway migrate`; Alembic's own command line is not wired")
    # The transaction is the caller's, so a migration that fails leaves nothing behind.
    context.configure(
        connection=connection,
        target_metadata=metadata,
        render_as_batch=True,
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()


_run()
