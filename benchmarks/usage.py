"""What a command takes, run in a process of its own."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from model_core.errors import BadDataError


def usage_of(command: Sequence[str], output: Path, *, what: str) -> dict[str, Any]:
    """Runs a command and returns what `benchmarks.process_usage` says of it.

    Args:
        command: What is run.
        output: Where its standard output goes; what it says on standard error goes beside it.
        what: What to call it in an error.

    Raises:
        BadDataError: It failed.
    """
    errors = output.with_name(f"{output.name}.errors")
    watch = [sys.executable, "-m", "benchmarks.process_usage", str(output), str(errors), *command]
    usage: dict[str, Any] = json.loads(subprocess.run(watch, capture_output=True, check=True).stdout)
    if usage["returncode"] != 0:
        said = errors.read_text(encoding="utf-8").strip().splitlines() or ["nothing"]
        raise BadDataError(f"{what} ended with {usage['returncode']}", hint=f"it said: {said[-1][:200]}")
    return usage
