"""Pages in the home that hold a text which is being erased: reports are derived, and are written anew without it."""

import html
import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from sqlalchemy import Connection, select

from infra.errors import BadSettingError
from infra.record_comparison import batches
from infra.tables import commitments, identities

_BATCH = 400
_UNSEEN = re.compile("[\\s\u00ad\u200b-\u200f\u2028-\u202e\u2060\ufeff]+")


def shown_texts(connection: Connection, wanted: Collection[str]) -> frozenset[str]:
    """Returns what pages show of the texts of some commitments: a name with its role, a request by its parts, or the text."""
    found: set[str] = set()
    for batch in batches(sorted(wanted), _BATCH):
        query = select(commitments.c.value, identities.c.role).where(commitments.c.commitment.in_(batch))
        joined = commitments.outerjoin(identities, identities.c.name_commitment == commitments.c.commitment)
        for value, role in connection.execute(query.select_from(joined)):
            found.update([f"{value} ({role})"] if role else _parts(value))
    return frozenset(found)


def remove_pages(folder: Path, texts: Collection[str]) -> tuple[Path, ...]:
    """Removes the pages of a folder that show one of some texts.

    Returns:
        What was removed.

    Raises:
        BadSettingError: A page cannot be read or removed.
    """
    needles = [_seen(text) for text in texts if _seen(text)]
    removed = []
    for path in sorted(folder.glob("*.html")):
        try:
            page = _seen(html.unescape(path.read_text(encoding="utf-8", errors="replace")))
            if any(needle in page for needle in needles):
                path.unlink()
                removed.append(path)
        except OSError as error:
            raise BadSettingError(
                f"{path} cannot be looked into or removed: {error.strerror}", hint="remove it by hand"
            ) from error
    return tuple(removed)


def _parts(value: str) -> Iterator[str]:
    try:
        parsed = json.loads(value)
    except ValueError:
        parsed = None
    if isinstance(parsed, dict):
        yield from (f"{key} “{item}”" for key, item in parsed.items() if item not in (None, ""))
    else:
        yield value


def _seen(text: str) -> str:
    """Returns a text without what a page may leave out of it or break it by."""
    return _UNSEEN.sub("", text).replace("\0", "")
