"""Runs that are killed or interrupted, and the same command afterwards."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.home import Home
from infra.ledger import iter_entries
from infra.ledger_verification import verify_ledger
from infra.model_versions import find_version
from infra.run_records import end_dead_runs
from infra.runs import StepRow, get_run, get_steps, list_runs
from infra.settings import Settings
from tests.pipelines.calling import (
    Called,
    call,
    checkpoints,
    finish,
    kill_everything,
    run_training,
    running,
    step_process,
    wait_for,
    wait_until_gone,
)
from tests.pipelines.conftest import Trained

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def open_home(folder: Path) -> Home:
    return Home.open(Settings.load(folder), create=False)


def steps_of(home: Home, run_id: str) -> dict[str, StepRow]:
    with home.database.read() as connection:
        return {step.step: step for step in get_steps(connection, run_id)}


def assert_ledger_verifies(home: Home) -> None:
    assert verify_ledger(home.database, home.keys.log_public_key()).problems == ()


@dataclass(frozen=True)
class Resumed:
    """A run whose training process was killed, the same command again, and a third one that was started meanwhile."""

    home: Home
    killed: Called
    resumed: Called
    meanwhile: Called


@pytest.fixture(scope="module")
def resumed(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Resumed:
    """Training and what follows it are done anew in a copy of the home, and killed at training's first checkpoint."""
    folder = trained.copy(tmp_path_factory.mktemp("resumed") / "home", without=("train_dit", "evaluate", "register_model"))
    with running(folder, trained.settings) as process:
        step = wait_for(lambda: step_process(folder, "train_dit"), "training", process=process)
        wait_for(lambda: checkpoints(folder), "a checkpoint", process=process)
        os.kill(step, signal.SIGKILL)
        killed = finish(process)
    with running(folder, trained.settings) as process:
        wait_for(lambda: step_process(folder, "train_dit"), "training", process=process)
        meanwhile = run_training(folder, trained.settings)
        again = finish(process)
    return Resumed(open_home(folder), killed, again, meanwhile)


def test_a_killed_step_fails_its_run_with_one_line(resumed: Resumed) -> None:
    document = resumed.killed.document
    assert (resumed.killed.exit_code, document["status"]) == (1, "failed")
    assert "train_dit" in document["error"]
    assert "killed" in document["error"]
    assert "Traceback" not in resumed.killed.stderr
    steps = steps_of(resumed.home, document["run_id"])
    assert {name: step.status for name, step in steps.items()} == {
        "validate_data": "reused",
        "encode_latents": "reused",
        "train_dit": "failed",
    }
    found = [entry.action for entry in iter_entries(resumed.home.database) if entry.run_id == document["run_id"]]
    assert found[-2:] == ["step.failed", "run.failed"]


def test_the_same_command_resumes_training_to_the_same_model(resumed: Resumed, trained: Trained) -> None:
    document = resumed.resumed.document
    assert (resumed.resumed.exit_code, document["status"]) == (0, "completed")
    steps = steps_of(resumed.home, document["run_id"])
    assert [step.status for step in steps.values()] == ["reused", "reused", "completed", "completed", "completed"]
    resumed_from = steps["train_dit"].record["facts"]["resumed_from"]
    assert 20 <= resumed_from < 400
    assert resumed_from % 20 == 0
    uninterrupted = steps_of(trained.home, trained.run_id)
    for name in ("train_dit", "register_model"):
        for output, reference in steps[name].record["outputs"].items():
            assert reference["digest"] == uninterrupted[name].record["outputs"][output]["digest"]
    assert document["metrics"] == trained.document["metrics"]
    # The package is the one that was registered before, so it keeps its version.
    assert document["model_version"] == trained.document["model_version"]
    assert (
        find_version(resumed.home.database, document["model_version"]).root_digest
        == (steps["register_model"].record["outputs"]["package"]["digest"])
    )


def test_a_second_run_in_the_same_home_is_turned_away_and_the_first_unharmed(resumed: Resumed) -> None:
    assert resumed.meanwhile.exit_code == 6
    assert resumed.meanwhile.stderr.count("\n") == 2  # an error and a hint
    assert "another pipeline is running" in resumed.meanwhile.stderr
    assert resumed.resumed.exit_code == 0
    with resumed.home.database.read() as connection:
        assert len(list_runs(connection, 10)) == 3  # the template run, the killed one, the resumed one


def test_the_ledger_verifies_after_all_that(resumed: Resumed) -> None:
    assert_ledger_verifies(resumed.home)
    assert call(resumed.home.path, "audit", "verify").exit_code == 0


def test_a_run_of_which_nothing_is_left_alive_is_recorded_by_the_next(copied: Callable[..., Path], trained: Trained) -> None:
    folder = copied(without=("train_dit",))
    with running(folder, trained.settings) as process:
        wait_for(lambda: checkpoints(folder), "a checkpoint", process=process)
        kill_everything(process, folder)
    assert list(folder.glob("groundswell-training-*"))  # what kfp left
    home = open_home(folder)
    with home.database.read() as connection:
        killed = next(run for run in list_runs(connection, 10) if run.run_id != trained.run_id)
    assert killed.status == "running"  # there was nobody to say otherwise
    called = run_training(folder, trained.settings)
    assert called.exit_code == 0, called.stderr
    assert not list(folder.glob("groundswell-training-*"))
    with home.database.read() as connection:
        assert get_run(connection, killed.run_id).status == "failed"
    assert steps_of(home, killed.run_id)["train_dit"].status == "failed"
    train = steps_of(home, called.document["run_id"])["train_dit"]
    assert train.record["facts"]["resumed_from"] >= 20
    assert (
        train.record["outputs"]["model"]["digest"]
        == (steps_of(trained.home, trained.run_id)["train_dit"].record["outputs"]["model"]["digest"])
    )
    assert_ledger_verifies(home)


def test_an_interrupted_run_is_recorded_and_keeps_its_checkpoint(copied: Callable[..., Path], trained: Trained) -> None:
    folder = copied(without=("train_dit",))
    with running(folder, [*trained.settings, "train_dit.num_steps=20000"]) as process:
        wait_for(lambda: checkpoints(folder), "a checkpoint", process=process)
        process.send_signal(signal.SIGINT)
        called = finish(process)
    assert called.exit_code == 130
    assert "interrupted" in called.stderr
    assert "Traceback" not in called.stderr
    home = open_home(folder)
    with home.database.read() as connection:
        run = next(run for run in list_runs(connection, 10) if run.run_id != trained.run_id)
    assert run.status == "interrupted"
    assert steps_of(home, run.run_id)["train_dit"].status == "interrupted"
    found = [entry.action for entry in iter_entries(home.database) if entry.run_id == run.run_id]
    assert found[-2:] == ["step.interrupted", "run.interrupted"]
    assert checkpoints(folder)  # the next run resumes from it
    assert_ledger_verifies(home)


def test_when_the_command_is_killed_its_steps_stop_too(copied: Callable[..., Path], trained: Trained) -> None:
    folder = copied(without=("train_dit",))
    settings = [*trained.settings, "train_dit.num_steps=20000"]
    with running(folder, settings) as process:
        wait_for(lambda: checkpoints(folder), "a checkpoint", process=process)
        step = step_process(folder, "train_dit")
        assert step is not None
        process.kill()
        process.communicate()
        wait_until_gone(folder, patience_s=60)
    home = open_home(folder)
    assert len(end_dead_runs(home)) == 1
    with home.database.read() as connection:
        assert [run.status for run in list_runs(connection, 10)] == ["failed", "completed"]
    assert checkpoints(folder)  # the next run resumes from it
    assert_ledger_verifies(home)
