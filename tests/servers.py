"""Real servers for tests. PostgreSQL is Debian's: ``apt-get install postgresql``."""

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy.engine import URL, make_url

ROLE = "groundswell"
PASSWORD = "correct%horse@battery/staple"
"""With what a URL must quote."""
_ADMIN = "postgres"
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "password_encryption": "scram-sha-256",
    "max_connections": "200",
    "shared_buffers": "32MB",
    # Tests kill processes and servers, never the machine, so what the operating system was told is safe; and much faster.
    "fsync": "off",
    "full_page_writes": "off",
}
_START_TIMEOUT_S = 60.0


class PostgresServer:
    """A server of its own on 127.0.0.1, with password authentication and a role that is no superuser.

    Attributes:
        port: Where it listens.
    """

    def __init__(self, folder: Path, binaries: Path) -> None:
        self.port = 0
        self._folder = folder
        self._binaries = binaries
        self._admin_password = secrets.token_hex(8)
        self._process: subprocess.Popen[bytes] | None = None

    def initialise(self) -> None:
        """Makes its data folder and its role, and starts it."""
        password_file = self._folder / "password"
        password_file.write_text(self._admin_password)
        if os.getuid() == 0:
            shutil.chown(self._folder, "postgres", "postgres")
            shutil.chown(password_file, "postgres", "postgres")
        options = ["--encoding=UTF8", "--locale=C.UTF-8", "--auth=scram-sha-256", f"--username={_ADMIN}"]
        subprocess.run(
            [
                *_as_postgres(),
                self._binaries / "initdb",
                f"--pgdata={self._folder / 'data'}",
                f"--pwfile={password_file}",
                "--no-sync",
                "--no-instructions",
                *options,
            ],
            check=True,
            capture_output=True,
            cwd=self._folder,
            env=_environment(),
        )
        self.start()
        words = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(ROLE), sql.Literal(PASSWORD))
        with self.connect() as connection:
            connection.execute(words)

    def start(self, **settings: str) -> None:
        """Starts it, on the port that it had before if it ran before, and waits until it answers.

        Args:
            settings: More of its settings.
        """
        for _ in range(3):
            self.port = self.port or _free_port()
            options = {**_SETTINGS, **settings, "port": str(self.port), "unix_socket_directories": str(self._folder)}
            arguments = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
            with (self._folder / "log").open("ab") as log:
                self._process = subprocess.Popen(
                    [*_as_postgres(), "--pdeathsig", "INT", self._binaries / "postgres", "-D", self._folder / "data", *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self._folder,
                    env=_environment(),
                )
            if self._answers():
                return
            self.stop()
            self.port = 0
        raise RuntimeError(f"PostgreSQL does not start: {(self._folder / 'log').read_text()[-2000:]}")

    def stop(self, *, crash: bool = False) -> None:
        """Stops it; safe to call again.

        Args:
            crash: As a crash would: without a checkpoint, each connection cut.
        """
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(3 if crash else 2)  # SIGQUIT, SIGINT: immediate, fast
            self._process.wait(timeout=_START_TIMEOUT_S)
            self._process = None

    def create_database(self, *, template: str | None = None) -> str:
        """Makes a database that belongs to the role, and returns its URL, with the password in it.

        Args:
            template: URL of the database to copy, to which nobody is connected; otherwise it is empty.
        """
        name = f"test_{secrets.token_hex(6)}"
        source = make_url(template).database if template else "template0"
        words = sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {}")
        with self.connect() as connection:
            connection.execute(words.format(sql.Identifier(name), sql.Identifier(ROLE), sql.Identifier(source)))
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Drops a database, whoever is connected to it."""
        name = sql.Identifier(make_url(url).database)
        with self.connect() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))

    def url(self, database: str, **changes: Any) -> str:
        """Returns the URL of a database.

        Args:
            database: Its name.
            changes: Other parts of the URL, such as ``password``.
        """
        parts = {"username": ROLE, "password": PASSWORD, "host": "127.0.0.1", "port": self.port, **changes}
        return URL.create("postgresql+psycopg", database=database, **parts).render_as_string(hide_password=False)

    def connect(self, url: str | None = None) -> psycopg.Connection:
        """Returns a superuser's connection, without transactions.

        Args:
            url: The database; otherwise the one for administration.
        """
        name = make_url(url).database if url else "postgres"
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=_ADMIN, password=self._admin_password, dbname=name, autocommit=True
        )

    def _answers(self) -> bool:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline and self._process is not None and self._process.poll() is None:
            with suppress(psycopg.OperationalError):
                self.connect().close()
                return True
            time.sleep(0.05)
        return False


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Runs a PostgreSQL server; it ends with the block, and with this process however that ends.

    Skips the test where PostgreSQL is missing.
    """
    binaries = _postgres_binaries()
    with tempfile.TemporaryDirectory(prefix="groundswell-postgres-", ignore_cleanup_errors=True) as folder:
        server = PostgresServer(Path(folder), binaries)
        try:
            server.initialise()
            yield server
        finally:
            server.stop()


def _postgres_binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    initdb = found[-1] if found else shutil.which("initdb")
    if initdb is None or shutil.which("setpriv") is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    return Path(initdb).parent


def _as_postgres() -> list[str]:
    """Returns the beginning of a command line; the server refuses to run as root."""
    return ["setpriv", *(["--reuid=postgres", "--regid=postgres", "--init-groups"] if os.getuid() == 0 else [])]


def _environment() -> dict[str, str]:
    return {**{name: value for name, value in os.environ.items() if not name.startswith("PG")}, "LC_ALL": "C.UTF-8"}


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
