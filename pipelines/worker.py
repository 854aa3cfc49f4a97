"""The process in which Kubeflow Pipelines runs a pipeline on this machine: ``python -m pipelines.worker JOB.json``.

It is a process of its own so that what kfp does to logging and printing, and what a native library does when it dies,
stays out of the process that keeps the run's record.
"""

import json
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infra.processes import exit_with_parent
from infra.settings import Settings
from pipelines.graph import asks_for_parts, load_pipeline
from pipelines.runners import container_options
from pipelines.shaping import traced


def main(job_path: str) -> None:
    """Runs the pipeline that a job file names.

    Args:
        job_path: JSON with ``pipeline``, ``home``, ``arguments``, and what `pipelines.runners.Runner.job` holds.
    """
    exit_with_parent()
    # A shell starts background jobs with SIGINT ignored, and that is inherited; here and in the steps it has to work.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from kfp import local

    job = json.loads(Path(job_path).read_text(encoding="utf-8"))
    local.init(runner=_runner(job), pipeline_root=job["home"], raise_on_error=True)
    traced(load_pipeline(job["pipeline"]), in_parts=asks_for_parts(json.loads(job["arguments"]["params"])))(**job["arguments"])


def _runner(job: Mapping[str, Any]) -> Any:
    from kfp import local

    if job["runner"] == "subprocess":
        return local.SubprocessRunner(use_venv=False)
    settings = Settings.load(Path(job["home"]))
    return local.DockerRunner(**container_options(job, settings))


if __name__ == "__main__":
    main(sys.argv[1])
