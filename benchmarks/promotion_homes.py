"""Homes with model versions to promote, for the harnesses of promotion: made once, by a process of its own, and copied.

``python -m benchmarks.promotion_homes FOLDER VERSIONS WIDTH`` makes one on the database that ``GROUNDSWELL_TEMPLATE_URL``
names. It needs MLflow; who copies a home and works on it does not.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.home import Home
from infra.identities import list_identities
from model_core.errors import BadDataError
from tests.infra.promotion.world import World, fill, settings_of
from tests.servers import PostgresServer, postgres_server

ENGINES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
_MODULE = "benchmarks.promotion_homes"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a home is.

    Attributes:
        folder: Its folder.
        url: Its database's URL.
    """

    folder: Path
    url: str

    def world(self) -> World:
        """Opens the home, as a user's next command would, and returns it with its people by name."""
        home = Home.open(settings_of(self.folder, self.url))
        people = list_identities(home.database)
        return World(home=home, people={one.name or "": one.identity_id for one in people} | {"Admin": people[0].identity_id})


Fresh = Callable[[], Place]
"""Gives a home of one's own, as it was made."""


@contextmanager
def prepared(engine: str, folder: Path, *, versions: int, width: int = 16) -> Iterator[tuple[Place, PostgresServer | None]]:
    """Makes a home with model versions on one kind of database, and yields where it is and the database's server.

    Args:
        engine: ``sqlite`` or ``postgresql``; for the latter a server is started, which ends with the block.
        folder: Where all of it goes.
        versions: How many versions the model has.
        width: Each has width x width weights of four bytes.

    Raises:
        BadDataError: PostgreSQL is not installed.
    """
    template = folder / f"{engine}-template"
    if engine == "sqlite":
        url = f"sqlite:///{template}/groundswell.db"
        _make(template, url, versions, width)
        yield Place(folder=template, url=url), None
        return
    try:
        with postgres_server() as server:
            url = server.create_database()
            _make(template, url, versions, width)
            yield Place(folder=template, url=url), server
    except pytest.skip.Exception as error:
        raise BadDataError(str(error), hint="or use SQLite alone: --engine sqlite") from error


def one_home(engine: str, template: Place, server: PostgresServer | None, folder: Path) -> Fresh:
    """Returns what copies a home, to whose database nobody is connected."""
    if engine == "sqlite":
        return _on_sqlite(template.folder, folder)
    if server is None:
        raise ValueError("a database of a server is copied by that server")
    return _on_postgresql(template.folder, template.url, folder, server)


def _on_sqlite(template: Path, folder: Path) -> Fresh:
    def fresh() -> Place:
        home = folder / "home"
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(template, home, ignore=shutil.ignore_patterns("scratch", "mlartifacts"))
        return Place(folder=home, url=f"sqlite:///{home}/groundswell.db")

    return fresh


def _on_postgresql(template: Path, template_url: str, folder: Path, server: PostgresServer) -> Fresh:
    used: list[str] = []

    def fresh() -> Place:
        home = folder / "home"
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(template, home, ignore=shutil.ignore_patterns("scratch", "mlartifacts"))
        while used:
            server.drop_database(used.pop())
        used.append(server.create_database(template=template_url))
        return Place(folder=home, url=used[0])

    return fresh


def _make(folder: Path, url: str, versions: int, width: int) -> None:
    command = [sys.executable, "-m", _MODULE, str(folder), str(versions), str(width)]
    subprocess.run(command, check=True, env={**os.environ, "GROUNDSWELL_TEMPLATE_URL": url})


def main() -> None:
    """Makes a home with versions of a model and people to promote them."""
    from infra.mlflow_client import initialise_mlflow

    folder, url = Path(sys.argv[1]), os.environ["GROUNDSWELL_TEMPLATE_URL"]
    home = Home.open(settings_of(folder, url))
    initialise_mlflow(url, str(folder / "mlartifacts"))
    fill(home, folder / "scratch", versions=int(sys.argv[2]), width=int(sys.argv[3]))
    home.database.close()


if __name__ == "__main__":
    main()
