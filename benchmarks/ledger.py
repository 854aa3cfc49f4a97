"""What the ledger costs: ``python -m benchmarks.ledger --entries 1000000``.

Builds a home in a temporary folder, on SQLite and on a PostgreSQL server of its own that syncs every commit, and measures
durable appends beside the same rows written to the bare database, inclusion proofs, and ``groundswell audit verify`` in a
process of its own. Writes ``benchmarks/results/ledger.json`` and prints one Markdown table.
"""

import argparse
import sqlite3
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.command import chosen, machine, markdown_table, positive, run_command, write_json
from benchmarks.ledger_measures import BATCH, fill, measure_appends, measure_proofs, measure_verification
from benchmarks.measured import RESULTS
from infra.home import Home
from infra.settings import Settings
from model_core.errors import BadDataError
from tests.servers import postgres_server

DATABASES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
_MEBIBYTE = 2**20


@contextmanager
def databases(kind: str, folder: Path) -> Iterator[tuple[list[str], str]]:
    """Yields the URLs of three empty databases, and the engine's version.

    Raises:
        BadDataError: PostgreSQL is not installed.
    """
    if kind == "sqlite":
        yield [f"sqlite:///{folder / name}.db" for name in ("ledger", "bare", "bare-single")], sqlite3.sqlite_version
        return
    try:
        with postgres_server() as server:
            server.stop()
            server.start(fsync="on", full_page_writes="on", shared_buffers="128MB")
            with server.connect() as connection:
                version = str(connection.info.server_version // 10_000)
            yield [server.create_database() for _ in range(3)], version
    except pytest.skip.Exception as error:
        raise BadDataError(str(error), hint="or measure SQLite alone: --database sqlite") from error


def measure(kind: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Measures one kind of database; returns plain values."""
    with databases(kind, folder) as ((url, bare, bare_single), version):
        path = folder / "home"
        path.mkdir()
        (path / "settings.toml").touch(mode=0o600)
        (path / "settings.toml").write_text(f"database_url = '{url}'\n", encoding="utf-8")
        home = Home.open(Settings.load(path))
        try:
            batches = min(options.turns, options.entries // BATCH)
            return {
                "version": version,
                "appends": _told(measure_appends(home, bare, batch=BATCH, turns=batches), f"{kind}: appends"),
                "filling": _told(fill(home, options.entries), f"{kind}: filling"),
                "single_appends": _told(
                    measure_appends(home, bare_single, batch=1, turns=options.turns), f"{kind}: single appends"
                ),
                "proofs": _told(measure_proofs(home, turns=options.turns), f"{kind}: proofs"),
                "verification": _told(measure_verification(home, folder, repeat=options.repeat), f"{kind}: audit verify"),
            }
        finally:
            home.database.close()


def table(document: Mapping[str, Any]) -> str:
    """Returns the figures as a Markdown table, a column a database."""
    found = document["databases"]
    rows = [
        ("durable appends, 100 entries a transaction", lambda d: f"{d['appends']['entries_per_s']:,}/s"),
        ("the same rows to the bare database", lambda d: f"{d['appends']['bare_entries_per_s']:,}/s"),
        ("time against the bare database", lambda d: f"{d['appends']['ratio']:.2f} times"),
        ("processor time of an entry, without the server's", lambda d: f"{d['appends']['processor_us_per_entry']:.0f} µs"),
        ("filling the whole ledger", lambda d: f"{d['filling']['entries_per_s'] or 0:,}/s"),
        ("one append a transaction, median", lambda d: f"{d['single_appends']['median_ms']:.2f} ms"),
        ("its 99th percentile", lambda d: f"{d['single_appends']['p99_ms']:.2f} ms"),
        ("the same of the bare database", lambda d: f"{d['single_appends']['bare_p99_ms']:.2f} ms"),
        ("entries in the ledger", lambda d: f"{d['verification']['entries']:,}"),
        ("hashes of an inclusion proof, at most", lambda d: d["proofs"]["most_hashes"]),
        ("making one", lambda d: f"{d['proofs']['make_ms']:.2f} ms"),
        ("verifying one", lambda d: f"{d['proofs']['verify_us']:.0f} µs"),
        ("`audit verify`", lambda d: f"{d['verification']['wall_s']:.1f} s"),
        ("its processor time", lambda d: f"{d['verification']['processor_s']:.1f} s"),
        ("its peak memory", lambda d: f"{d['verification']['peak_memory_bytes'] / _MEBIBYTE:.0f} MiB"),
    ]
    header = ["", *(f"{DATABASES[kind]} {result['version']}" for kind, result in found.items())]
    return markdown_table(header, [[name, *(cell(result) for result in found.values())] for name, cell in rows])


def parse(arguments: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ledger", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--entries", type=positive, default=1_000_000, help="entries of the ledger (%(default)s)")
    parser.add_argument("--database", default="all", help=f"a list of {', '.join(DATABASES)} with commas (%(default)s)")
    parser.add_argument("--turns", type=positive, default=500, help="appends and proofs that are measured (%(default)s)")
    parser.add_argument("--repeat", type=positive, default=3, help="how often audit verify runs (%(default)s)")
    parser.add_argument("--folder", type=Path, help="where the homes are made, and removed again; the disk that is measured")
    parser.add_argument("--json", type=Path, default=RESULTS / "ledger.json", help="where the figures go (%(default)s)")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> None:
    """Measures, writes the figures and prints the table."""
    kinds = chosen(options.database, DATABASES, what="database")
    found = {}
    for kind in kinds:
        with tempfile.TemporaryDirectory(prefix="groundswell-ledger-", dir=options.folder) as folder:
            found[kind] = measure(kind, Path(folder), options)
    document = {"machine": machine(), "entries": options.entries, "databases": found}
    write_json(options.json, document)
    print(table(document))


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    return run_command(lambda: run(options))


def _told(result: dict[str, Any], what: str) -> dict[str, Any]:
    """Says on standard error what was measured, since all of it takes minutes."""
    print(f"{what}: {', '.join(f'{name} {value}' for name, value in result.items())}", file=sys.stderr)
    return result


if __name__ == "__main__":
    raise SystemExit(main())
