"""Indexes for lists: each filter reads its rows newest first, and text is found by trigrams.

They only add, so the version before can serve in the meantime. On SQLite, triggers keep the index
of text current, also for the rows that it writes. `store.text_index` creates PostgreSQL's, which is
optional.
"""

from alembic import op

revision = "0007"
down_revision = "0006"

# The trigrams of a table's folded text, which is stored in the table only. FTS5 takes three times
# as long for rows one by one. So new rows wait in another table, which searches read as well,
# until there are some hundreds.
_STATEMENTS = """
CREATE VIRTUAL TABLE TABLE_NAME_text USING fts5(
    folded_text, content='TABLE_NAME', content_rowid='id',
    tokenize='trigram case_sensitive 1', detail='none', columnsize='0'
)

CREATE TABLE TABLE_NAME_text_waiting (id INTEGER NOT NULL PRIMARY KEY)

CREATE TRIGGER TABLE_NAME_text_filled AFTER INSERT ON TABLE_NAME_text_waiting
WHEN random() % 256 = 0 BEGIN
    INSERT INTO TABLE_NAME_text (rowid, folded_text)
    SELECT id, folded_text FROM TABLE_NAME
    WHERE id IN (SELECT id FROM TABLE_NAME_text_waiting);
    DELETE FROM TABLE_NAME_text_waiting;
END

CREATE TRIGGER TABLE_NAME_text_inserted AFTER INSERT ON TABLE_NAME BEGIN
    INSERT INTO TABLE_NAME_text_waiting (id) VALUES (new.id);
END

CREATE TRIGGER TABLE_NAME_text_updated AFTER UPDATE OF folded_text ON TABLE_NAME
WHEN old.folded_text IS NOT new.folded_text
AND NOT EXISTS (SELECT 1 FROM TABLE_NAME_text_waiting WHERE id = old.id) BEGIN
    INSERT INTO TABLE_NAME_text (TABLE_NAME_text, rowid, folded_text)
    VALUES ('delete', old.id, old.folded_text);
    INSERT INTO TABLE_NAME_text_waiting (id) VALUES (new.id);
END

CREATE TRIGGER TABLE_NAME_text_removed BEFORE DELETE ON TABLE_NAME
WHEN NOT EXISTS (SELECT 1 FROM TABLE_NAME_text_waiting WHERE id = old.id) BEGIN
    INSERT INTO TABLE_NAME_text (TABLE_NAME_text, rowid, folded_text)
    VALUES ('delete', old.id, old.folded_text);
END

CREATE TRIGGER TABLE_NAME_text_deleted AFTER DELETE ON TABLE_NAME BEGIN
    DELETE FROM TABLE_NAME_text_waiting WHERE id = old.id;
END

INSERT INTO TABLE_NAME_text (TABLE_NAME_text) VALUES ('rebuild')
"""


def upgrade() -> None:
    """Upgrade the schema."""
    op.create_index("ix_contacts_advertiser_id_id", "contacts", ["advertiser_id", "id"])
    op.create_index("ix_advertisers_domain_key_id", "advertisers", ["domain_key", "id"])
    op.create_index("ix_advertisers_network_name_id", "advertisers", ["network_name", "id"])
    if op.get_bind().dialect.name == "sqlite":
        for table in ("contacts", "advertisers"):
            for statement in _STATEMENTS.replace("TABLE_NAME", table).split("\n\n"):
                op.execute(statement)
