"""Locks that end with their process, and progress that any process can read."""

import subprocess
import sys
from pathlib import Path

from infra.locking import is_locked, try_lock
from infra.progress import ProgressFile, read_progress


def test_a_lock_is_held_by_one_and_free_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "a"
    assert not is_locked(path)
    with try_lock(path) as first:
        assert first is not None
        assert is_locked(path)
        with try_lock(path) as second:
            assert second is None
    assert not is_locked(path)


def test_a_killed_process_holds_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = "import sys\nfrom pathlib import Path\nfrom infra.locking import try_lock\n"
    code += "with try_lock(Path(sys.argv[1])):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        assert is_locked(path)
        child.kill()
        child.wait()
        assert not is_locked(path)


def test_progress_is_written_at_most_five_times_a_second_and_always_at_the_end(tmp_path: Path) -> None:
    now = [100.0]
    progress = ProgressFile(tmp_path / "progress" / "step.json", clock=lambda: now[0])
    path = tmp_path / "progress" / "step.json"
    for done in range(1, 100):
        now[0] += 0.01
        progress.update(done, 100, "training", loss=1.0 / done)
    seen = read_progress(path)
    assert seen is not None
    assert 60 < seen.completed < 100
    progress.update(100, 100, "training")
    seen = read_progress(path)
    assert seen is not None
    assert (seen.completed, seen.status) == (100, "running")
    progress.end("completed", "done")
    seen = read_progress(path)
    assert seen is not None
    assert (seen.status, seen.summary, seen.started) == ("completed", "done", 100.0)


def test_before_the_first_word_there_is_no_progress(tmp_path: Path) -> None:
    assert read_progress(tmp_path / "step.json") is None
