"""What a step costs beside its own work: ``python -m benchmarks.step_overhead [--runner docker] [--repeat N]``.

A small pipeline is run once; then again, when every step is reused and its own work is nothing. From one step's end to the next
one's passes: Kubeflow Pipelines between the steps, the start of a process or container, its imports, and the runtime with its
records and the verification of what is reused. The imports are measured by themselves, in a process or container of the same
kind, and taken off.
"""

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path

from components.images import image
from infra.container_engine import open_engine
from infra.home import Home
from infra.runs import get_steps
from infra.settings import Settings
from pipelines.graph import PIPELINES

SETTINGS = (
    "data.limit=64",
    "data.size=16",
    "train_dit.num_steps=5",
    "train_dit.hidden_size=16",
    "train_dit.depth=1",
    "train_dit.num_heads=2",
    "train_dit.warmup_steps=1",
    "train_dit.sampling_num_steps=2",
    "evaluate.num_samples=8",
    "evaluate.feature_size=32",
    "evaluate.num_resamples=100",
)
_IMPORTS = """
import os, time
ticks = int(open("/proc/self/stat").read().rpartition(")")[2].split()[19])
began = ticks / os.sysconf("SC_CLK_TCK")
import kfp.dsl.executor_main, components.kubeflow, components.{step}.config
print(time.clock_gettime(time.CLOCK_BOOTTIME) - began)
"""


def run(home: Path, runner: str) -> str:
    """Runs the pipeline and returns the run's id."""
    flags = [word for setting in SETTINGS for word in ("-S", setting)]
    command = [sys.executable, "-m", "groundswell.cli.main", "--home", str(home), "--json", "run", "training", "--runner", runner]
    ended = subprocess.run([*command, *flags], capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise SystemExit(ended.stderr)
    return str(json.loads(ended.stdout)["run_id"])


def slots(home: Home, run_id: str) -> dict[str, float]:
    """Returns the seconds from the end of the step before to the end of each step but the first."""
    with home.database.read() as connection:
        rows = {row.step: row for row in get_steps(connection, run_id)}
    ends = [(step, datetime.fromisoformat(rows[step].ended or "")) for step in PIPELINES["training"]]
    return {step: (end - before).total_seconds() for (_, before), (step, end) in itertools.pairwise(ends)}


def imports(step: str, runner: str) -> float:
    """Returns the seconds from the start of a step's process to the end of its imports."""
    script = _IMPORTS.format(step=step)
    if runner == "subprocess":
        environment = {**os.environ, "_KFP_RUNTIME": "true"}
        output = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment
        ).stdout
        return float(output)
    import docker

    with open_engine() as engine:
        client = docker.DockerClient(base_url=engine.address)
        output = client.containers.run(
            image(step), ["python3", "-c", script], remove=True, environment={"_KFP_RUNTIME": "true"}, network_mode="none"
        )
        client.close()
    return float(output)


def main() -> None:
    """Measures and prints one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runner", choices=["subprocess", "docker"], default="subprocess")
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        run(home, "subprocess")
        opened = Home.open(Settings.load(home))
        found = [slots(opened, run(home, options.runner)) for _ in range(options.repeat)]
        opened.database.close()
    steps = {}
    for step in PIPELINES["training"][1:]:
        slot_s = statistics.median(one[step] for one in found)
        imports_s = statistics.median(imports(step, options.runner) for _ in range(options.repeat))
        steps[step] = {"slot_s": round(slot_s, 2), "imports_s": round(imports_s, 2), "overhead_s": round(slot_s - imports_s, 2)}
    document = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "runner": options.runner,
        "repeats": options.repeat,
        "steps": steps,
        "median_overhead_s": round(statistics.median(step["overhead_s"] for step in steps.values()), 2),
    }
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
