"""What the tables of a database lack, compared with those of the code."""

import warnings
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection

from contact_gateway.store.tables import metadata


def is_text_index(name: str) -> bool:
    """Return whether a table or an index finds text, which SQLAlchemy does not describe."""
    tables = ("contacts_text", "advertisers_text")
    return name.startswith(tables) or name.endswith("_folded_text_trigrams")


def differences(connection: Connection) -> list[object]:
    """Return the differences of a database from the tables of the code."""
    options: dict[str, Any] = {
        "compare_type": True,
        "compare_server_default": True,
        "include_name": lambda name, *_: name is None or not is_text_index(name),
    }
    context = MigrationContext.configure(connection, opts=options)
    with warnings.catch_warnings():
        # An index of PostgreSQL alone has an expression, which Alembic cannot read from SQLite.
        warnings.filterwarnings("ignore", "autogenerate skipping", UserWarning)
        return list(compare_metadata(context, metadata))
