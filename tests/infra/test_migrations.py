"""The schema: made at once in a new database, migrated with its ledger entry in an old one."""

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine, insert, inspect, select, text, update
from sqlalchemy.engine import make_url

from governance.errors import IntegrityError
from governance.ledger import parse_entry
from infra import schema
from infra.database import Database
from infra.errors import BackendUnavailableError
from infra.identities import initialise_home
from infra.keys import Keys
from infra.ledger import iter_entries, sign_checkpoint
from infra.ledger_verification import verify_ledger
from infra.migrations import r0001_tables, r0002_append_only
from infra.tables import ledger_entries, metadata, schema_version

OPENER = """
import sys
from infra.database import Database
with Database.open(sys.argv[1]) as db, db.unit_of_work() as uow:
    uow.append("test.appended", "x:1", {})
"""


@pytest.fixture
def old_url(database_url):
    """A database with two entries whose tables were made before revisions were kept."""
    with Database.open(database_url) as db:
        with db.engine.begin() as connection:
            _drop_everything(connection)
            _apply(connection, r0001_tables)
        with db.unit_of_work() as uow:
            uow.append("test.appended", "x:0", {})
            uow.append("test.appended", "x:1", {})
    return database_url


def _drop_everything(connection):
    metadata.drop_all(connection)
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("DROP FUNCTION gs_refuse_change")


def _apply(connection, module):
    from alembic.migration import MigrationContext
    from alembic.operations import Operations

    with Operations.context(MigrationContext.configure(connection)):
        module.upgrade()


def _triggers(url):
    """Returns every trigger and function of ours, as the engine would write them."""
    engine = create_engine(url)
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            statement = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' ORDER BY name"
        else:
            statement = (
                "SELECT tgname, pg_get_triggerdef(oid) || tgenabled::text FROM pg_trigger WHERE NOT tgisinternal "
                "UNION SELECT proname, pg_get_functiondef(oid) FROM pg_proc WHERE proname LIKE 'gs\\_%' ORDER BY 1"
            )
        found = [tuple(row) for row in connection.execute(text(statement))]
    engine.dispose()
    return found


def entries(url):
    with Database.open(url) as db:
        return [(entry.action, entry.subject, dict(entry.details)) for entry in iter_entries(db)]


def revision(url):
    engine = create_engine(url)
    with engine.connect() as connection:
        found = schema.read_revision(connection, "db")
    engine.dispose()
    return found


def test_an_old_database_is_migrated_once_with_its_entry(old_url, tmp_path):
    assert revision(old_url) == "0001"
    expected = [("test.appended", "x:0", {}), ("test.appended", "x:1", {})]
    expected.append(("schema.migrated", "schema", {"from": "0001", "to": schema.HEAD}))
    assert entries(old_url) == expected
    assert entries(old_url) == expected
    assert revision(old_url) == schema.HEAD
    keys = Keys.create(tmp_path / "keys")
    with Database.open(old_url) as db:
        initialise_home(db, keys, admin_name="Ada")
        sign_checkpoint(db, keys)
        assert verify_ledger(db, keys.log_public_key()).ok


def test_a_new_database_has_the_newest_schema_and_an_empty_ledger(database_url):
    assert revision(database_url) is None
    assert entries(database_url) == []
    assert revision(database_url) == schema.HEAD


def test_migrated_tables_are_those_of_new_databases(old_url):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    Database.open(old_url).close()
    migrated = _triggers(old_url)
    engine = create_engine(old_url)
    with engine.begin() as connection:
        options = {"compare_type": True, "compare_server_default": True, "version_table": schema_version.name}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []
        _drop_everything(connection)
    engine.dispose()
    Database.open(old_url).close()
    assert _triggers(old_url) == migrated
    assert len(migrated) == {"sqlite": 9, "postgresql": 4}[make_url(old_url).get_backend_name()]


def test_the_modules_form_one_line_to_the_newest_revision():
    from alembic.script import ScriptDirectory

    folder = str(Path(r0001_tables.__file__).parent)
    script = ScriptDirectory(folder, version_locations=[folder])
    line = [step.revision for step in script.walk_revisions(schema.FIRST, schema.HEAD)]
    assert line == sorted(line, reverse=True)
    assert (script.get_heads(), script.get_bases()) == ([schema.HEAD], [schema.FIRST])


def test_processes_that_open_an_old_database_at_once_migrate_it_once(old_url):
    workers = [subprocess.Popen([sys.executable, "-c", OPENER, old_url]) for _ in range(4)]
    assert [worker.wait(timeout=60) for worker in workers] == [0] * 4
    actions = [action for action, *_ in entries(old_url)]
    assert actions.count("schema.migrated") == 1
    assert len(actions) == 2 + 1 + 4


def test_a_migration_that_fails_leaves_everything_as_it_was(old_url, monkeypatch):
    def fail():
        from alembic import op

        op.execute("CREATE TABLE gs_half (id INTEGER)")
        op.execute(insert(ledger_entries).values(index=0, entry=b"", action="a.b", subject="x"))

    before = _triggers(old_url)
    monkeypatch.setattr(r0002_append_only, "upgrade", fail)
    with pytest.raises(BackendUnavailableError, match="cannot be brought to schema 0002") as caught:
        Database.open(old_url)
    assert "\n" not in caught.value.diagnosis
    assert revision(old_url) == "0001"
    assert _triggers(old_url) == before
    engine = create_engine(old_url)
    assert not {"gs_half", schema_version.name} & set(inspect(engine).get_table_names())
    engine.dispose()
    monkeypatch.undo()
    assert [action for action, *_ in entries(old_url)] == ["test.appended", "test.appended", "schema.migrated"]


def test_a_migration_whose_entry_cannot_be_written_is_undone(old_url, monkeypatch):
    def refuse(self):
        raise KeyboardInterrupt

    monkeypatch.setattr("infra.database.UnitOfWork.flush", refuse)
    with pytest.raises(KeyboardInterrupt):
        Database.open(old_url)
    monkeypatch.undo()
    assert revision(old_url) == "0001"
    assert len(_triggers(old_url)) == {"sqlite": 9, "postgresql": 0}[make_url(old_url).get_backend_name()]


def test_a_database_of_a_newer_groundswell_is_refused_unchanged(database_url):
    with Database.open(database_url) as db, db.engine.begin() as connection:
        connection.execute(update(schema_version).values(version_num="9999"))
    with pytest.raises(BackendUnavailableError, match="made by a newer groundswell") as caught:
        Database.open(database_url)
    assert "newer" in caught.value.diagnosis
    assert caught.value.hint == "install that version"
    assert caught.value.exit_code == 6
    assert revision(database_url) == "9999"


def test_a_database_that_lacks_tables_is_refused(old_url):
    engine = create_engine(old_url)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE gs_assets"))
    engine.dispose()
    with pytest.raises(IntegrityError, match="lacks the tables gs_assets"):
        Database.open(old_url)


def test_a_database_that_does_not_say_its_schema_is_refused(database_url):
    with Database.open(database_url) as db, db.engine.begin() as connection:
        connection.execute(text("DELETE FROM gs_alembic_version"))
    with pytest.raises(IntegrityError, match="does not say which schema"):
        Database.open(database_url)


def test_a_current_database_opens_without_alembic(database_url):
    code = "import sys; from infra.database import Database; Database.open(sys.argv[1]); print('alembic' in sys.modules)"
    for _ in range(2):
        answer = subprocess.run([sys.executable, "-c", code, database_url], capture_output=True, check=True, text=True)
        assert answer.stdout == "False\n"


def test_entries_of_before_stay_byte_for_byte(old_url):
    engine = create_engine(old_url)
    with engine.connect() as connection:
        before = connection.execute(select(ledger_entries.c.entry).order_by(ledger_entries.c.index)).scalars().all()
    engine.dispose()
    with Database.open(old_url) as db, db.read() as connection:
        after = connection.execute(select(ledger_entries.c.entry).order_by(ledger_entries.c.index)).scalars().all()
    assert after[:2] == before
    assert parse_entry(bytes(after[2])).action == "schema.migrated"
