"""The schema of groundswell's tables: made at once in a new database, brought up to date in an old one.

A database says in ``gs_alembic_version`` which revision of the schema it has. The revisions are the modules of
`infra.migrations`; alembic is imported only to apply them.
"""

from importlib import import_module
from pkgutil import iter_modules

from sqlalchemy import Connection, insert, inspect, select, text, update
from sqlalchemy.exc import SQLAlchemyError

from governance.errors import IntegrityError
from infra import migrations
from infra.database_errors import translated_errors
from infra.errors import BackendUnavailableError
from infra.tables import ledger_head, metadata, schema_version

HEAD = "0007"
FIRST = "0001"
"""What a database has whose tables were made before revisions were kept."""

_LOCK = 7310579
_REFUSE_CHANGE = """CREATE FUNCTION gs_refuse_change() RETURNS trigger LANGUAGE plpgsql AS
$$BEGIN RAISE EXCEPTION USING MESSAGE = TG_TABLE_NAME || ' is append-only', ERRCODE = 'integrity_constraint_violation'; END$$"""
_APPEND_ONLY = {
    "gs_ledger_entries": '"index" = NEW."index"',
    "gs_ledger_nodes": "level = NEW.level AND position = NEW.position",
    "gs_ledger_checkpoints": "size = NEW.size",
}


def read_revision(connection: Connection, database: str) -> str | None:
    """Returns the revision of the schema, None where there are no tables yet.

    Args:
        connection: An open connection.
        database: The database as errors name it.

    Raises:
        IntegrityError: Some tables are there and others are not.
    """
    if inspect(connection).has_table(schema_version.name):
        found = connection.execute(select(schema_version.c.version_num)).scalars().all()
        if len(found) != 1:
            raise IntegrityError(f"database {database} does not say which schema it has", hint="restore a backup")
        return str(found[0])
    ours = {table.name for table in metadata.tables.values() if "since" not in table.info} - {schema_version.name}
    missing = sorted(ours - set(inspect(connection).get_table_names()))
    if len(missing) == len(ours):
        return None
    if missing:
        raise IntegrityError(f"database {database} lacks the tables {', '.join(missing)}", hint="restore a backup")
    return FIRST


def lock_schema(connection: Connection) -> None:
    """Waits until no other process makes or changes the schema; held to the end of the transaction.

    On SQLite the transaction itself is that lock.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})


def create_schema(connection: Connection) -> None:
    """Makes the tables, with an empty ledger, in a database that has none."""
    metadata.create_all(connection)
    for statement in _append_only(connection.dialect.name):
        connection.exec_driver_sql(statement)
    connection.execute(insert(ledger_head).values(id=1, size=0))
    connection.execute(insert(schema_version).values(version_num=HEAD))


def upgrade_schema(connection: Connection, database: str, revision: str) -> None:
    """Brings the tables from a revision to the newest, in the caller's transaction.

    Args:
        connection: A connection in a transaction that holds `lock_schema`.
        database: The database as errors name it.
        revision: What `read_revision` said.

    Raises:
        BackendUnavailableError: The revision is of a newer groundswell, or a migration failed.
    """
    from alembic.migration import MigrationContext
    from alembic.operations import Operations

    modules = [import_module(f"{migrations.__name__}.{found.name}") for found in iter_modules(migrations.__path__)]
    upgrades = {module.revision: module.upgrade for module in modules}
    if revision not in upgrades:
        raise BackendUnavailableError(
            f"database {database} was made by a newer groundswell (its schema is {revision!r:.40}, this one's {HEAD})",
            hint="install that version",
        )
    if not inspect(connection).has_table(schema_version.name):
        schema_version.create(connection)
        connection.execute(insert(schema_version).values(version_num=revision))
    with Operations.context(MigrationContext.configure(connection)):
        for step in sorted(step for step in upgrades if step > revision):
            try:
                with translated_errors(database):
                    upgrades[step]()
            except SQLAlchemyError as error:
                reason = " ".join(str(getattr(error, "orig", error)).split())[:200]
                raise BackendUnavailableError(
                    f"database {database} cannot be brought to schema {step}: {reason}", hint="nothing was changed"
                ) from error
    connection.execute(update(schema_version).values(version_num=HEAD))


def _append_only(dialect: str) -> list[str]:
    """Returns statements that refuse to change or delete what is append-only."""
    if dialect == "postgresql":
        statements = [_REFUSE_CHANGE]
        for table in _APPEND_ONLY:
            trigger, verbs = f"{table}_append_only", "UPDATE OR DELETE OR TRUNCATE"
            statements.append(f"CREATE TRIGGER {trigger} BEFORE {verbs} ON {table} EXECUTE FUNCTION gs_refuse_change()")
            statements.append(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}")  # in a replica's session too
        return statements
    statements = []
    for table, same_key in _APPEND_ONLY.items():
        refuse = f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        for verb in ("UPDATE", "DELETE"):
            statements.append(f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} {refuse}")
        # INSERT OR REPLACE fires no delete trigger.
        exists = f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {same_key})"  # noqa: S608  # constants
        statements.append(f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} {exists} {refuse}")
    return statements
