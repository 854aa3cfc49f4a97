"""What the ledger costs: appends beside the same rows written to the bare database, proofs, and `audit verify`."""

import hashlib
import math
import os
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from sqlalchemy import Engine, select

from benchmarks.command import read_json
from benchmarks.usage import usage_of
from governance.merkle import GrowingTree, complete_subtrees, leaf_hash, verify_inclusion
from infra.engines import BEGIN_IMMEDIATE, make_engine, parse_url
from infra.home import Home
from infra.ledger import inclusion_proof, ledger_size, read_entry, root_hash, sign_checkpoint
from infra.ledger_nodes import StoredNodes
from infra.tables import ledger_entries, ledger_nodes, metadata
from model_core.errors import BadDataError

BATCH = 100
"""Entries of one transaction."""

_WARM_UP = 5
_NUM_CHECKPOINTS = 100
_ENTRY_COLUMNS = ("index", "entry", "action", "subject", "run_id")
_NODE_COLUMNS = ("level", "position", "hash")
_RUN = "0198c0de-0000-7000-8000-000000000000"


class BareDatabase:
    """The ledger's two tables in a database of their own, with the ledger's indices and durability and nothing else of it.

    Args:
        url: An empty database.
        size: Number of entries that the ledger has which the rows come from.
        peaks: The hashes of the complete subtrees that cover these.
    """

    def __init__(self, url: str, *, size: int, peaks: Sequence[bytes]) -> None:
        self._engine: Engine = make_engine(parse_url(url), busy_timeout_s=60)
        metadata.create_all(self._engine, tables=[ledger_entries, ledger_nodes])
        self._tree = GrowingTree(size, peaks)
        mark = "?" if self._engine.dialect.name == "sqlite" else "%s"
        self._statements = [
            f"INSERT INTO {table.name} ({', '.join(map(_quoted, columns))}) VALUES ({', '.join([mark] * len(columns))})"  # noqa: S608
            for table, columns in ((ledger_entries, _ENTRY_COLUMNS), (ledger_nodes, _NODE_COLUMNS))
        ]

    def write(self, entries: Sequence[tuple[Any, ...]]) -> float:
        """Writes entries' rows and those of the nodes that they complete in one transaction; returns its seconds."""
        first = self._tree.size
        levels = self._tree.append([leaf_hash(entry[1]) for entry in entries])
        nodes = [(level, (first >> level) + i, value) for level, row in enumerate(levels) for i, value in enumerate(row)]
        began = time.perf_counter()
        with self._engine.connect().execution_options(**BEGIN_IMMEDIATE) as connection, connection.begin():
            for statement, rows in zip(self._statements, (list(entries), nodes), strict=True):
                connection.exec_driver_sql(statement, rows)
        return time.perf_counter() - began

    def close(self) -> None:
        """Closes its connections."""
        self._engine.dispose()


def measure_appends(home: Home, bare_url: str, *, batch: int, turns: int) -> dict[str, Any]:
    """Appends units of work in turns with the bare database, which is given the same rows.

    Args:
        home: The home.
        bare_url: An empty database of the same kind.
        batch: Entries of a unit of work.
        turns: How many units of work.

    Returns:
        Medians, the 99th percentile, the ratio of medians, and this process's own processor time.
    """
    size, peaks = _peaks(home)
    bare = BareDatabase(bare_url, size=size, peaks=peaks)
    ours, theirs, processor_s = [], [], 0.0
    for turn in range(_WARM_UP + turns):
        began = time.process_time()
        seconds = append(home, batch)
        processor_s += time.process_time() - began
        rows = _last_rows(home, batch)
        bare_seconds = bare.write(rows)
        if turn >= _WARM_UP:
            ours.append(seconds)
            theirs.append(bare_seconds)
    bare.close()
    return {
        "batch": batch,
        "turns": turns,
        "entries_per_s": round(batch / median(ours)),
        "bare_entries_per_s": round(batch / median(theirs)),
        "ratio": round(median(ours) / median(theirs), 2),
        "processor_us_per_entry": round(1e6 * processor_s / (batch * (_WARM_UP + turns)), 1),
        "median_ms": _ms(median(ours)),
        "p99_ms": _ms(percentile(ours, 0.99)),
        "bare_p99_ms": _ms(percentile(theirs, 0.99)),
    }


def fill(home: Home, num_entries: int) -> dict[str, Any]:
    """Appends until the ledger has so many entries, and signs a hundred checkpoints on the way.

    Returns:
        Entries, seconds and rate of these appends, checkpoints left out; and the rate of the last tenth.
    """
    with home.database.read() as connection:
        size = ledger_size(connection)
    every = max(BATCH, num_entries // _NUM_CHECKPOINTS)
    due, spent = size + every, []
    while size < num_entries:
        batch = min(BATCH, num_entries - size)
        spent.append(append(home, batch))
        size += batch
        if size >= due:
            sign_checkpoint(home.database, home.keys)
            due += every
    sign_checkpoint(home.database, home.keys)
    last = spent[-max(1, len(spent) // 10) :]
    return {
        "entries": size,
        "seconds": round(sum(spent), 1),
        "entries_per_s": round(BATCH * len(spent) / sum(spent)) if spent else None,
        "last_tenth_entries_per_s": round(BATCH * len(last) / sum(last)) if spent else None,
    }


def append(home: Home, batch: int) -> float:
    """Appends entries in one unit of work; returns its seconds, from the lock to the commit."""
    digests = [hashlib.sha256(os.urandom(32)).hexdigest() for _ in range(batch)]
    began = time.perf_counter()
    with home.database.unit_of_work() as uow:
        for position, digest in enumerate(digests):
            details = {"content_digest": digest, "media_type": "image/png", "position": position, "score": "0.25", "seed": "7919"}
            uow.append("sample.measured", f"sample:{digest}", details, run_id=_RUN)
    return time.perf_counter() - began


def measure_proofs(home: Home, *, turns: int, seed: int = 0) -> dict[str, Any]:
    """Makes and verifies inclusion proofs of random entries in the whole tree.

    Raises:
        BadDataError: A proof does not hold.
    """
    chooser = random.Random(seed)  # noqa: S311  # which entries are proven is no secret
    made, verified, hashes = [], [], []
    with home.database.read() as connection:
        size = ledger_size(connection)
        root = root_hash(connection, size)
        for _ in range(_WARM_UP + turns):
            index = chooser.randrange(size)
            leaf = leaf_hash(read_entry(connection, index)[1])
            began = time.perf_counter()
            proof = inclusion_proof(connection, index, size)
            made_at = time.perf_counter()
            holds = verify_inclusion(leaf, index, size, proof, root)
            ended = time.perf_counter()
            if not holds:
                raise BadDataError(f"the proof of entry {index} does not hold", hint="verify the home")
            made.append(made_at - began)
            verified.append(ended - made_at)
            hashes.append(len(proof))
    return {
        "turns": turns,
        "entries": size,
        "most_hashes": max(hashes),
        "make_ms": _ms(median(made[_WARM_UP:])),
        "make_p99_ms": _ms(percentile(made[_WARM_UP:], 0.99)),
        "verify_us": round(1e6 * median(verified[_WARM_UP:]), 1),
    }


def measure_verification(home: Home, folder: Path, *, repeat: int) -> dict[str, Any]:
    """Runs ``groundswell audit verify`` in a process of its own, as often as asked.

    Args:
        home: The home.
        folder: Where its output goes.
        repeat: How many times.

    Raises:
        BadDataError: It fails.
    """
    command = [sys.executable, "-m", "groundswell.cli.main", "--home", str(home.path), "--json", "audit", "verify"]
    runs = [usage_of(command, folder / "verified.json", what="audit verify") for _ in range(repeat)]
    report = read_json(folder / "verified.json")
    return {
        "repeats": repeat,
        "entries": report["num_entries"],
        "checkpoints": report["num_checkpoints"],
        "wall_s": round(median(usage["wall_s"] for usage in runs), 1),
        "processor_s": round(median(usage["processor_s"] for usage in runs), 1),
        "peak_memory_bytes": max(usage["peak_memory_bytes"] for usage in runs),
    }


def percentile(values: Sequence[float], share: float) -> float:
    """Returns the smallest value that at least this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _last_rows(home: Home, number: int) -> list[tuple[Any, ...]]:
    columns = [ledger_entries.c[name] for name in _ENTRY_COLUMNS]
    with home.database.read() as connection:
        query = select(*columns).where(ledger_entries.c.index >= ledger_size(connection) - number)
        return [tuple(row) for row in connection.execute(query.order_by(ledger_entries.c.index))]


def _peaks(home: Home) -> tuple[int, list[bytes]]:
    with home.database.read() as connection:
        size = ledger_size(connection)
        peaks = complete_subtrees(0, size)
        stored = StoredNodes(connection).read(peaks)
    return size, [stored[peak] for peak in peaks]


def _quoted(name: str) -> str:
    return f'"{name}"'


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 3)
