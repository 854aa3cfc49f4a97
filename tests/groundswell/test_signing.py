"""`groundswell audit checkpoint --every`, as a program of its own."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.home import Home
from infra.ledger import sign_checkpoint
from infra.settings import Settings
from tests.groundswell.conftest import Cli
from tests.servers import postgres_server


def append(home: Home) -> None:
    with home.database.unit_of_work() as uow:
        uow.append("run.started", "run:1", {"n": 1})


@contextmanager
def signing(home: Path, *arguments: object, **environment: str) -> Iterator["subprocess.Popen[str]"]:
    """Runs the command that stays."""
    command = [sys.executable, "-m", "groundswell.cli.main", "--home", home, "audit", "checkpoint", "--every", 0.1, *arguments]
    process = subprocess.Popen(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - one call, no lock
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_it_makes_a_home_and_signs_whenever_the_ledger_has_grown_and_ends_well(
    end: signal.Signals, cli: Cli, tmp_path: Path
) -> None:
    folder, note = tmp_path / "home", tmp_path / "note"
    with signing(folder, "-o", note) as process:
        first = line(process)
        assert first.startswith("signed ")
        append(Home.open(Settings.load(folder), create=False))
        second = line(process)
        assert second.split()[-1] == note.read_text().splitlines()[2] != first.split()[-1]
        process.send_signal(end)
        assert process.wait(30) == 0
        assert process.communicate() == ("", "")
    assert cli("--home", folder, "--json", "audit", "verify").document["num_checkpoints"] == 2
    assert cli("--home", folder, "audit", "checkpoint").stdout == note.read_text()


def test_it_signs_no_second_history(home: Home) -> None:
    append(home)
    sign_checkpoint(home.database, home.keys)
    home.database.close()
    with sqlite3.connect(home.path / "groundswell.db") as connection:
        connection.execute("DROP TRIGGER IF EXISTS gs_ledger_nodes_no_update")
        connection.execute("UPDATE gs_ledger_nodes SET hash = zeroblob(32)")
    connection.close()
    with signing(home.path) as process:
        assert process.wait(30) == 4
        assert "does not continue its checkpoint" in process.communicate()[1]


def test_it_says_once_that_the_database_is_away_and_goes_on_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with postgres_server() as server:
        url = server.create_database()
        server.stop()
        with signing(tmp_path / "home", GROUNDSWELL_DATABASE_URL=url) as process:
            assert process.stderr is not None
            said = [process.stderr.readline() for _ in range(2)]
            server.start()
            assert line(process).startswith("signed ")
            server.stop(crash=True)
            said += [process.stderr.readline() for _ in range(2)]
            server.start()
            monkeypatch.setenv("GROUNDSWELL_DATABASE_URL", url)
            append(Home.open(Settings.load(tmp_path / "home"), create=False))
            assert line(process).startswith("signed ")
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
            assert process.communicate()[1] == ""
        assert [text.partition(":")[0] for text in said] == ["error", "hint", "error", "hint"]
