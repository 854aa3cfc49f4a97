"""How busy the GPUs of this machine are, as nvidia-smi tells, beside the progress of the step that runs on them."""

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

_QUERY = "index,utilization.gpu,memory.used,memory.total"
_INTERVAL_S = 15.0
_TIMEOUT_S = 10.0
_MEBIBYTE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class GpuUsage:
    """One GPU.

    Attributes:
        gpu: Its index on the machine.
        utilization: Share of the last second in which it was busy, 0 to 1.
        memory_used_bytes: Memory that is taken, by whomever.
        memory_total_bytes: Its memory.
    """

    gpu: str
    utilization: float
    memory_used_bytes: int
    memory_total_bytes: int


def read_gpus() -> list[GpuUsage]:
    """Returns the GPUs of this machine; none where nvidia-smi is missing or does not answer."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [one for line in ended.stdout.splitlines() if (one := _parse(line)) is not None]


class GpuSampler:
    """Writes the usage to a file every quarter of a minute while a step runs; does nothing on a machine without nvidia-smi.

    Args:
        path: The file, replaced atomically.
        interval_s: How often.
    """

    def __init__(self, path: Path, *, interval_s: float = _INTERVAL_S) -> None:
        self._path = path
        self._interval_s = interval_s
        self._is_over = threading.Event()
        if shutil.which("nvidia-smi") is not None:
            threading.Thread(target=self._sample, name="gpu-usage", daemon=True).start()

    def stop(self) -> None:
        """Ends it; a sample that is being taken is let go."""
        self._is_over.set()

    def _sample(self) -> None:
        while not self._is_over.is_set():
            sampled = time.time()
            try:
                write_samples(self._path, read_gpus(), sampled=sampled)
            except OSError:  # a full disk is told by those whose files matter
                return
            self._is_over.wait(self._interval_s)


def usage_path(progress: Path) -> Path:
    """Returns the file beside a step's progress file."""
    return progress.with_suffix(".gpus")


def write_samples(path: Path, gpus: Sequence[GpuUsage], *, sampled: float) -> None:
    """Writes what `read_samples` reads.

    Args:
        path: The file, replaced atomically.
        gpus: The GPUs.
        sampled: When they were looked at, in seconds since the epoch.

    Raises:
        OSError: It cannot be written.
    """
    temporary = path.with_suffix(".gpus-partial")
    temporary.write_text(json.dumps({"sampled": sampled, "gpus": [asdict(one) for one in gpus]}), encoding="utf-8")
    os.replace(temporary, path)  # noqa: PTH105 - atomic on purpose


def read_samples(path: Path, *, newer_than: float) -> list[GpuUsage]:
    """Returns what was written last; nothing where there is no such file, or it is older than asked for.

    Args:
        path: The file.
        newer_than: Seconds since the epoch.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return [GpuUsage(**one) for one in document["gpus"]] if document["sampled"] >= newer_than else []
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _parse(line: str) -> GpuUsage | None:
    words = [word.strip() for word in line.split(",")]
    try:
        gpu, busy, used, total = words[0], float(words[1]), float(words[2]), float(words[3])
    except (IndexError, ValueError):  # "[N/A]" where a GPU does not say, such as one that is split
        return None
    return GpuUsage(
        gpu=gpu,
        utilization=busy / 100,
        memory_used_bytes=round(used * _MEBIBYTE),
        memory_total_bytes=round(total * _MEBIBYTE),
    )
