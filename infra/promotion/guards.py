"""Triggers that let a governed alias follow the champion on record and nothing else, whoever connects.

`gs_champions` changes only with a ledger entry that says the same, and never back to an earlier one. MLflow's alias of an
environment is what `gs_champions` says, or there is none. A version that was requested for an environment, and its model, are not
renamed, deleted or pointed elsewhere. The triggers belong to the tables, so they hold for every client of MLflow, its pages, a
server without groundswell, and plain SQL through MLflow's account; on PostgreSQL in a replica's session, too.

MLflow's migrations may rebuild its tables without them, and whoever owns the tables can drop them: `missing_guards` finds that,
and every start puts them back.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, inspect, text

from infra.database import Database

_SHOWN = "groundswell governs {what}: use `groundswell {verb}`"
_ALIAS = _SHOWN.format(what="this alias", verb="promote request MODEL --to ENVIRONMENT")
_VERSION = _SHOWN.format(what="this version, which was requested for an environment", verb="promote status")
_STAGE = _SHOWN.format(what="stages; they are aliases here", verb="promote request MODEL --to ENVIRONMENT")
_CHAMPION = "a champion changes only with its entry in the ledger"

_ENVIRONMENTS = "('staging', 'production')"  # governed before there is any policy, too
_GOVERNED_STATES = "('awaiting-approval', 'approved', 'applied', 'superseded', 'rolled-back')"
_ENTRY_FIELD = {
    "sqlite": "json_extract(CAST(e.entry AS TEXT), '$.details.{}')",
    "postgresql": "(convert_from(e.entry, 'UTF8')::json -> 'details' ->> '{}')",
}
_FIXED = ("source", "run_id", "run_link", "storage_location", "current_stage", "status")
"""What of a governed version in MLflow does not change, besides its name."""

_ROW, _BEFORE = 1, 2
_EVENTS = {"INSERT": 4, "DELETE": 8, "UPDATE": 16, "TRUNCATE": 32}


@dataclass(frozen=True, kw_only=True)
class Guard:
    """One trigger.

    Attributes:
        name: Its name.
        table: The table.
        event: ``INSERT``, ``UPDATE``, ``DELETE`` or, on PostgreSQL alone, ``TRUNCATE``.
        condition: When it refuses, in SQL of OLD and NEW.
        message: What it says.
    """

    name: str
    table: str
    event: str
    condition: str
    message: str

    @property
    def on_sqlite(self) -> str:
        """The statement that makes it on SQLite, as ``sqlite_master`` keeps it."""
        refuse = f"SELECT RAISE(ABORT, '{self.message}')"
        return f"CREATE TRIGGER {self.name} BEFORE {self.event} ON {self.table} WHEN {self.condition} BEGIN {refuse}; END"

    @property
    def body(self) -> str:
        """The body of its function on PostgreSQL, as ``pg_proc`` keeps it."""
        refuse = f"RAISE EXCEPTION USING MESSAGE = '{self.message}', ERRCODE = 'integrity_constraint_violation'"
        if self.event == "TRUNCATE":
            return f"BEGIN {refuse}; END"
        row = "OLD" if self.event == "DELETE" else "NEW"
        return f"BEGIN IF {self.condition} THEN {refuse}; END IF; RETURN {row}; END"

    @property
    def kind(self) -> int:
        """What ``pg_trigger.tgtype`` says of it."""
        return _BEFORE + _EVENTS[self.event] + (0 if self.event == "TRUNCATE" else _ROW)

    def statements(self, dialect: str) -> list[str]:
        """Returns the statements that put it in place, whatever is there."""
        drop = f"DROP TRIGGER IF EXISTS {self.name}"
        if dialect == "sqlite":
            return [drop, self.on_sqlite]
        each = "STATEMENT" if self.event == "TRUNCATE" else "ROW"
        return [
            f"{drop} ON {self.table}",
            f"CREATE OR REPLACE FUNCTION {self.name}() RETURNS trigger LANGUAGE plpgsql AS $gs${self.body}$gs$",
            f"CREATE TRIGGER {self.name} BEFORE {self.event} ON {self.table} FOR EACH {each} EXECUTE FUNCTION {self.name}()",
            f"ALTER TABLE {self.table} ENABLE ALWAYS TRIGGER {self.name}",
        ]


def guards(dialect: str) -> tuple[Guard, ...]:
    """Returns every guard, as one of the databases has it."""
    found = [*_champion_guards(dialect), *_alias_guards(), *_version_guards(), *_model_guards()]
    if dialect == "postgresql":
        tables = {guard.table: guard.message for guard in found}
        found += [
            Guard(name=f"gs_guard_{table}_truncate", table=table, event="TRUNCATE", condition="", message=message)
            for table, message in tables.items()
        ]
    return tuple(found)


def missing_guards(connection: Connection) -> tuple[str, ...]:
    """Returns the names of the guards that are not there as they should be; none where MLflow has no tables yet."""
    if not inspect(connection).has_table("registered_model_aliases"):
        return ()
    dialect = connection.dialect.name
    there = _on_sqlite(connection) if dialect == "sqlite" else _on_postgresql(connection)
    return tuple(guard.name for guard in guards(dialect) if there.get(guard.name) != _expected(guard, dialect))


def install_guards(db: Database) -> tuple[str, ...]:
    """Puts the guards in place that are missing, with the ledger's entry that says so, and returns their names."""
    with db.read() as connection:
        if not missing_guards(connection):
            return ()
    with db.unit_of_work() as uow:
        missing = missing_guards(uow.connection)
        if missing:
            place_guards(uow.connection, missing)
            uow.append("guards.installed", "guards", {"installed": list(missing)})
        return missing


def place_guards(connection: Connection, names: Iterable[str]) -> None:
    """Puts some guards in place, in the caller's transaction."""
    wanted = set(names)
    for guard in guards(connection.dialect.name):
        if guard.name in wanted:
            for statement in guard.statements(connection.dialect.name):
                connection.exec_driver_sql(statement)


def _expected(guard: Guard, dialect: str) -> tuple[object, ...]:
    if dialect == "sqlite":
        return (guard.table, guard.on_sqlite)
    return (guard.table, guard.body, guard.kind, "A")


def _on_sqlite(connection: Connection) -> Mapping[str, tuple[object, ...]]:
    query = "SELECT name, tbl_name, sql FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'gs\\_guard\\_%' ESCAPE '\\'"
    return {name: (table, sql) for name, table, sql in connection.exec_driver_sql(query)}


def _on_postgresql(connection: Connection) -> Mapping[str, tuple[object, ...]]:
    query = text(
        "SELECT t.tgname, c.relname, p.prosrc, t.tgtype, t.tgenabled::text FROM pg_trigger t "
        "JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc p ON p.oid = t.tgfoid "
        "WHERE t.tgname LIKE 'gs\\_guard\\_%' AND t.tgqual IS NULL AND pg_table_is_visible(c.oid)"
    )
    return {name: (table, body, kind, enabled) for name, table, body, kind, enabled in connection.execute(query)}


def _champion_guards(dialect: str) -> list[Guard]:
    field = _ENTRY_FIELD[dialect]
    same = " AND ".join(
        f"{field.format(detail)} = NEW.{column}"
        for detail, column in (
            ("environment", "environment"),
            ("root_digest", "root_digest"),
            ("promotion", "promotion_id"),
            ("since", "since"),
            ("lapses", "expires"),
        )
    )
    unsaid = (
        'NOT EXISTS (SELECT 1 FROM gs_ledger_entries e WHERE e."index" = NEW.entry_index '
        "AND e.action IN ('promotion.applied', 'promotion.restored') "
        f"AND e.subject = 'model-version:' || NEW.name || '/' || NEW.version AND {same})"
    )
    moved = "OLD.name <> NEW.name OR OLD.environment <> NEW.environment OR NEW.entry_index <= OLD.entry_index"
    table = "gs_champions"
    return [
        Guard(name="gs_guard_champions_insert", table=table, event="INSERT", condition=unsaid, message=_CHAMPION),
        Guard(name="gs_guard_champions_update", table=table, event="UPDATE", condition=f"{moved} OR {unsaid}", message=_CHAMPION),
        Guard(name="gs_guard_champions_delete", table=table, event="DELETE", condition="1 = 1", message=_CHAMPION),
    ]


def _alias_guards() -> list[Guard]:
    table = "registered_model_aliases"
    moved = "(OLD.name <> NEW.name OR OLD.alias <> NEW.alias OR OLD.workspace <> NEW.workspace)"
    condition = {
        "INSERT": f"{_governed('NEW')} AND NOT {_champion('NEW')}",
        "UPDATE": f"({_governed('OLD')} OR {_governed('NEW')}) AND ({moved} OR NOT {_champion('NEW')})",
        "DELETE": _champion("OLD"),
    }
    return [
        Guard(name=f"gs_guard_aliases_{event.lower()}", table=table, event=event, condition=refused, message=_ALIAS)
        for event, refused in condition.items()
    ]


def _version_guards() -> list[Guard]:
    table = "model_versions"
    moved = "OLD.name <> NEW.name OR OLD.version <> NEW.version OR OLD.workspace <> NEW.workspace"
    changed = " OR ".join(f"COALESCE(OLD.{column}, '') <> COALESCE(NEW.{column}, '')" for column in _FIXED)
    staged = "(COALESCE(OLD.current_stage, '') <> NEW.current_stage AND NEW.current_stage IN ('Staging', 'Production'))"
    is_governed = _requested("OLD.name", "OLD.version")
    return [
        Guard(
            name="gs_guard_versions_update",
            table=table,
            event="UPDATE",
            condition=f"({moved} OR {changed}) AND {is_governed}",
            message=_VERSION,
        ),
        Guard(name="gs_guard_versions_stage", table=table, event="UPDATE", condition=staged, message=_STAGE),
        Guard(name="gs_guard_versions_delete", table=table, event="DELETE", condition=is_governed, message=_VERSION),
    ]


def _model_guards() -> list[Guard]:
    table, is_governed = "registered_models", _requested("OLD.name")
    moved = "(OLD.name <> NEW.name OR OLD.workspace <> NEW.workspace)"
    return [
        Guard(
            name="gs_guard_models_update", table=table, event="UPDATE", condition=f"{moved} AND {is_governed}", message=_VERSION
        ),
        Guard(name="gs_guard_models_delete", table=table, event="DELETE", condition=is_governed, message=_VERSION),
    ]


def _governed(row: str) -> str:
    known = f"EXISTS (SELECT 1 FROM gs_policies p WHERE p.environment = lower({row}.alias))"
    return f"(lower({row}.alias) IN {_ENVIRONMENTS} OR {known})"


def _champion(row: str) -> str:
    return (
        f"({row}.workspace = 'default' AND EXISTS (SELECT 1 FROM gs_champions c WHERE c.name = {row}.name "
        f"AND c.environment = {row}.alias AND c.version = {row}.version))"
    )


def _requested(name: str, version: str = "") -> str:
    same = f" AND p.version = {version}" if version else ""
    return f"EXISTS (SELECT 1 FROM gs_promotions p WHERE p.name = {name}{same} AND p.state IN {_GOVERNED_STATES})"
