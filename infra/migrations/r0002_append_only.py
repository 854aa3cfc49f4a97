"""Makes the ledger's tables append-only on PostgreSQL, as they are on SQLite from the beginning."""

from alembic import op

revision = "0002"
down_revision = "0001"

_FUNCTION = """CREATE FUNCTION gs_refuse_change() RETURNS trigger LANGUAGE plpgsql AS
$$BEGIN RAISE EXCEPTION USING MESSAGE = TG_TABLE_NAME || ' is append-only', ERRCODE = 'integrity_constraint_violation'; END$$"""


def upgrade() -> None:
    """Applies the revision."""
    if op.get_bind().dialect.name != "postgresql":
        return
    op.execute(_FUNCTION)
    for table in ("gs_ledger_entries", "gs_ledger_nodes", "gs_ledger_checkpoints"):
        trigger = f"{table}_append_only"
        op.execute(f"CREATE TRIGGER {trigger} BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} EXECUTE FUNCTION gs_refuse_change()")
        op.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}")
