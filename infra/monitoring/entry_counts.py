"""Counts of the ledger's entries by action: the ledger only grows, so each entry is looked at once a process."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection, func, select

from infra.tables import ledger_entries, ledger_head

Labels = tuple[str, ...]


class EntryCounts:
    """Counts entries with some action since the process began to ask, by labels that their details hold.

    Args:
        action: The action.
        labels_of: Makes labels of an entry's details; None where entries are only counted, which reads none of them.
    """

    def __init__(self, action: str, labels_of: Callable[[Mapping[str, Any]], Labels] | None = None) -> None:
        self._action = action
        self._labels_of = labels_of
        self._seen = 0  # entries of the ledger before this index are counted
        self._counts: Counter[Labels] = Counter()

    def read(self, connection: Connection) -> Mapping[Labels, int]:
        """Returns the counts, those of entries since the last call added; one call at a time.

        Args:
            connection: A snapshot, not older than that of the last call.
        """
        size = int(connection.execute(select(ledger_head.c.size)).scalar() or 0)
        if size < self._seen:  # another ledger stands there now: a backup was restored
            self._seen, self._counts = 0, Counter()
        columns = ledger_entries.c
        is_new = (columns.action == self._action) & (columns.index >= self._seen) & (columns.index < size)
        new: Counter[Labels] = Counter()
        if self._labels_of is None:
            new[()] = int(connection.execute(select(func.count()).where(is_new)).scalar_one())
        else:
            for data in connection.execute(select(columns.entry).where(is_new)).scalars():
                new[self._labels_of(json.loads(bytes(data))["details"])] += 1
        self._counts.update(new)  # all of them are read by now: an outage halfway leaves nothing that would count twice
        self._seen = size
        return dict(self._counts)
