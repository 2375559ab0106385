"""Folded columns: one folding for all text that is compared and searched.

The columns are filled by the functions that fill them in new rows: a migration that had its own
copy would leave rows that the code does not find.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import sqlalchemy as sa
from alembic import context, op

from contact_gateway.contacts.admission import idempotency_key_of
from contact_gateway.contacts.advertiser import HIENERGY_NETWORK, is_named_hienergy
from contact_gateway.contacts.text import email_key
from contact_gateway.store.advertisers import comparing_columns
from contact_gateway.store.contacts import distinct_key, folded_text
from contact_gateway.store.tables import Id

revision = "0005"
down_revision = "0004"

_ROWS_AT_A_TIME: Final = 1000

_advertisers: Final = sa.table(
    "advertisers",
    *map(sa.column, ("id", "name", "display_name", "slug", "domain", "network_name")),
    *map(sa.column, ("slug_key", "domain_key", "folded_names", "folded_text")),
)
_contacts: Final = sa.table(
    "contacts",
    *map(sa.column, ("id", "advertiser_id", "email", "email_key", "name", "given_name")),
    *map(sa.column, ("family_name", "job_title", "phone", "folded_text")),
)

_idempotency_records: Final = sa.table(
    "idempotency_records", sa.column("api_key_id", Id), sa.column("idempotency_key", sa.String(255))
)


def upgrade() -> None:
    """Upgrade the schema, and fold the text of all rows again."""
    op.add_column("advertisers", sa.Column("slug_key", sa.Text()))
    op.add_column("advertisers", sa.Column("domain_key", sa.Text()))
    op.add_column("advertisers", sa.Column("folded_text", sa.Text()))
    op.drop_index("ix_advertisers_slug", "advertisers")
    connection = op.get_bind()
    report: list[str] = context.config.attributes["report"]
    report.extend(_fold_advertisers(connection))
    report.extend(_fold_contacts(connection))
    _unquote_idempotency_keys(connection)
    op.create_index("ix_advertisers_slug_key", "advertisers", ["slug_key"])


def _fold_advertisers(connection: sa.Connection) -> Iterator[str]:
    """Fill the folded columns; yield what the operator should know."""
    table = _advertisers.c
    update = sa.update(_advertisers).where(table.id == sa.bindparam("row_id"))
    for rows in _batches(connection, _advertisers):
        values = [
            {
                "row_id": row.id,
                **comparing_columns(row.name, row.display_name, row.slug, row.domain),
            }
            for row in rows
        ]
        connection.execute(update, values)
        for row in rows:
            if row.network_name != HIENERGY_NETWORK and is_named_hienergy(row.network_name):
                yield (
                    f"Advertiser {row.id} has the network {row.network_name!r}, which an import "
                    f"reads as {HIENERGY_NETWORK} now. It was not changed: import it again to make "
                    "it a HiEnergy record."
                )


def _fold_contacts(connection: sa.Connection) -> Iterator[str]:
    """Fill the folded columns; yield which contacts have the same address now.

    The keys of one advertiser are unique in between too: each that changes is distinct at first.
    """
    table = _contacts.c
    update = sa.update(_contacts).where(table.id == sa.bindparam("row_id"))
    changed: list[tuple[int, int, str]] = []
    for rows in _batches(connection, _contacts):
        values = []
        for row in rows:
            key = email_key(row.email)
            text = folded_text(
                row.email, (row.name, row.given_name, row.family_name, row.job_title, row.phone)
            )
            if key != row.email_key:
                changed.append((row.id, row.advertiser_id, key))
                values.append(
                    {
                        "row_id": row.id,
                        "email_key": distinct_key(key, row.id),
                        "folded_text": text,
                    }
                )
            elif text != row.folded_text:
                values.append({"row_id": row.id, "email_key": key, "folded_text": text})
        if values:
            connection.execute(update, values)
    set_key = sa.update(_contacts).values(email_key=sa.bindparam("key"))
    set_key = set_key.where(table.id == sa.bindparam("row_id"))
    for contact_id, advertiser_id, key in changed:
        holder = connection.scalar(
            sa.select(table.id).where(table.advertiser_id == advertiser_id, table.email_key == key)
        )
        older, newer = contact_id, holder
        if holder is not None and holder < contact_id:
            older, newer = holder, contact_id
        if newer is not None:
            connection.execute(set_key, {"row_id": newer, "key": distinct_key(key, newer)})
            yield (
                f"Contacts {older} and {newer} of advertiser {advertiser_id} have the same e-mail "
                f"address by the rules of this version. Both were kept: a new contact with this "
                f"address is refused as a duplicate of {older}."
            )
        connection.execute(set_key, {"row_id": older, "key": key})


def _unquote_idempotency_keys(connection: sa.Connection) -> None:
    """Replace keys in double quotes by those that they stand for now, unless both were used."""
    table = _idempotency_records.c
    rows = connection.execute(
        sa.select(table.api_key_id, table.idempotency_key).where(
            table.idempotency_key.startswith('"')
        )
    ).all()
    taken = sa.select(table.idempotency_key).where(table.api_key_id == sa.bindparam("owner"))
    taken = taken.where(table.idempotency_key == sa.bindparam("key"))
    for api_key_id, quoted in rows:
        key = idempotency_key_of(quoted)
        owner_and_key = {"owner": api_key_id, "key": key}
        if key is None or connection.scalar(taken, owner_and_key) is not None:
            continue
        connection.execute(
            sa.update(_idempotency_records)
            .where(table.api_key_id == api_key_id, table.idempotency_key == quoted)
            .values(idempotency_key=key)
        )


def _batches(connection: sa.Connection, table: sa.TableClause) -> Iterator[Sequence[sa.Row[Any]]]:
    """Yield all rows of a table, in the order of their ids, some at a time."""
    query = sa.select(table).order_by(table.c.id).limit(_ROWS_AT_A_TIME)
    rows = connection.execute(query).all()
    while rows:
        yield rows
        rows = connection.execute(query.where(table.c.id > rows[-1].id)).all()
