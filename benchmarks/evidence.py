"""What an evidence bundle costs: ``python -m benchmarks.evidence HOME MODEL``.

Exports the bundle of a trained model again and again from a home, each time as the command line does, and verifies it three
ways: by a call, by ``groundswell bundle verify``, and by ``verify.py`` on its own. Each export is an entry of the home's ledger.
Writes ``benchmarks/results/evidence.json`` and prints a Markdown table.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.command import machine, markdown_table, positive, run_command, write_json
from benchmarks.measured import RESULTS
from governance.bundle import content
from governance.bundle.verify import read_bundle, verify_files
from governance.errors import IntegrityError
from infra.bundle import export_bundle
from infra.home import Home
from infra.identities import first_identity
from infra.keys import LOG_KEY
from infra.lineage_subjects import resolve_subject
from infra.settings import Settings
from model_core.errors import BadDataError

GOALS_S = {"export": 3.0, "verify": 1.0}


def measure(home: Home, name: str, *, repeat: int) -> dict[str, Any]:
    """Returns seconds of each way, and what is in the bundle.

    Args:
        home: The home.
        name: The model, as ``groundswell lineage`` takes it.
        repeat: How often each is done.

    Raises:
        IntegrityError: A bundle does not verify.
    """
    subject, actor = resolve_subject(home.database, name), first_identity(home.database)
    key = home.keys.public_path(LOG_KEY)
    with tempfile.TemporaryDirectory() as folder:
        bundle, verifier = Path(folder) / "evidence.zip", Path(folder) / "verify.py"
        verifier.write_bytes(content.verifier())
        exported = [export_bundle(home, subject, bundle, actor=actor)]  # libraries are imported by it, as a command would once
        groundswell = [sys.executable, "-m", "groundswell.cli.main"]
        times = {
            "export": _spent(lambda: exported.append(export_bundle(home, subject, bundle, actor=actor)), repeat),
            "export, the command": _spent(
                lambda: _run([*groundswell, "--home", home.path, "bundle", "export", name, "-o", bundle]), repeat
            ),
            "verify": _spent(lambda: _verify(bundle, key), repeat),
            "verify, the command": _spent(lambda: _run([*groundswell, "bundle", "verify", bundle, "--key", key]), repeat),
            "verify.py on its own": _spent(lambda: _run([sys.executable, "-I", verifier, bundle, "--key", key]), repeat),
        }
        return {
            "seconds": times,
            "size_bytes": bundle.stat().st_size,
            "num_files": len(exported[-1].names),
            "num_entries": exported[-1].num_entries,
            "log_size": exported[-1].log_size,
        }


def _spent(body: Callable[[], Any], repeat: int) -> dict[str, float]:
    """Returns the median and the longest of the seconds that something takes, and the median of its processor time."""
    wall, processor = [], []
    for _ in range(repeat):
        began, used = time.perf_counter(), _processor_s()
        body()
        wall.append(time.perf_counter() - began)
        processor.append(_processor_s() - used)
    return {"median": round(median(wall), 4), "slowest": round(max(wall), 4), "processor": round(median(processor), 4)}


def _processor_s() -> float:
    """Returns the processor time of this process and of those that it has waited for."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in spent)


def _verify(bundle: Path, key: Path) -> None:
    if problems := verify_files(read_bundle(bundle), key.read_bytes()).problems:
        raise IntegrityError(f"the bundle does not verify: {problems[0]}")


def _run(command: list[Any]) -> None:
    ended = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise IntegrityError(f"{command[-1]} ended with {ended.returncode}: {ended.stderr.strip():.200}")


def table(document: Mapping[str, Any]) -> str:
    """Returns the figures as a Markdown table."""
    rows = [
        [
            what,
            f"{GOALS_S[what.partition(',')[0]]:.0f} s" if what.partition(",")[0] in GOALS_S else "",
            f"{one['median']:.2f} s",
            f"{one['processor']:.2f} s",
        ]
        for what, one in document["seconds"].items()
    ]
    return markdown_table(["", "goal", "median", "processor time"], rows)


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description="What an evidence bundle costs.")
    parser.add_argument("home", type=Path, help="a home with a trained model; each export is an entry of its ledger")
    parser.add_argument("model", help="name/version")
    parser.add_argument("--repeat", type=positive, default=10)
    parser.add_argument("--note", default="", help="what else the reader should know")
    parser.add_argument("--json", type=Path, default=RESULTS / "evidence.json")
    options = parser.parse_args()

    def body() -> None:
        if not options.home.is_dir():
            raise BadDataError(f"{options.home} is no home", hint="`groundswell run training` makes one")
        home = Home.open(Settings.load(options.home), create=False)
        try:
            document = {"machine": machine(), "note": options.note, **measure(home, options.model, repeat=options.repeat)}
        finally:
            home.database.close()
        write_json(options.json, document)
        print(table(document))

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
