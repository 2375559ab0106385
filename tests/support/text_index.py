"""SQLite's index of text, whose rows wait for it until some hundreds or thousands do, by chance."""

from sqlalchemy import Connection, func, inspect, select

from contact_gateway.store.tables import contacts


def index_waiting_rows(connection: Connection, table: str, last_id: int) -> None:
    """Index the text of the rows of a table that wait, up to an id."""
    waiting = f"FROM {table}_text_waiting WHERE id <= {last_id}"
    indexed = f"SELECT id, folded_text FROM {table} WHERE id IN (SELECT id {waiting})"  # noqa: S608 - constants
    connection.exec_driver_sql(f"INSERT INTO {table}_text (rowid, folded_text) {indexed}")
    if inspect(connection).has_table("contacts_text_indexed") and table == "contacts":
        last = func.coalesce(func.max(contacts.c.id), 0)
        end = connection.scalar(select(last).where(contacts.c.id <= last_id))
        # By chance, the index may go further already.
        update = "UPDATE contacts_text_indexed SET last_id = max(last_id, ?)"
        connection.exec_driver_sql(update, (end,))
    else:
        connection.exec_driver_sql(f"DELETE {waiting}")


def check(connection: Connection, table: str) -> None:
    """Raise an error if the index differs from the texts of its table that do not wait."""
    waiting = f"SELECT id FROM {table}_text_waiting"  # noqa: S608 - constants
    index_waiting_rows(connection, table, 2**62)
    assert connection.exec_driver_sql(waiting).all() == []
    command = f"INSERT INTO {table}_text ({table}_text, rank)"
    connection.exec_driver_sql(f"{command} VALUES ('integrity-check', 1)")
