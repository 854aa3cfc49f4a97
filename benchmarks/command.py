"""What every benchmark's command line does alike: one-line errors, the machine's name, documents written whole."""

import argparse
import hashlib
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from governance.errors import GovernanceError
from infra.errors import InfraError
from model_core.errors import BadDataError, ModelCoreError

EXIT_INTERRUPTED = 130


def run_command(body: Callable[[], None]) -> int:
    """Runs a benchmark; returns the exit code, and says on standard error in one line and a hint what was wrong."""
    try:
        body()
    except (ModelCoreError, GovernanceError, InfraError) as error:
        print(f"error: {error.diagnosis}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("error: interrupted\nhint: the same command goes on where it stopped", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def machine() -> dict[str, Any]:
    """Returns what a figure depends on besides the code."""
    import torch

    return {
        "processor": _processor(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    if facts.is_file():
        for line in facts.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def digest_of(values: Any) -> str:
    """Returns the SHA-256 of plain values as canonical JSON."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def write_json(path: Path, document: Any) -> None:
    """Writes a document under a temporary name and renames it, so that a kill leaves the one before or this one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(path)


def read_json(path: Path) -> Any:
    """Reads a document of an earlier call.

    Raises:
        BadDataError: It is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadDataError(f"{path} cannot be read: {error}", hint="remove it; it is made again") from error


def chosen(names: str, known: Mapping[str, Any], *, what: str) -> list[str]:
    """Returns the names of a list with commas, or all known ones for ``all``.

    Raises:
        BadDataError: A name is not known.
    """
    if names == "all":
        return list(known)
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    for name in wanted:
        if name not in known:
            raise BadDataError(f"there is no {what} {name!r}", hint=f"choose from {', '.join(known)}")
    if not wanted:
        raise BadDataError(f"no {what} was chosen", hint=f"choose from {', '.join(known)}")
    return wanted


def positive(value: str) -> int:
    """Reads a whole number of at least 1 from a command line."""
    number = int(value)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{value} is not at least 1")
    return number


def positive_seconds(value: str) -> float:
    """Reads a positive number of seconds from a command line."""
    number = float(value)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{value} is not a positive number")
    return number


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Returns rows as a Markdown table."""
    lines = [list(header), ["---"] * len(header), *([str(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
