"""Whether MLflow's aliases, champions, requests and ledger say the same, in one snapshot; and what changed between two.

This reads the tables by itself and shares no code with what is judged, but for the form of a ledger entry.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select, text

from governance.ledger import LedgerEntry, parse_entry
from infra.promotion.guards import missing_guards
from infra.tables import (
    attestations,
    champions,
    commitments,
    ledger_entries,
    ledger_head,
    ledger_nodes,
    outbox,
    policies,
    promotions,
)

CROWNING = ("promotion.applied", "promotion.restored")
_TABLES = (attestations, champions, commitments, ledger_entries, ledger_nodes, outbox, policies, promotions)
_ALIASES = "SELECT name, alias, version, workspace FROM registered_model_aliases ORDER BY name, alias, workspace"


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What the tables of promotion hold.

    Attributes:
        digests: SHA-256 of each table's rows.
        counts: How many rows each has.
        actions: The actions of the ledger's entries, in their order.
    """

    digests: Mapping[str, str]
    counts: Mapping[str, int]
    actions: tuple[str, ...]

    def is_as(self, other: "Picture") -> bool:
        """Says whether both are of the same state."""
        return self.digests == other.digests


@dataclass(frozen=True, kw_only=True)
class Change:
    """How two pictures differ.

    Attributes:
        actions: The actions of the entries that came.
        counts: How many rows more each table has.
        touched: The tables whose rows are others.
    """

    actions: tuple[str, ...]
    counts: Mapping[str, int]
    touched: frozenset[str]


def take_picture(connection: Connection) -> Picture:
    """Returns what the tables of promotion hold, MLflow's aliases and the guards too."""
    found: dict[str, list[Any]] = {}
    for table in _TABLES:
        rows = connection.execute(select(table).order_by(*table.primary_key.columns)).all()
        found[table.name] = [tuple(row) for row in rows]
    found["registered_model_aliases"] = [tuple(row) for row in connection.execute(text(_ALIASES))]
    found["guards that are missing"] = sorted(missing_guards(connection))
    index = list(ledger_entries.c).index(ledger_entries.c.action)
    return Picture(
        digests={name: hashlib.sha256(repr(rows).encode()).hexdigest() for name, rows in found.items()},
        counts={name: len(rows) for name, rows in found.items()},
        actions=tuple(row[index] for row in found[ledger_entries.name]),
    )


def change_between(before: Picture, after: Picture) -> Change:
    """Returns how a picture differs from one before."""
    same = after.actions[: len(before.actions)] == before.actions
    counts = {name: count - before.counts[name] for name, count in after.counts.items()}
    counts.pop(ledger_nodes.name)  # how many an entry completes depends on its index; verification counts them
    return Change(
        actions=after.actions[len(before.actions) :] if same else ("another history",),
        counts={name: count for name, count in counts.items() if count},
        touched=frozenset(name for name, digest in after.digests.items() if digest != before.digests[name]),
    )


def promotion_entries(connection: Connection) -> list[LedgerEntry]:
    """Returns the ledger's entries about promotion, in their order."""
    columns = ledger_entries.c
    query = select(columns.entry).where(columns.action.startswith("promotion.")).order_by(columns.index)
    return [parse_entry(bytes(data)) for data in connection.execute(query).scalars()]


def version_of(entry: LedgerEntry) -> tuple[str, int]:
    """Returns model and version that an entry is about."""
    name, _, version = entry.subject.removeprefix("model-version:").rpartition("/")
    return name, int(version)


def disagreements(connection: Connection) -> Iterator[str]:
    """Yields where aliases, champions and requests are not what the ledger said last."""
    crowned: dict[tuple[str, str], LedgerEntry] = {}
    stated: dict[str, LedgerEntry] = {}
    for entry in promotion_entries(connection):
        if entry.action == "promotion.refused":
            continue
        stated[entry.details["promotion"]] = entry
        if entry.action in CROWNING:
            crowned[version_of(entry)[0], entry.details["environment"]] = entry
    yield from _about_champions(connection, crowned)
    yield from _about_aliases(connection, crowned)
    yield from _about_requests(connection, crowned, stated)
    yield from _about_head(connection)


def _about_champions(connection: Connection, crowned: Mapping[tuple[str, str], LedgerEntry]) -> Iterator[str]:
    rows = {(row["name"], row["environment"]): dict(row) for row in connection.execute(select(champions)).mappings()}
    for key in sorted(rows.keys() ^ crowned.keys()):
        yield f"champion {key}: {'no entry put it in' if key in rows else 'an entry put one in, and there is none'}"
    for key in sorted(rows.keys() & crowned.keys()):
        entry = crowned[key]
        said = {
            "name": key[0],
            "environment": key[1],
            "version": version_of(entry)[1],
            "root_digest": entry.details["root_digest"],
            "promotion_id": entry.details["promotion"],
            "since": entry.details["since"],
            "expires": entry.details["lapses"],
            "entry_index": entry.index,
        }
        if rows[key] != said:
            yield f"champion {key}: the row is {rows[key]}, the last entry says {said}"


def _about_aliases(connection: Connection, crowned: Mapping[tuple[str, str], LedgerEntry]) -> Iterator[str]:
    environments = {environment for _, environment in crowned} | {"staging", "production"}
    rows = {
        (name, alias): (int(version), workspace)
        for name, alias, version, workspace in connection.execute(text(_ALIASES))
        if alias.lower() in environments
    }
    said = {key: (version_of(entry)[1], "default") for key, entry in crowned.items()}
    for key in sorted(rows.keys() | said.keys()):
        if rows.get(key) != said.get(key):
            yield f"alias {key}: MLflow has {rows.get(key)}, the last entry says {said.get(key)}"


def _about_requests(
    connection: Connection, crowned: Mapping[tuple[str, str], LedgerEntry], stated: Mapping[str, LedgerEntry]
) -> Iterator[str]:
    columns = promotions.c
    query = select(columns.promotion_id, columns.state, columns.previous)
    rows = {name: (state, previous) for name, state, previous in connection.execute(query)}
    for name in sorted(rows.keys() | stated.keys()):
        entry = stated.get(name)
        said = (entry.details["state"], entry.details["previous"]) if entry is not None else None
        if rows.get(name) != said:
            yield f"request {name}: the row says {rows.get(name)}, its last entry {said}"
    applied = Counter(name for name, (state, _) in rows.items() if state == "applied")
    if applied != Counter(entry.details["promotion"] for entry in crowned.values()):
        yield f"applied are {sorted(applied)}, champions {sorted(entry.details['promotion'] for entry in crowned.values())}"


def _about_head(connection: Connection) -> Iterator[str]:
    size = connection.execute(select(ledger_head.c.size)).scalar_one()
    count = connection.execute(select(func.count()).select_from(ledger_entries)).scalar_one()
    if size != count:
        yield f"the ledger's head says {size} entries, there are {count}"
