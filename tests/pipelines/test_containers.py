"""The training pipeline in containers, by the engine that is here."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from components.images import image
from infra.container_engine import CODE_LABEL, open_engine
from infra.errors import BackendUnavailableError
from infra.home import Home
from infra.images.code import code_digest
from infra.ledger_verification import verify_ledger
from infra.runs import StepRow, get_steps
from infra.settings import Settings
from pipelines.graph import PIPELINES
from pipelines.runners import HOME_LABEL
from tests.engines import require_running_containers
from tests.pipelines.calling import Called, checkpoints, finish, kill_everything, run_training, running, wait_for
from tests.pipelines.conftest import Trained, copy_home

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
IN_CONTAINERS = ("--runner", "docker")
TRAINING = PIPELINES["training"]


@pytest.fixture(scope="module", autouse=True)
def _images() -> None:
    try:
        with open_engine() as engine:
            found = [engine.find_image(image(step)) for step in TRAINING]
    except BackendUnavailableError as error:
        pytest.skip(f"{error.diagnosis}: apt-get install podman buildah runc, then make images")
    if any(one.labels.get(CODE_LABEL) != code_digest() for one in found):
        pytest.skip("the images were built from other code: make images")
    require_running_containers("podman" if shutil.which("podman") else "docker")


def steps_of(home: Home, run_id: str) -> dict[str, StepRow]:
    with home.database.read() as connection:
        return {step.step: step for step in get_steps(connection, run_id)}


def open_home(folder: Path) -> Home:
    return Home.open(Settings.load(folder))


def containers_of(home: Path) -> list[str]:
    """The containers that run for a home, as the engine's own client lists them."""
    client = "podman" if shutil.which("podman") else "docker"
    command = [client, "ps", "--quiet", "--filter", f"label={HOME_LABEL}={home}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def wait_until_no_container(home: Path, *, patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while left := containers_of(home):
        assert time.monotonic() < deadline, left
        time.sleep(0.2)


def services_of(pid: int) -> list[str]:
    """The engine's services that a command has started for itself."""
    listed = subprocess.run(["ps", "--ppid", str(pid), "-o", "pid=,args="], capture_output=True, text=True, check=False).stdout
    return [line.split()[0] for line in listed.splitlines() if "system service" in line]


def copy_without(contained: tuple[Home, Called], folder: Path, *steps: str) -> Path:
    """Copies the home, for a test that changes it; what the steps named made has to be made again there."""
    home, called = contained
    copy_home(home.path, folder)
    for step in steps:
        shutil.rmtree(folder / "work" / steps_of(home, called.document["run_id"])[step].fingerprint)
    return folder


@pytest.fixture(scope="module")
def contained(home_template: Path, training_settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Called]:
    """The work of the run, done in containers in a home of its own, which no test changes."""
    folder = tmp_path_factory.mktemp("contained") / "home"
    copy_home(home_template, folder)
    called = run_training(folder, training_settings, *IN_CONTAINERS)
    assert called.exit_code == 0, called.stdout + called.stderr
    return open_home(folder), called


def test_containers_do_the_same_work_as_processes(contained: tuple[Home, Called], trained: Trained) -> None:
    home, called = contained
    mine, theirs = steps_of(home, called.document["run_id"]), steps_of(trained.home, trained.run_id)
    assert {step: row.status for step, row in mine.items()} == dict.fromkeys(TRAINING, "completed")
    for step in TRAINING:
        assert mine[step].fingerprint == theirs[step].fingerprint
    for step in ("encode_latents", "train_dit", "register_model"):
        for name, output in theirs[step].record["outputs"].items():
            assert mine[step].record["outputs"][name]["digest"] == output["digest"], (step, name)
    assert called.document["metrics"] == trained.document["metrics"]


def test_lineage_names_the_images(contained: tuple[Home, Called]) -> None:
    home, called = contained
    with open_engine() as engine:
        digests = {step: engine.find_image(image(step)).digest for step in TRAINING}
    for step, row in steps_of(home, called.document["run_id"]).items():
        assert row.record["environment"]["image"] == image(step)
        assert row.record["environment"]["image_digest"] == digests[step]
    page = Path(called.document["report"]).read_text(encoding="utf-8")
    for digest in digests.values():
        assert digest in page
    assert verify_ledger(home.database, home.keys.log_public_key()).problems == ()


def test_every_file_belongs_to_the_one_who_ran_it(contained: tuple[Home, Called]) -> None:
    home, _ = contained
    owners = {(path.lstat().st_uid, path.lstat().st_gid) for path in home.path.rglob("*")}
    assert owners == {(os.getuid(), os.getgid())}
    assert not containers_of(home.path)


@pytest.mark.parametrize("options", [(), IN_CONTAINERS], ids=["processes", "containers"])
def test_what_containers_made_is_reused(
    contained: tuple[Home, Called], training_settings: list[str], options: tuple[str, ...], tmp_path: Path
) -> None:
    folder = copy_without(contained, tmp_path / "home")
    called = run_training(folder, training_settings, *options)
    assert called.exit_code == 0, called.stderr
    statuses = {step: row.status for step, row in steps_of(open_home(folder), called.document["run_id"]).items()}
    assert statuses == dict.fromkeys(TRAINING, "reused")


def test_an_interrupted_run_ends_its_container_and_resumes(home_template: Path, trained: Trained, tmp_path: Path) -> None:
    folder = tmp_path / "home"
    copy_home(home_template, folder)
    with running(folder, trained.settings, *IN_CONTAINERS) as process:
        wait_for(lambda: checkpoints(folder), "a checkpoint", process=process)
        process.send_signal(signal.SIGINT)
        called = finish(process)
    assert called.exit_code == 130, called.stderr
    assert not containers_of(folder)
    again = run_training(folder, trained.settings, *IN_CONTAINERS)
    assert again.exit_code == 0, again.stderr
    rows = steps_of(open_home(folder), again.document["run_id"])
    assert (rows["encode_latents"].status, rows["train_dit"].status) == ("reused", "completed")
    assert rows["train_dit"].record["facts"]["resumed_from"] >= 20
    for step in ("train_dit", "register_model"):
        theirs = steps_of(trained.home, trained.run_id)[step].record["outputs"]
        for name, output in rows[step].record["outputs"].items():
            assert output["digest"] == theirs[name]["digest"], (step, name)


def test_containers_end_when_everything_else_is_killed(contained: tuple[Home, Called], trained: Trained, tmp_path: Path) -> None:
    folder = copy_without(contained, tmp_path / "home", "train_dit")
    with running(folder, trained.settings, *IN_CONTAINERS) as process:
        wait_for(lambda: checkpoints(folder), "a checkpoint", process=process)
        services = services_of(process.pid)
        kill_everything(process, folder)
        wait_until_no_container(folder, patience_s=120)
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{service}").exists() for service in services):
        assert time.monotonic() < deadline, "the engine's service goes with whoever started it"
        time.sleep(0.1)


def test_a_step_that_takes_too_much_memory_fails_its_run(
    contained: tuple[Home, Called], trained: Trained, tmp_path: Path
) -> None:
    folder = copy_without(contained, tmp_path / "home", "train_dit")
    called = run_training(folder, trained.settings, *IN_CONTAINERS, GROUNDSWELL_CONTAINER_MEMORY="100m")
    assert called.exit_code == 1
    assert "killed" in called.document["error"]
    assert "memory" in called.stderr
    assert called.stderr.count("error:") == 1


@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        ({"GROUNDSWELL_IMAGE_TAG": "absent"}, "no image localhost/groundswell/validate-data-python:absent"),
        ({"DOCKER_HOST": "unix:///nonexistent/engine.sock"}, "no container engine answers"),
    ],
)
def test_what_is_missing_is_told_in_one_line(
    contained: tuple[Home, Called], training_settings: list[str], environment: dict[str, str], problem: str, tmp_path: Path
) -> None:
    folder = copy_without(contained, tmp_path / "home")
    called = run_training(folder, training_settings, *IN_CONTAINERS, **environment)
    assert called.exit_code == 6
    assert problem in called.stderr
    assert json.loads(called.stdout)["exit_code"] == 6
    assert "Traceback" not in called.stderr
