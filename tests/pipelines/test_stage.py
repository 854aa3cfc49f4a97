"""The same work as DVC stages, in a copy of the repository and a home of its own."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from components.store import artifact_digest
from infra.home import Home
from infra.ledger_verification import verify_ledger
from infra.lineage import upstream
from infra.model_versions import find_version
from infra.runs import list_runs
from infra.settings import Settings
from pipelines.graph import PIPELINES
from pipelines.params import resolve_params
from tests.pipelines.calling import ROOT, TIMEOUT_S, environment
from tests.pipelines.conftest import Trained, copy_home

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOMS = ("components", "governance", "infra", "model_core", "pipelines")


def reproduce(copy: Path, home: Path) -> subprocess.CompletedProcess[str]:
    """Runs ``dvc repro``; its stages find this Python first."""
    path = f"{Path(sys.executable).parent}:{environment()['PATH']}"
    return subprocess.run(
        [sys.executable, "-m", "dvc", "repro"],
        cwd=copy,
        env=environment(GROUNDSWELL_HOME=str(home), PATH=path),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )


def copy_repository(folder: Path, settings: Sequence[str]) -> Path:
    """Copies what the stages need, with tiny parameters."""
    for room in ROOMS:
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(ROOT / "dvc.yaml", folder / "dvc.yaml")
    params = resolve_params("training", settings=settings).model_dump(mode="json")
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], cwd=folder, env=environment(), check=True)
    return folder


@pytest.fixture(scope="module")
def reproduced(trained: Trained, home_template: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Home]:
    """The copy after ``dvc repro``, and the home."""
    folder = tmp_path_factory.mktemp("dvc")
    copy = copy_repository(folder / "copy", trained.settings)
    copy_home(home_template, folder / "home")
    ended = reproduce(copy, folder / "home")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return copy, Home.open(Settings.load(folder / "home"))


def test_dvc_makes_the_same_package_as_kubeflow(reproduced: tuple[Path, Home], trained: Trained) -> None:
    copy, home = reproduced
    version = find_version(trained.home.database, trained.document["model_version"])
    assert artifact_digest("package", copy / "build" / "package") == version.root_digest
    assert find_version(home.database, trained.document["model_version"]).root_digest == version.root_digest


def test_each_stage_is_a_run_and_lineage_joins_them(reproduced: tuple[Path, Home], tiny_codec: Path) -> None:
    copy, home = reproduced
    with home.database.read() as connection:
        runs = list_runs(connection, 20)
        graph = upstream(connection, f"package:{artifact_digest('package', copy / 'build' / 'package')}")
    assert {(run.runner, run.status) for run in runs} == {("dvc", "completed")}
    assert len(runs) == 1 + len(PIPELINES["training"])
    dataset, codec = artifact_digest("dataset", copy / "build" / "dataset"), artifact_digest("codec", tiny_codec)
    assert {f"dataset:{dataset}", f"codec:{codec}"} <= set(graph.nodes)
    assert verify_ledger(home.database, home.keys.log_public_key()).problems == ()


def test_dvc_has_nothing_to_do_the_second_time(reproduced: tuple[Path, Home]) -> None:
    copy, home = reproduced
    ended = reproduce(copy, home.path)
    assert ended.returncode == 0
    assert "up to date" in ended.stdout + ended.stderr


def test_a_stage_with_a_misspelt_parameter_says_which(reproduced: tuple[Path, Home], tmp_path: Path) -> None:
    copy, home = reproduced
    params = yaml.safe_load((copy / "params.yaml").read_text())
    params["evaluate"]["num_sample"] = 3
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    ended = subprocess.run(
        [sys.executable, "-m", "pipelines.stage", "validate_data", "--params", tmp_path / "params.yaml"],
        cwd=copy,
        env=environment(GROUNDSWELL_HOME=str(home.path)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 3
    assert "evaluate.num_sample" in ended.stderr
