"""What is there already where a backup is to be restored to."""

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, inspect, select, text
from sqlalchemy.engine import URL

from governance.errors import IntegrityError
from infra.backup.rows import reflect_tables
from infra.database import BUSY_TIMEOUT_S
from infra.database_errors import translated_errors
from infra.engines import make_engine, parse_url, shown_name
from infra.settings import Settings
from infra.tables import ledger_checkpoints, ledger_head

# What MLflow puts into its tables when it makes them, and its server when it runs: which rows of a table are others.
SEEDED = {"experiments": "experiment_id <> 0", "workspaces": "name <> 'default'", "scheduler_leases": "1 = 0"}


@dataclass(frozen=True, kw_only=True)
class Target:
    """The home and database that settings name, before a restore.

    Attributes:
        settings: The settings.
        url: The database.
        rows_in: A table with rows, "" for an empty database or none.
        notes: Its signed checkpoints.
        damage: Why its checkpoints cannot be known, "" where they are.
    """

    settings: Settings
    url: URL
    rows_in: str
    notes: tuple[str, ...]
    damage: str

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is a file."""
        return self.url.drivername == "sqlite"

    @property
    def database_file(self) -> Path:
        """The file, where it is one."""
        return Path(str(self.url.database)).absolute()

    @property
    def database_name(self) -> str:
        """The database as errors name it."""
        return shown_name(self.url)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing that a restore would replace."""
        return not self.rows_in and not self.damage


def look_at_target(settings: Settings) -> Target:
    """Looks at where a backup is to be restored to, and changes nothing.

    Raises:
        BackendUnavailableError: The server does not answer.
        BadSettingError: The database's URL cannot be used.
    """
    url = parse_url(settings.database_url)
    rows_in, damage = "", ""
    notes: tuple[str, ...] = ()
    path = Path(str(url.database))
    if url.drivername != "sqlite" or (path.exists() and path.stat().st_size):
        try:
            rows_in, notes = _look(url)
        except IntegrityError as error:
            damage = error.diagnosis
    return Target(settings=settings, url=url, rows_in=rows_in, notes=notes, damage=damage)


def filled_table(connection: Connection) -> str:
    """Returns the name of a table with rows that nobody but a user can have made, "" for none."""
    for name, table in reflect_tables(connection).items():
        query = select(text("1")).select_from(table)
        if name == ledger_head.name:
            query = query.where(text("size <> 0"))
        elif name in SEEDED:
            query = query.where(text(SEEDED[name]))
        if connection.execute(query.limit(1)).first() is not None:
            return name
    return ""


def _look(url: URL) -> tuple[str, tuple[str, ...]]:
    engine = make_engine(url, busy_timeout_s=BUSY_TIMEOUT_S)
    try:
        with translated_errors(shown_name(url)), engine.connect() as connection:
            name = filled_table(connection)
            has_checkpoints = inspect(connection).has_table(ledger_checkpoints.name)
            notes = connection.execute(select(ledger_checkpoints.c.note)).scalars().all() if has_checkpoints else ()
            return name, tuple(str(note) for note in notes)
    finally:
        engine.dispose()
