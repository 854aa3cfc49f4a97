"""Looks for a change of the records that verification misses: ``python -m tests.fuzz_ledger --cases 10000 --seed 0``.

Sound histories are written (`tests.ledger_stories`) and verified after every act: none may raise a false alarm. Then each is
changed behind its back, one tamper at a time, by somebody who can write the database but has no key (`tests.ledger_tampers`):
triggers are dropped, indices and trees made to fit. Every tamper must be found. One that the database itself refuses, or that
leaves what is stored as it was, is none.
"""

import argparse
import collections
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from governance.checkpoint import Checkpoint
from governance.errors import IntegrityError
from infra.anchors import Anchor
from infra.database import Database
from infra.database_errors import translated_errors
from infra.engines import BEGIN_IMMEDIATE
from infra.keys import Keys
from infra.ledger_verification import verify_connection, verify_ledger
from infra.log_keys import log_keys
from tests.ledger_stories import Story
from tests.ledger_tampers import NoTamper, Scene, tamper

_PER_STORY = 20
_TRIES = 50


@dataclass
class Outcome:
    """What a search found.

    Attributes:
        tampers: Tampers by kind.
        clean: Sound states that were verified.
        missed: Seed and tamper of each that was not found.
        alarms: Seed, act and problem of each false alarm.
    """

    tampers: collections.Counter[str] = field(default_factory=collections.Counter)
    clean: int = 0
    missed: list[str] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every tamper was found and nothing else."""
        return not self.missed and not self.alarms


def search(urls: Iterator[str], keys: Keys, *, cases: int, seed: int, only: int | None = None) -> Outcome:
    """Writes histories and changes them until so many tampers were tried and so many sound states verified.

    Args:
        urls: Empty databases.
        keys: The keys of the homes.
        cases: How many tampers, and at least how many sound states.
        seed: The first history's seed.
        only: Only this history, where it is given.
    """
    outcome = Outcome()
    number = seed if only is None else only
    while outcome.tampers.total() < cases or outcome.clean < cases:
        story, public_key = Story(next(urls), keys, number), keys.log_public_key()
        try:
            _tell(story, public_key, outcome, number)
            _control(story, public_key, outcome, number)
            for _ in range(min(_PER_STORY, cases - outcome.tampers.total())):
                _try(story, public_key, outcome, number)
        finally:
            story.database.close()
        if only is not None:
            break
        number += 1
    return outcome


def _tell(story: Story, public_key: Ed25519PublicKey, outcome: Outcome, seed: int) -> None:
    for act in story.tell():
        report = verify_ledger(story.database, public_key)
        outcome.clean += 1
        if not report.ok:
            outcome.alarms.append(f"seed {seed}, after {act}: {report.problems[0]}")


def _control(story: Story, public_key: Ed25519PublicKey, outcome: Outcome, seed: int) -> None:
    """Verifies the history as tampers find it, so that what finds them is not the way in which they are made."""
    anchor = _anchor(story, public_key)
    with _undone(story.database) as connection:
        outcome.clean += 1
        if _is_found(connection, public_key, [anchor], story.database.name):
            outcome.alarms.append(f"seed {seed}: without a tamper")


def _try(story: Story, public_key: Ed25519PublicKey, outcome: Outcome, seed: int) -> None:
    """Tries one tamper, and takes it back."""
    anchor = _anchor(story, public_key)
    for _ in range(_TRIES):
        with _undone(story.database) as connection:
            scene = Scene(connection=connection, random=story.random, anchor=anchor, keys=story.keys)
            try:
                kind, words = tamper(scene)
            except (NoTamper, DBAPIError):
                continue
            outcome.tampers[kind] += 1
            if not _is_found(connection, public_key, [anchor], story.database.name):
                outcome.missed.append(f"seed {seed}: {kind}: {words}")
            return


def _anchor(story: Story, public_key: Ed25519PublicKey) -> Checkpoint:
    """Returns the checkpoint that is kept elsewhere; whoever has the first key is led to the one that signed it."""
    with story.database.read() as connection:
        return log_keys(connection, public_key).verify(story.notes[-1])


def _is_found(connection: Connection, public_key: Ed25519PublicKey, anchors: Sequence[Checkpoint], name: str) -> bool:
    try:
        with translated_errors(name):
            kept = [Anchor(source="kept elsewhere", size=anchor.size, root_hash=anchor.root_hash) for anchor in anchors]
            return not verify_connection(connection, public_key, anchors=kept).ok
    except IntegrityError:
        return True


@contextmanager
def _undone(database: Database) -> Iterator[Connection]:
    """Opens a transaction without triggers and foreign keys, and rolls it back."""
    with database.engine.connect().execution_options(**BEGIN_IMMEDIATE) as connection:
        on_sqlite = connection.dialect.name == "sqlite"
        driver = connection.connection.driver_connection
        if on_sqlite:
            driver.execute("PRAGMA foreign_keys = OFF")
        transaction = connection.begin()
        try:
            triggers = (
                "SELECT 'DROP TRIGGER ' || name FROM sqlite_master WHERE type = 'trigger'"
                if on_sqlite
                else "SELECT 'DROP TRIGGER ' || tgname || ' ON ' || tgrelid::regclass FROM pg_trigger WHERE NOT tgisinternal"
            )
            for statement in connection.exec_driver_sql(triggers).scalars().all():
                connection.exec_driver_sql(statement)
            yield connection
        finally:
            transaction.rollback()
            if on_sqlite:
                driver.execute("PRAGMA foreign_keys = ON")


def sqlite_urls(folder: Path) -> Iterator[str]:
    """Yields new files; the one before is deleted."""
    path = folder / "groundswell.db"
    while True:
        for old in folder.glob("groundswell.db*"):
            old.unlink()
        yield f"sqlite:///{path}"


def main() -> int:
    """Searches, and prints what was tried and what was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="only the history with this seed")
    options = parser.parse_args()
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        keys = Keys.create(Path(folder) / "keys")
        began = time.monotonic()
        outcome = search(sqlite_urls(Path(folder)), keys, cases=options.cases, seed=options.seed, only=options.only)
    document = {
        "clean": outcome.clean,
        "false_alarms": outcome.alarms,
        "missed": outcome.missed,
        "seconds": round(time.monotonic() - began),
        "seed": options.seed,
        "tampers": dict(sorted(outcome.tampers.items())),
        "tampers_in_all": outcome.tampers.total(),
    }
    sys.stdout.write(f"{json.dumps(document, indent=2)}\n")
    return 0 if outcome.ok else 1


if __name__ == "__main__":
    sys.exit(main())
