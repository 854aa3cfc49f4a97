"""A table of requests and the files that its rows are made from, as one folder, which goes when its run ends."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from components.validate_requests.sources import source_below
from components.validate_requests.step import TABLE_NAME
from components.validate_requests.table import read_texts
from infra.home import Home
from infra.request_salt import write_salt
from model_core.errors import BadDataError


def stage_requests(home: Home, table: Path, folder: Path) -> None:
    """Copies a table, and what its rows are made from, so that what is made is what was checked.

    Args:
        home: The home.
        table: The CSV file.
        folder: The folder to make.

    Raises:
        BadDataError: The file is no table of requests.
    """
    texts = read_texts(table)
    folder.mkdir(parents=True)
    copy_sources(table.parent, folder, [values["from"] for values in texts if values["from"]])
    shutil.copyfile(table, folder / TABLE_NAME)
    write_salt(home, folder)


def copy_sources(folder: Path, target: Path, names: Iterable[str]) -> None:
    """Copies the files that rows are made from; one that cannot be used is left out, which its row is told by then."""
    for name in dict.fromkeys(names):
        try:
            source = source_below(folder, name)
        except BadDataError:
            continue
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy, follow_symlinks=False)
