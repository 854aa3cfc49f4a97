"""Lineage queries in a large store: ``python -m benchmarks.lineage [--events 1000000] [--repeat 20]``.

A store is written in bulk into a temporary folder, on SQLite: training runs of five steps over fifty datasets and ten codecs, and
four runs a model that made eight pictures each. Then each question is asked of different subjects in turn, by the functions that
the command line calls, each time on a connection of the pool; medians are told, and the slowest. What a report adds to them, the
verification of the whole ledger, is no question of lineage and not in it: the store has no ledger entries.
"""

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from benchmarks.command import machine, markdown_table, positive, run_command, write_json
from benchmarks.lineage_store import GENERATIONS, MEDIA, NUM_DATASETS, digest, run_id, write_store
from infra.database import Database
from infra.lineage import downstream, upstream, upstream_of_each
from infra.lineage_diff import diff_lineage
from infra.lineage_graph import read_graph
from infra.lineage_records import read_records
from infra.model_versions import find_version

RESULTS = Path(__file__).parent / "results" / "lineage.json"
_DATASETS_ASKED = 3


def questions(database: Database, num_models: int, chance: random.Random) -> dict[str, Callable[[], int]]:
    """Returns what is asked, by name: each call asks of another subject and returns how many things it found."""

    def a_model() -> int:
        return chance.randrange(num_models)

    def a_picture() -> str:
        return f"media:{digest('media', a_model(), chance.randrange(GENERATIONS), chance.randrange(MEDIA))}"

    def read(ask: Callable[[Connection], int]) -> int:
        with database.read() as connection:
            return ask(connection)

    def whole(subject: str) -> Callable[[Connection], int]:
        def ask(connection: Connection) -> int:
            node = "" if subject.startswith("run:") else subject
            graph, _ = read_graph(connection, subject, node)
            read_records(connection, graph)
            return len(graph.nodes)

        return ask

    def package() -> str:
        return f"package:{digest('package', a_model())}"

    def differ() -> int:
        first, second = (find_version(database, f"m/{a_model() + 1}") for _ in range(2))
        return len(diff_lineage(database, first, second, datasets=Path("/nowhere")).sections["parameters"])

    return {
        "upstream of a picture": lambda: read(lambda c: len(upstream(c, a_picture()).nodes)),
        "upstream of a model": lambda: read(lambda c: len(upstream(c, package()).nodes)),
        "downstream of a model": lambda: read(lambda c: len(downstream(c, package()).nodes)),
        "upstream of two models, for a diff": lambda: read(
            lambda c: sum(len(graph.nodes) for graph in upstream_of_each(c, [package(), package()]))
        ),
        "all of a picture's report but the ledger": lambda: read(whole(a_picture())),
        "all of a model's report but the ledger": lambda: read(whole(package())),
        "all of a run's report but the ledger": lambda: read(whole(f"run:{run_id(a_model())}")),
        "diff of two models": differ,
        "downstream of a dataset": lambda: read(
            lambda c: len(downstream(c, f"dataset:{digest('dataset', chance.randrange(NUM_DATASETS))}").nodes)
        ),
    }


def measure(ask: Callable[[], int], repeat: int) -> dict[str, Any]:
    """Asks once to warm up and then so many times; returns milliseconds and how much was found."""
    ask()
    seconds, found = [], []
    for _ in range(repeat):
        began = time.perf_counter()
        found.append(ask())
        seconds.append(time.perf_counter() - began)
    return {
        "median_ms": round(1000 * statistics.median(seconds), 2),
        "slowest_ms": round(1000 * max(seconds), 2),
        "found": int(statistics.median(found)),
        "repeats": repeat,
    }


def run(options: argparse.Namespace) -> None:
    """Writes the store, asks, writes the document and prints the table."""
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "groundswell.db"
        began = time.monotonic()
        num_models = write_store(path, options.events)
        written_s = time.monotonic() - began
        with Database.open(f"sqlite:///{path}") as database:
            with database.read() as connection:
                counts = {
                    table: connection.exec_driver_sql(f"SELECT count(*) FROM gs_{table}").scalar_one()  # noqa: S608  # constants
                    for table in ("lineage_events", "lineage_edges", "artifacts", "model_versions")
                }
            chance = random.Random(0)  # noqa: S311  # which subjects are asked for
            asked = questions(database, num_models, chance)
            found = {
                name: measure(ask, _DATASETS_ASKED if name == "downstream of a dataset" else options.repeat)
                for name, ask in asked.items()
            }
        size_bytes = path.stat().st_size
    document = {
        "machine": machine(),
        "note": options.note,
        "counts": counts,
        "size_bytes": size_bytes,
        "written_s": round(written_s, 1),
        "questions": found,
    }
    write_json(options.json, document)
    rows = [(name, one["found"], one["median_ms"], one["slowest_ms"]) for name, one in found.items()]
    print(f"{counts['lineage_events']:,} events, {counts['lineage_edges']:,} edges, {size_bytes / 1e9:.1f} GB\n")
    print(markdown_table(("question", "things found", "median, ms", "slowest, ms"), rows))


def main() -> int:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=positive, default=1_000_000)
    parser.add_argument("--repeat", type=positive, default=20)
    parser.add_argument("--folder", type=Path, default=None, help="where the temporary folder is made")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the document goes")
    parser.add_argument("--note", default="", help="what else is to be known of the machine, such as that it was busy")
    options = parser.parse_args()
    return run_command(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
