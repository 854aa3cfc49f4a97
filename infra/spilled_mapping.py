"""A mapping that may grow beyond memory: the newest of it in memory, the rest in a temporary file that SQLite removes."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from infra.errors import BackendUnavailableError

Key = tuple[Any, ...]
Values = dict[str, Any]
_MAX_IN_MEMORY = 4096


class SpilledMapping:
    """Maps keys to dictionaries, both of what JSON holds.

    Args:
        max_in_memory: Number of keys above which they are moved to the file.
    """

    def __init__(self, *, max_in_memory: int = _MAX_IN_MEMORY) -> None:
        self._max_in_memory = max_in_memory
        self._recent: dict[str, Values] = {}
        self._file: sqlite3.Connection | None = None
        self._num_spilled = 0

    def get(self, key: Key) -> Values | None:
        """Returns a key's values, None if it is not there. What is changed in them is lost unless it is `put`."""
        name = _name(key)
        return self._recent[name] if name in self._recent else self._read(name)

    def put(self, key: Key, values: Values) -> None:
        """Sets a key's values.

        Raises:
            BackendUnavailableError: There is no room for the temporary file.
        """
        self._recent[_name(key)] = values
        if len(self._recent) > self._max_in_memory:
            self._spill()

    def keys(self) -> Iterator[Key]:
        """Yields every key, in the order in which they were first put."""
        if self._file is not None:
            self._spill()
            yield from (tuple(json.loads(name)) for (name,) in self._file.execute("SELECT key FROM kept ORDER BY id"))
        else:
            yield from (tuple(json.loads(name)) for name in self._recent)

    def __contains__(self, key: Key) -> bool:
        return self.get(key) is not None

    def __len__(self) -> int:
        if self._file is not None:
            self._spill()
        return self._num_spilled + len(self._recent)

    def _read(self, name: str) -> Values | None:
        if self._file is None:
            return None
        with _no_room_is_said():
            row = self._file.execute("SELECT held FROM kept WHERE key = ?", (name,)).fetchone()
        return None if row is None else dict(json.loads(row[0]))

    def _spill(self) -> None:
        with _no_room_is_said():
            if self._file is None:
                self._file = sqlite3.connect("", isolation_level=None)  # a file without a name, in the system's temporary folder
                self._file.execute("PRAGMA journal_mode = OFF")
                self._file.execute("CREATE TABLE kept (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, held TEXT NOT NULL)")
            rows = [(name, json.dumps(values)) for name, values in self._recent.items()]
            statement = "INSERT INTO kept (key, held) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET held = excluded.held"
            self._file.execute("BEGIN")
            self._file.executemany(statement, rows)
            self._file.execute("COMMIT")
            self._num_spilled = self._file.execute("SELECT count(*) FROM kept").fetchone()[0]
        self._recent.clear()


def _name(key: Key) -> str:
    """Returns a key as text; what JSON does not hold, as a damaged table may, is like no key that was put."""
    return json.dumps(key, default=lambda value: {"type": type(value).__name__, "value": repr(value)})


@contextmanager
def _no_room_is_said() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise BackendUnavailableError(
            f"a temporary file cannot be written: {error}",
            hint="free some space there, or name another folder in TMPDIR",
        ) from error
