"""Runs a command and says what it took, as JSON: ``python -m benchmarks.process_usage OUTPUT ERRORS COMMAND...``.

A process of its own, because Linux counts the memory of whoever starts a process as that process's: it must be small.
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path


def main() -> None:
    """Runs the command with its output in files; prints its exit status, seconds, processor seconds and peak memory in bytes."""
    output, errors, *command = sys.argv[1:]
    with Path(output).open("wb") as out, Path(errors).open("wb") as err:
        began = time.perf_counter()
        ended = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, check=False)
        wall_s = time.perf_counter() - began
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        json.dumps(
            {
                "returncode": ended.returncode,
                "wall_s": wall_s,
                "processor_s": usage.ru_utime + usage.ru_stime,
                "peak_memory_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
            }
        )
    )


if __name__ == "__main__":
    main()
