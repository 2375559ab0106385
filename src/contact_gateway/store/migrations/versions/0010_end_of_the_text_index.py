"""SQLite's index of contacts' text knows the id up to which it goes, not which rows wait for it.

The ids of contacts only grow, so a creation writes no row into a table of those that wait, and some
thousands may. A view has the name of that table, so the version before can serve in the meantime.
Advertisers keep their table: their ids come from catalogues.
"""

from alembic import op

revision = "0010"
down_revision = "0009"

_STATEMENTS = """
INSERT INTO contacts_text (rowid, folded_text)
SELECT id, folded_text FROM contacts WHERE id IN (SELECT id FROM contacts_text_waiting)

DROP TRIGGER contacts_text_inserted

DROP TRIGGER contacts_text_updated

DROP TRIGGER contacts_text_removed

DROP TRIGGER contacts_text_deleted

DROP TABLE contacts_text_waiting

CREATE TABLE contacts_text_indexed (last_id INTEGER NOT NULL)

INSERT INTO contacts_text_indexed (last_id) SELECT coalesce(max(id), 0) FROM contacts

CREATE VIEW contacts_text_waiting AS
SELECT id FROM contacts WHERE id > (SELECT last_id FROM contacts_text_indexed)

CREATE TRIGGER contacts_text_inserted AFTER INSERT ON contacts
WHEN random() % 4096 = 0 OR new.id <= (SELECT last_id FROM contacts_text_indexed) BEGIN
    INSERT INTO contacts_text (rowid, folded_text)
    SELECT new.id, new.folded_text FROM contacts_text_indexed WHERE new.id <= last_id;
    INSERT INTO contacts_text (rowid, folded_text)
    SELECT id, folded_text FROM contacts WHERE id IN (SELECT id FROM contacts_text_waiting);
    UPDATE contacts_text_indexed SET last_id = max(last_id, (SELECT max(id) FROM contacts));
END

CREATE TRIGGER contacts_text_updated AFTER UPDATE OF folded_text ON contacts
WHEN old.folded_text IS NOT new.folded_text
AND old.id <= (SELECT last_id FROM contacts_text_indexed) BEGIN
    INSERT INTO contacts_text (contacts_text, rowid, folded_text)
    VALUES ('delete', old.id, old.folded_text);
    INSERT INTO contacts_text (rowid, folded_text) VALUES (new.id, new.folded_text);
END

CREATE TRIGGER contacts_text_removed BEFORE DELETE ON contacts
WHEN old.id <= (SELECT last_id FROM contacts_text_indexed) BEGIN
    INSERT INTO contacts_text (contacts_text, rowid, folded_text)
    VALUES ('delete', old.id, old.folded_text);
END
"""


def upgrade() -> None:
    """Upgrade the schema."""
    if op.get_bind().dialect.name == "sqlite":
        for statement in _STATEMENTS.split("\n\n"):
            op.execute(statement)
