"""How often the database did not take a unit of work: counted beside it, because it cannot say so itself."""

import os
from contextlib import suppress
from pathlib import Path

_FILE = "append-failures"


def count_failure(folder: Path) -> None:
    """Counts one: a byte at the end of a file, which processes append at once without losing one; what fails here is let go."""
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / _FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, b".")
        finally:
            os.close(descriptor)


def num_failures(folder: Path) -> int:
    """Returns how many were counted."""
    try:
        return (folder / _FILE).stat().st_size
    except OSError:
        return 0
