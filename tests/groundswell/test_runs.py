import json
from typing import Any

import pytest

from infra.home import Home
from infra.locking import try_lock
from infra.progress import ProgressFile
from infra.run_records import begin_run, end_run, lock_path
from infra.runs import StepError
from infra.tables import steps
from tests.groundswell.conftest import Cli

FIRST = "11111111-0000-4000-8000-000000000000"
SECOND = "22222222-0000-4000-8000-000000000000"


def record_run(home: Home, run_id: str, *, rate: float, kid: float, error: StepError | None = None) -> None:
    params: dict[str, Any] = {"train_dit": {"learning_rate": rate, "depth": 4}}
    begin_run(home, run_id=run_id, pipeline="training", runner="subprocess", params=params, actor="system")
    record = {
        "metrics": {"kid": kid, "kid_low": kid / 2, "kid_high": kid * 2},
        "summary": "one line",
        "inputs": {"latents": {"digest": "a" * 64, "kind": "latents"}},
        "outputs": {"model": {"digest": run_id[0] * 64, "kind": "model"}},
    }
    with home.database.unit_of_work() as uow:
        uow.connection.execute(
            steps.insert().values(
                run_id=run_id,
                step="train_dit",
                status="completed",
                fingerprint="f" * 64,
                started=uow.time,
                ended=uow.time,
                work_s=3.0,
                record=json.dumps(record),
            )
        )
    end_run(home, run_id=run_id, status="failed" if error else "completed", error=error, wall_s=1.5)


@pytest.fixture
def two_runs(home: Home) -> Home:
    record_run(home, FIRST, rate=0.001, kid=0.5)
    record_run(home, SECOND, rate=0.002, kid=0.25, error=StepError(diagnosis="it broke", hint="mend it", exit_code=4))
    return home


def test_a_new_home_has_no_runs(cli: Cli, home: Home) -> None:
    assert "no runs yet" in cli("--home", home.path, "runs", "list").stdout
    assert cli("--home", home.path, "--json", "runs", "list").document == {"runs": []}


def test_runs_are_listed_newest_first(cli: Cli, two_runs: Home) -> None:
    lines = cli("--home", two_runs.path, "runs", "list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["RUN", "22222222", "11111111"]
    assert "it broke" in lines[1]
    document = cli("--home", two_runs.path, "--json", "runs", "list", "-n", 1).document
    assert [run["run_id"] for run in document["runs"]] == [SECOND]


def test_a_run_is_shown_by_a_prefix_of_its_id(cli: Cli, two_runs: Home) -> None:
    shown = cli("--home", two_runs.path, "runs", "show", "111111").stdout
    assert FIRST in shown
    assert "0.25 to 1" in shown
    assert "train_dit.learning_rate" in shown
    document = cli("--home", two_runs.path, "--json", "runs", "show", FIRST).document
    assert document["metrics"]["kid"] == 0.5
    assert document["steps"][0]["name"] == "train_dit"


@pytest.mark.parametrize("name", ["333333", "11", "nonsense"])
def test_an_unknown_run_is_bad_input(cli: Cli, two_runs: Home, name: str) -> None:
    called = cli("--home", two_runs.path, "runs", "show", name)
    assert called.exit_code == 3
    assert "hint: `groundswell runs list`" in called.stderr


def test_runs_are_compared_side_by_side(cli: Cli, two_runs: Home) -> None:
    table = cli("--home", two_runs.path, "runs", "compare", FIRST, SECOND).stdout
    assert "-0.25" in table
    assert "train_dit.learning_rate" in table
    assert "train_dit.depth" not in table
    assert "train_dit.depth" in cli("--home", two_runs.path, "runs", "compare", FIRST, SECOND, "--all").stdout
    document = cli("--home", two_runs.path, "--json", "runs", "compare", FIRST, SECOND).document
    assert document["artifacts"]["latents"] == {"11111111": "a" * 64, "22222222": "a" * 64}


def test_watching_an_ended_run_tells_how_it_ended(cli: Cli, two_runs: Home) -> None:
    assert cli("--home", two_runs.path, "runs", "watch", FIRST).exit_code == 0
    failed = cli("--home", two_runs.path, "--json", "runs", "watch", SECOND)
    assert failed.exit_code == 4
    assert failed.document["status"] == "failed"
    assert failed.stderr.splitlines()[-2:] == ["error: it broke", "hint: mend it"]


def test_without_a_running_run_there_is_nothing_to_watch(cli: Cli, two_runs: Home) -> None:
    called = cli("--home", two_runs.path, "runs", "watch")
    assert called.exit_code == 3
    assert called.stderr.startswith("error: no run is running")


def test_a_running_run_is_watched_until_its_process_is_gone(cli: Cli, home: Home) -> None:
    begin_run(home, run_id=FIRST, pipeline="training", runner="subprocess", params={}, actor="system")
    ProgressFile(home.run_folder(FIRST) / "progress" / "train_dit.json").update(3, 10, "training", loss=0.5)
    assert "its process is gone" in cli("--home", home.path, "runs", "list").stdout
    gone = cli("--home", home.path, "runs", "watch", FIRST)
    assert gone.exit_code == 1
    assert "train_dit: started" in gone.stderr
    assert "is gone" in gone.stderr
    with try_lock(lock_path(home, FIRST)):
        assert "its process is gone" not in cli("--home", home.path, "runs", "list").stdout
