"""The command line, and the processes of a run, as the tests of whole runs call and kill them."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundswell.cli.main import main
from infra.processes import group_is_alive, signal_group
from infra.settings import child_environment
from model_core.training.checkpoint import CHECKPOINT_NAME

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 280


@dataclass(frozen=True)
class Called:
    """What a call of the command line left."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        """Standard output as the one JSON document that it has to be."""
        return json.loads(self.stdout)


def environment(**more: str) -> dict[str, str]:
    """Returns an environment in which only the arguments decide which home is used; tiny tensors want no threads."""
    kept = {name: value for name, value in child_environment().items() if not name.startswith("GROUNDSWELL_")}
    return {**kept, "OMP_NUM_THREADS": "1", **more}


def start(home: Path, *arguments: object, **more_environment: str) -> subprocess.Popen[str]:
    """Starts the command line in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "groundswell.cli.main", "--home", str(home), *map(str, arguments)],
        cwd=ROOT,
        env=environment(**more_environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_heed_interrupts,  # noqa: PLW1509 - one call, no lock
    )


def _heed_interrupts() -> None:
    """Undoes what a shell does to background jobs, which the tests may be part of: SIGINT is ignored there."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def finish(process: subprocess.Popen[str]) -> Called:
    """Waits for a command to end."""
    stdout, stderr = process.communicate(timeout=TIMEOUT_S)
    return Called(process.returncode, stdout, stderr)


def call(home: Path, *arguments: object, **more_environment: str) -> Called:
    """Calls the command line and waits for it."""
    ended = subprocess.run(
        [sys.executable, "-m", "groundswell.cli.main", "--home", str(home), *map(str, arguments)],
        cwd=ROOT,
        env=environment(**more_environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    return Called(ended.returncode, ended.stdout, ended.stderr)


def call_here(home: Path, *arguments: object) -> Called:
    """Calls the command line in this process, which has imported already what takes most of the time of small work."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with redirect_stdout(stdout), redirect_stderr(stderr):
        exit_code = main(["--home", str(home), *map(str, arguments)])
    return Called(exit_code, stdout.getvalue(), stderr.getvalue())


def run_training(home: Path, settings: Sequence[str], *options: str, **more_environment: str) -> Called:
    """Runs the training pipeline to its end."""
    return call(home, "--json", "run", "training", *options, *flags(settings), **more_environment)


def flags(settings: Sequence[str]) -> list[str]:
    """Returns settings as the command line takes them."""
    return [word for setting in settings for word in ("-S", setting)]


@contextmanager
def running(home: Path, settings: Sequence[str], *options: str, **more_environment: str) -> Iterator[subprocess.Popen[str]]:
    """Starts the training pipeline; whatever of it is still alive at the end is killed."""
    process = start(home, "--json", "run", "training", *options, *flags(settings), **more_environment)
    try:
        yield process
    finally:
        for group in {process.pid, *process_groups(home)}:
            signal_group(group, signal.SIGKILL)
        process.communicate()


def wait_for(look: Callable[[], Any], what: str, *, process: subprocess.Popen[str]) -> Any:
    """Looks until there is something to see; fails if the command ends first."""
    deadline = time.monotonic() + TIMEOUT_S
    while not (found := look()):
        if process.poll() is not None:
            raise AssertionError(f"the command ended before {what}: {process.communicate()}")
        if time.monotonic() > deadline:
            raise AssertionError(f"never saw {what}")
        time.sleep(0.005)
    return found


def checkpoints(home: Path) -> list[Path]:
    """Returns the checkpoints that training has written in a home and not yet done with."""
    return sorted(home.glob(f"work/*/scratch/{CHECKPOINT_NAME}"))


def processes_of(home: Path) -> dict[int, list[str]]:
    """Returns the processes that work for a home, wherever they hang in the tree of processes: their words, by id."""
    listed = subprocess.run(["ps", "-ww", "-eo", "pid=,args="], capture_output=True, text=True, check=True).stdout
    found = {}
    for line in listed.splitlines():
        number, *words = line.split()
        if str(home) in line and int(number) != os.getpid():
            found[int(number)] = words
    return found


def step_process(home: Path, step: str) -> int | None:
    """Returns the id of the Python process that runs a step for a home."""
    for number, words in processes_of(home).items():
        if "kfp.dsl.executor_main" in words and words[-1] == step and "python" in Path(words[0]).name:
            return number
    return None


def process_groups(home: Path) -> set[int]:
    """Returns the process groups that work for a home."""
    groups = set()
    for number in processes_of(home):
        try:
            groups.add(os.getpgid(number))
        except ProcessLookupError:
            continue
    return groups - {os.getpgid(0)}


def kill_everything(process: subprocess.Popen[str], home: Path) -> None:
    """Kills a command and all processes that work for its home, at once and without warning."""
    groups = {process.pid, *process_groups(home)}
    for group in groups:
        signal_group(group, signal.SIGKILL)
    process.communicate()
    while any(group_is_alive(group) for group in groups):
        time.sleep(0.01)


def wait_until_gone(home: Path, *, patience_s: float) -> None:
    """Waits until no process works for a home."""
    deadline = time.monotonic() + patience_s
    while left := processes_of(home):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def flip_byte(path: Path, offset: int = -20) -> None:
    """Changes one bit of a file; a second call changes it back."""
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(bytes(content))
