"""The training pipeline on a team's servers against SQLite and a folder: ``python -m benchmarks.backends [--repeat N]``.

The same small work, from an empty home to a registered model, in turn on both. The servers (PostgreSQL, ``mlflow server``, an
S3 server) run on the same machine and share its cores, so the ratio is an upper bound of what a run pays that has them elsewhere.
The homes begin with MLflow's tables made on both, since making them is done once in a database's life.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks.step_overhead import SETTINGS
from infra.home import Home
from infra.mlflow_client import initialise_mlflow
from infra.settings import Settings
from tests.servers import postgres_server
from tests.servers_mlflow import serve_mlflow
from tests.servers_s3 import serve_s3


def run(home: Path, environment: Mapping[str, str]) -> tuple[float, str]:
    """Runs the pipeline; returns its seconds and the package's root digest."""
    flags = [word for setting in SETTINGS for word in ("-S", setting)]
    command = [sys.executable, "-m", "groundswell.cli.main", "--home", str(home), "--json"]
    full = {**os.environ, **environment}
    began = time.monotonic()
    ended = subprocess.run([*command, "run", "training", *flags], capture_output=True, text=True, check=False, env=full)
    seconds = time.monotonic() - began
    if ended.returncode != 0:
        raise SystemExit(ended.stderr)
    version = json.loads(ended.stdout)["model_version"]
    shown = subprocess.run([*command, "models", "show", version], capture_output=True, text=True, check=True, env=full)
    return seconds, str(json.loads(shown.stdout)["root_digest"])


def run_embedded(folder: Path) -> tuple[float, str]:
    """Runs it on SQLite and a folder."""
    home = Home.open(Settings.load(folder / "home"))
    initialise_mlflow(home.settings.mlflow_tracking_uri, home.settings.artifact_root)
    home.database.close()
    return run(folder / "home", {})


def main() -> None:
    """Measures and prints one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    embedded, served = [], []
    with tempfile.TemporaryDirectory() as name, postgres_server() as postgres, serve_s3(Path(name)) as s3:
        folder = Path(name)
        for repeat in range(options.repeat):
            embedded.append(run_embedded(folder / f"embedded-{repeat}"))
            url, bucket = postgres.create_database(), s3.make_bucket()
            with serve_mlflow(url, f"s3://{bucket}/mlflow", folder, environment=s3.environment()) as mlflow:
                environment = {
                    "GROUNDSWELL_DATABASE_URL": url,
                    "GROUNDSWELL_MLFLOW_URI": mlflow.url,
                    "GROUNDSWELL_ARTIFACT_ROOT": f"s3://{bucket}/groundswell",
                    **s3.environment(),
                }
                served.append(run(folder / f"served-{repeat}", environment))
    ratio = statistics.median(seconds for seconds, _ in served) / statistics.median(seconds for seconds, _ in embedded)
    document = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "repeats": options.repeat,
        "sqlite_and_folder_s": [round(seconds, 1) for seconds, _ in embedded],
        "postgresql_mlflow_s3_s": [round(seconds, 1) for seconds, _ in served],
        "ratio_of_medians": round(ratio, 2),
        "root_digests": sorted({digest for _, digest in [*embedded, *served]}),
    }
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
