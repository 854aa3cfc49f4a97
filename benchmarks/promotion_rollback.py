"""How long a rollback takes: ``python -m benchmarks.promotion_rollback --repeat 15 --megabytes 31``.

A home with two champions, whose packages are as large as those of the default model, is copied and rolled back each time: by the
command as a user types it, from the start of its process to its end, and by the function that it calls, which leaves out the
process, its imports, the signing of the ledger's head and the metrics. Both verify the package of the champion before.
"""

import argparse
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.command import machine, markdown_table, positive, run_command, write_json
from benchmarks.promotion_homes import ENGINES, Place, one_home, prepared
from infra.promotion.rollback import roll_back
from model_core.errors import BadDataError
from tests.infra.package_inputs import NAME

RESULTS = Path(__file__).parent / "results" / "promotion-rollback.json"
_FLOAT_BYTES = 4


def measure_engine(engine: str, repeat: int, megabytes: int, folder: Path) -> dict[str, Any]:
    """Returns the seconds of each way on one kind of database: median and longest."""
    width = math.isqrt(megabytes * 1_000_000 // _FLOAT_BYTES)
    with prepared(engine, folder, versions=2, width=width) as (template, server):
        world = template.world()
        world.promote(1)
        world.promote(2)
        world.db.close()
        fresh = one_home(engine, template, server, folder)
        found = {}
        for way, roll in (("command", _by_command), ("function", _by_function)):
            taken = [_timed(roll, fresh()) for _ in range(repeat + 1)][1:]  # the first reads files that no cache holds yet
            found[way] = {"median_s": round(statistics.median(taken), 4), "max_s": round(max(taken), 4)}
    return {"repeat": repeat, "megabytes": megabytes, **found}


def _timed(roll: Callable[[Place], float], place: Place) -> float:
    seconds = roll(place)
    world = place.world()
    try:
        if world.alias() != 1:
            raise BadDataError("the rollback did not bring version 1 back")
    finally:
        world.db.close()
    return seconds


def _by_command(place: Place) -> float:
    command = [sys.executable, "-m", "groundswell.cli.main", "--home", str(place.folder), "rollback", NAME, "--reason", "timed"]
    environment = {**os.environ, "GROUNDSWELL_DATABASE_URL": place.url}
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return time.perf_counter() - began


def _by_function(place: Place) -> float:
    world = place.world()
    began = time.perf_counter()
    roll_back(world.home, NAME, "production", actor=world.people["Omar"], reason="timed")
    seconds = time.perf_counter() - began
    world.db.close()
    return seconds


def parse(arguments: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.promotion_rollback", description=__doc__)
    parser.add_argument("--repeat", type=positive, default=15)
    parser.add_argument("--megabytes", type=positive, default=31, help="the size of each package's weights")
    parser.add_argument("--engine", choices=[*ENGINES, "both"], default="both")
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args(arguments)


def measure(options: argparse.Namespace) -> None:
    """Runs the benchmark."""
    found: dict[str, Any] = {}
    for engine in ENGINES if options.engine == "both" else [options.engine]:
        with tempfile.TemporaryDirectory(prefix="groundswell-rollback-") as folder:
            found[engine] = measure_engine(engine, options.repeat, options.megabytes, Path(folder))
    write_json(options.results, {"benchmark": "promotion-rollback", "machine": machine(), "engines": found})
    print(table(found))


def table(engines: dict[str, Any]) -> str:
    """Returns the results as Markdown."""
    header = ["database", "weights", "command, median / longest", "function, median / longest"]
    rows = [
        [
            ENGINES[engine],
            f"{one['megabytes']} MB",
            *(f"{one[way]['median_s']:.2f} / {one[way]['max_s']:.2f} s" for way in ("command", "function")),
        ]
        for engine, one in engines.items()
    ]
    return markdown_table(header, rows)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    return run_command(lambda: measure(options))


if __name__ == "__main__":
    raise SystemExit(main())
