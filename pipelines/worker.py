"""The process in which Kubeflow Pipelines runs a pipeline on this machine: ``python -m pipelines.worker JOB.json``.

It is a process of its own so that what kfp does to logging and printing, and what a native library does when it dies,
stays out of the process that keeps the run's record.
"""

import json
import signal
import sys
from importlib import import_module
from pathlib import Path

from infra.processes import exit_with_parent


def main(job_path: str) -> None:
    """Runs the pipeline that a job file names.

    Args:
        job_path: JSON with ``pipeline``, ``home``, ``runner`` and ``arguments``.
    """
    exit_with_parent()
    # A shell starts background jobs with SIGINT ignored, and that is inherited; here and in the steps it has to work.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from kfp import local

    job = json.loads(Path(job_path).read_text(encoding="utf-8"))
    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=job["home"], raise_on_error=True)
    pipeline = getattr(import_module(f"pipelines.{job['pipeline']}"), job["pipeline"])
    pipeline(**job["arguments"])


if __name__ == "__main__":
    main(sys.argv[1])
