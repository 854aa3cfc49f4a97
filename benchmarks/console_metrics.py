"""What a scrape costs: ``python -m benchmarks.console_metrics --runs 10000 --entries 1000000``.

Builds a home in a temporary folder, with runs, their steps and a ledger whose entries are appended as in any home, starts
``groundswell console`` on it in a process of its own, and asks it for ``/metrics``: the first time, when all that it keeps is
still to be counted, and again and again. Writes ``benchmarks/results/console-metrics.json`` and prints one Markdown table.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

from sqlalchemy import insert

from benchmarks.command import machine, markdown_table, positive, run_command, write_json
from benchmarks.measured import RESULTS
from governance.canonical import canonical_text
from governance.ledger import format_time
from infra.home import Home
from infra.ledger import ledger_size, sign_checkpoint
from infra.settings import Settings
from infra.tables import runs, steps

BATCH = 200
"""Runs of one unit of work."""

_ENTRIES_BATCH = 5000
_STEPS = ("validate_data", "encode_latents", "train_dit", "evaluate", "register_model")
_PIPELINES = ("training", "codec", "generation")
_STATES = ("completed", "completed", "completed", "failed", "interrupted")
_START_TIMEOUT_S = 60.0


def build(home: Home, *, num_runs: int, num_entries: int) -> None:
    """Fills a home with runs, their steps and entries, and then with entries about pictures."""
    done = 0
    while done < num_runs:
        number = min(BATCH, num_runs - done)
        _add_runs(home, first=done, number=number)
        done += number
    with home.database.read() as connection:
        size = ledger_size(connection)
    while size < num_entries:
        number = min(_ENTRIES_BATCH, num_entries - size)
        with home.database.unit_of_work() as uow:
            for position in range(number):
                digest = hashlib.sha256(os.urandom(32)).hexdigest()
                details = {"file_name": f"{position}.png", "model": "benchmark/1", "position": position, "seed": "7919"}
                uow.append("asset.generated", f"media:{digest}", details, run_id=str(uuid.UUID(int=position)))
        size += number
    sign_checkpoint(home.database, home.keys)


def _add_runs(home: Home, *, first: int, number: int) -> None:
    run_rows, step_rows = [], []
    with home.database.unit_of_work() as uow:
        for place in range(first, first + number):
            run_id, pipeline, state = str(uuid.uuid4()), _PIPELINES[place % 3], _STATES[place % 5]
            ended = format_time(home.database.now() + timedelta(seconds=place % 4000))
            params = canonical_text({"train_dit": {"learning_rate": "0.0003", "notes": "x" * 1200}, "place": place})
            values = {"run_id": run_id, "pipeline": pipeline, "status": state, "runner": "subprocess", "actor": "id-0"}
            run_rows.append({**values, "params": params, "started": uow.time, "ended": ended, "pid": 1, "host": "benchmark"})
            uow.append("run.started", f"run:{run_id}", {"pipeline": pipeline}, run_id=run_id)
            for name in _STEPS:
                fingerprint = hashlib.sha256(f"{run_id}{name}".encode()).hexdigest()
                record = canonical_text({"config": {"text": "y" * 2000}, "metrics": {"loss": 0.25, "kid": 0.03}}, floats=True)
                row = {"run_id": run_id, "step": name, "status": "completed", "fingerprint": fingerprint, "work_s": 12.5}
                step_rows.append({**row, "started": uow.time, "ended": ended, "record": record})
                uow.append("step.started", f"step:{run_id}/{name}", {"fingerprint": fingerprint}, run_id=run_id)
                uow.append("step.completed", f"step:{run_id}/{name}", {"fingerprint": fingerprint}, run_id=run_id)
            uow.append(f"run.{state}", f"run:{run_id}", {"ended": ended}, run_id=run_id)
        uow.connection.execute(insert(runs), run_rows)
        uow.connection.execute(insert(steps), step_rows)


def measure(home: Path, *, turns: int) -> dict[str, Any]:
    """Asks a console in a process of its own; returns milliseconds."""
    command = [sys.executable, "-m", "groundswell.cli.main", "--home", str(home), "--json", "console", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as console:
        try:
            assert console.stdout is not None
            url = json.loads(_document(console.stdout))["url"]
            _wait(f"{url}/healthz")
            first, size = _ask(f"{url}/metrics")
            took = sorted(_ask(f"{url}/metrics")[0] for _ in range(turns))
        finally:
            console.terminate()
    return {
        "turns": turns,
        "first_ms": round(first, 1),
        "median_ms": round(median(took), 1),
        "p95_ms": round(took[max(0, round(0.95 * len(took)) - 1)], 1),
        "most_ms": round(took[-1], 1),
        "answer_bytes": size,
    }


def _document(stream: Any) -> str:
    text = ""
    for line in stream:
        text += line
        if line.startswith("}"):
            break
    return text


def _wait(url: str) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while True:
        try:
            _ask(url)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def _ask(url: str) -> tuple[float, int]:
    began = time.perf_counter()
    with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 - our own
        size = len(answer.read())
    return 1000 * (time.perf_counter() - began), size


def table(document: Mapping[str, Any]) -> str:
    """Returns the figures as a Markdown table."""
    found = document["scrapes"]
    rows = [
        ("runs", f"{document['runs']:,}"),
        ("entries of the ledger", f"{document['entries']:,}"),
        ("the first scrape of a console", f"{found['first_ms']:.0f} ms"),
        ("a scrape, median", f"{found['median_ms']:.0f} ms"),
        ("its 95th percentile", f"{found['p95_ms']:.0f} ms"),
    ]
    return markdown_table(["", "SQLite"], [list(row) for row in rows])


def parse(arguments: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.console_metrics", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=positive, default=10_000, help="runs of the home (%(default)s)")
    parser.add_argument("--entries", type=positive, default=1_000_000, help="entries of its ledger (%(default)s)")
    parser.add_argument("--turns", type=positive, default=50, help="scrapes that are measured (%(default)s)")
    parser.add_argument("--folder", type=Path, help="where the home is made, and removed again")
    parser.add_argument("--json", type=Path, default=RESULTS / "console-metrics.json", help="where the figures go (%(default)s)")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> None:
    """Measures, writes the figures and prints the table."""
    with tempfile.TemporaryDirectory(prefix="groundswell-console-", dir=options.folder) as folder:
        home = Home.open(Settings.load(Path(folder) / "home"))
        try:
            build(home, num_runs=options.runs, num_entries=options.entries)
            with home.database.read() as connection:
                size = ledger_size(connection)
        finally:
            home.database.close()
        scrapes = measure(home.path, turns=options.turns)
    document = {"machine": machine(), "runs": options.runs, "entries": size, "scrapes": scrapes}
    write_json(options.json, document)
    print(table(document))


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    return run_command(lambda: run(options))


if __name__ == "__main__":
    raise SystemExit(main())
