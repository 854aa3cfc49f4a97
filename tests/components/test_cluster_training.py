"""A training step whose work a cluster's machines do: the TrainJob's own command runs here, as torchrun's processes over gloo."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from components import training_worker
from components.finetune_dit.config import Base
from components.finetune_dit.step import run as finetune
from components.runtime import run_step
from components.train_dit.step import run
from components.training_task import Figures, TaskFolder, TrainingTask, TrainingWords, as_line
from governance.digest import tree_digest
from governance.errors import IntegrityError, RefusedError
from governance.package_layout import package_root_digest
from infra.errors import InfraError
from infra.home import Home
from infra.ledger import iter_entries
from infra.runs import get_steps
from model_core.sampling.generate import load_transformer
from model_core.training.checkpoint import CHECKPOINT_NAME
from tests.components.cluster_world import CONFIG, RUN, SHORT, begin, free_port, on_one_machine
from tests.components.test_finetune_dit import CONFIG as FINETUNING
from tests.components.test_finetune_dit import own_latents, write_base
from tests.components.test_train_dit import FakeWorld
from tests.kubernetes_server import COMPLETE, FAILED, RUNNING, Cluster
from tests.model_core.toy_latents import write_latents

ROOT = Path(__file__).parents[2]
ROUNDING = 5e-5
"""See tests/model_core/training/test_distributed.py; these are ten times as many steps, at a smaller rate."""


class Machines:
    """Runs a TrainJob's command as its machines would: told what Kubeflow Trainer tells torchrun, and nothing of this home."""

    def __init__(self, cluster: Cluster, logs: Path) -> None:
        self._logs = logs
        self.agents: dict[str, list[subprocess.Popen[bytes]]] = {}
        cluster.on_made, cluster.status, cluster.on_deleted = self.start, self.status, self.stop
        self.lose_one_of: Home | None = None

    def start(self, job: dict[str, Any]) -> None:
        trainer, name, port = job["spec"]["trainer"], job["metadata"]["name"], free_port()
        self.agents[name] = [self._machine(trainer, f"{name}-node-0-{rank}", rank, port) for rank in range(trainer["numNodes"])]
        if self.lose_one_of is not None:
            threading.Thread(target=self._lose, args=(self.agents[name][1], self.lose_one_of.work), daemon=True).start()
            self.lose_one_of = None

    def _machine(self, trainer: dict[str, Any], name: str, rank: int, port: str) -> subprocess.Popen[bytes]:
        told = {
            "PET_NNODES": str(trainer["numNodes"]),
            "PET_NPROC_PER_NODE": str(trainer["numProcPerNode"]),
            "PET_NODE_RANK": str(rank),
            "PET_MASTER_ADDR": "127.0.0.1",
            "PET_MASTER_PORT": port,
        }
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {"PATH": path, "PYTHONPATH": str(ROOT), "HOME": str(self._logs), "OMP_NUM_THREADS": "1", **told}
        with (self._logs / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                trainer["command"], env=environment, cwd=self._logs, stdout=log, stderr=log, start_new_session=True
            )

    def status(self, name: str) -> dict[str, Any]:
        codes = [agent.poll() for agent in self.agents[name]]
        return FAILED if any(codes) else RUNNING if None in codes else COMPLETE

    def stop(self, name: str) -> None:
        for agent in self.agents[name]:
            agent.terminate()
        for agent in self.agents[name]:
            agent.wait(60)

    @staticmethod
    def _lose(agent: subprocess.Popen[bytes], work: Path) -> None:
        """Loses a machine once there is a checkpoint: torchrun and what it has started are gone without a word."""
        while not list(work.glob(f"*/scratch/{CHECKPOINT_NAME}")) and agent.poll() is None:
            time.sleep(0.002)
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError, ValueError):
                if int((process / "stat").read_text().rpartition(")")[2].split()[3]) == agent.pid:  # its session
                    os.kill(int(process.name), signal.SIGKILL)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def actions(home: Home) -> list[str]:
    return [entry.action for entry in iter_entries(home.database) if entry.run_id == RUN]


def _steps(home: Home) -> list[Any]:
    with home.database.read() as connection:
        return get_steps(connection, RUN)


def _record(home: Home) -> dict[str, Any]:
    (step,) = _steps(home)
    return step.record


@pytest.mark.slow
def test_training_goes_on_after_a_machine_was_lost_to_the_weights_of_one_process_that_was_not(
    training_home: Home, cluster: Cluster, tmp_path: Path
) -> None:
    home, machines = training_home, Machines(cluster, tmp_path)
    latents = write_latents(home.path / "datasets" / "latents")
    machines.lose_one_of = home
    made = run_step(begin(home), "train_dit", CONFIG.model_dump(mode="json"), {"latents": latents})
    folder = made["model"].path

    assert len(cluster.made) == 2, (tmp_path / f"{cluster.made[0]}-node-0-0.log").read_text()
    assert sorted(set(cluster.deleted)) == sorted(cluster.made), "no TrainJob is left"
    record = _record(home)
    facts = record["facts"]
    assert (facts["train_job"]["name"], facts["train_job"]["attempt"]) == (cluster.made[1], 2)
    assert (facts["train_job"]["num_nodes"], facts["train_job"]["processes_per_node"]) == (2, 1)
    assert 10 <= facts["resumed_from"] < CONFIG.num_steps
    assert actions(home) == ["run.started", "step.started", "step.completed"]

    alone = tmp_path / "alone"
    alone.mkdir()
    run(CONFIG, {"latents": latents}, {"model": alone}, FakeWorld().ports(tmp_path / "alone-scratch"))
    expected, found = (json.loads((one / "training.json").read_text())["losses"] for one in (alone, folder))
    assert found == pytest.approx(expected, abs=ROUNDING)
    weights = load_file(folder / "transformer.safetensors")
    for name, tensor in load_file(alone / "transformer.safetensors").items():
        torch.testing.assert_close(weights[name], tensor, rtol=0, atol=ROUNDING)
    assert load_transformer(folder)[0].num_parameters == record["metrics"]["num_parameters"]


def test_what_machines_make_is_the_steps_output_and_their_figures_are_tracked(
    training_home: Home, cluster: Cluster, one_machine: dict[str, int], tmp_path: Path
) -> None:
    home = on_one_machine(training_home)
    latents = write_latents(home.path / "datasets" / "latents")
    made = run_step(begin(home), "train_dit", SHORT.model_dump(mode="json"), {"latents": latents})
    alone = tmp_path / "alone"
    alone.mkdir()
    run(SHORT, {"latents": latents}, {"model": alone}, FakeWorld().ports(tmp_path / "alone-scratch"))
    assert made["model"].digest == tree_digest(alone), "one process alone gives the same bytes here and there"
    from mlflow.tracking import MlflowClient

    (step,) = _steps(home)
    logged = MlflowClient(tracking_uri=home.settings.mlflow_tracking_uri).get_metric_history(step.mlflow_run_id, "loss")
    assert [one.step for one in logged] == [10, 12]
    assert "groundswell_training_loss" in (home.metrics / "training-train_dit.prom").read_text()
    assert not list(home.work.glob("*/scratch")), "what was shared is dropped with the checkpoints"


def test_adapters_are_learnt_on_machines_as_they_are_in_the_step(
    training_home: Home, cluster: Cluster, one_machine: dict[str, int], tmp_path: Path
) -> None:
    home = on_one_machine(training_home)
    given = {"latents": own_latents(home.path / "datasets" / "latents"), "base": write_base(home.path / "mlartifacts" / "base")}
    named = Base(name="toy", version=3, root_digest=package_root_digest(given["base"]))
    config = FINETUNING.model_copy(update={"base": named})
    made = run_step(replace(begin(home), pipeline="finetune"), "finetune_dit", config.model_dump(mode="json"), given)
    alone = tmp_path / "alone"
    alone.mkdir()
    finetune(config, given, {"model": alone}, FakeWorld().ports(tmp_path / "alone-scratch"))
    assert made["model"].digest == tree_digest(alone)
    assert _record(home)["facts"]["base"] == "toy/3"


def test_what_was_changed_on_its_way_is_refused_and_the_run_is_resumed(
    training_home: Home, cluster: Cluster, one_machine: dict[str, int]
) -> None:
    home = on_one_machine(training_home)
    latents, start = write_latents(home.path / "datasets" / "latents"), cluster.on_made

    def spoil(job: dict[str, Any]) -> None:
        start(job)
        (weights,) = home.work.glob("*/scratch/train-job/*/outputs/model/transformer.safetensors")
        weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\0")

    cluster.on_made = spoil
    context = begin(home)
    with pytest.raises(IntegrityError, match=r"model of the TrainJob train-dit-\S+ has digest \w+, its machines say"):
        run_step(context, "train_dit", SHORT.model_dump(mode="json"), {"latents": latents})
    assert actions(home)[-1] == "step.failed"
    cluster.on_made = start
    run_step(context, "train_dit", SHORT.model_dump(mode="json"), {"latents": latents})
    assert _record(home)["facts"]["resumed_from"] == SHORT.num_steps


@pytest.mark.parametrize(
    ("change", "words", "code"),
    [({"learning_rate": 1e30, "max_grad_norm": 1e30}, "is not finite", 3), ({"num_heads": 3}, "multiple of num_heads", 3)],
)
def test_an_error_of_the_machines_is_the_steps_and_is_not_tried_again(
    change: dict[str, Any], words: str, code: int, training_home: Home, cluster: Cluster, one_machine: dict[str, int]
) -> None:
    home = on_one_machine(training_home)
    latents = write_latents(home.path / "datasets" / "latents")
    config = SHORT.model_copy(update=change).model_dump(mode="json")
    with pytest.raises(InfraError, match=words) as caught:
        run_step(begin(home), "train_dit", config, {"latents": latents})
    assert len(cluster.made) == 1
    assert caught.value.exit_code == code
    (step,) = _steps(home)
    assert step.status == "failed"
    assert step.error is not None
    assert words in step.error.diagnosis


def _away(cluster: Cluster) -> None:
    cluster.url = f"http://127.0.0.1:{free_port()}"


def _with_old_token(cluster: Cluster) -> None:
    cluster.token = "old"


@pytest.mark.parametrize(
    ("cause", "words", "code"),
    [(_away, "the cluster's API at http://127.0.0.1", 6), (_with_old_token, "does not accept the token (HTTP 401)", 5)],
)
def test_a_cluster_that_cannot_be_used_fails_the_step_with_its_cause_and_the_same_run_goes_on_later(
    cause: Any, words: str, code: int, training_home: Home, cluster: Cluster, one_machine: dict[str, int], tmp_path: Path
) -> None:
    home = on_one_machine(training_home)
    latents, context = write_latents(home.path / "datasets" / "latents"), begin(home)
    url, token = cluster.url, cluster.token
    cause(cluster)
    cluster.kubeconfig(tmp_path)
    cluster.url, cluster.token = url, token
    with pytest.raises((InfraError, RefusedError), match=re.escape(words)):
        run_step(context, "train_dit", SHORT.model_dump(mode="json"), {"latents": latents})
    (step,) = _steps(home)
    assert (step.status, step.error.exit_code) == ("failed", code)
    assert words in step.error.diagnosis
    assert step.error.hint
    cluster.kubeconfig(tmp_path)
    run_step(context, "train_dit", SHORT.model_dump(mode="json"), {"latents": latents})
    assert actions(home)[-1] == "step.completed"


def test_machines_with_other_code_or_of_another_number_say_so(
    training_home: Home, cluster: Cluster, one_machine: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    latents = write_latents(training_home.path / "datasets" / "latents")
    context = begin(training_home)
    with pytest.raises(InfraError, match="1 processes have met, 2 were asked for"):
        run_step(context, "train_dit", SHORT.model_dump(mode="json"), {"latents": latents})
    monkeypatch.setattr(training_worker, "source_digest", lambda _module: "f" * 64)
    with pytest.raises(InfraError, match=r"the machines have other code of train_dit \(f{12}\)") as caught:
        run_step(context, "train_dit", SHORT.model_dump(mode="json"), {"latents": latents})
    assert caught.value.exit_code == 4


TASK = TrainingTask(
    step="train_dit", code_digest="a" * 64, config={}, inputs={}, outputs=("model",), scratch=Path("/scratch"), num_processes=2
)


def test_a_process_that_was_cut_off_stops_when_another_attempt_has_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_worker, "_LOOK_S", -1.0)
    first, second = TaskFolder.of(tmp_path, "first"), TaskFolder.of(tmp_path, "second")
    first.begin(TASK)
    told = training_worker._Told(first, is_main=True)
    told.update(1, 2)
    second.begin(TASK)
    with pytest.raises(training_worker.SupersededError):
        told.update(2, 2)


def test_what_is_read_of_the_shared_folder_is_whole_or_refused(tmp_path: Path) -> None:
    folder = TaskFolder.of(tmp_path, "one")
    assert [*folder.figures_after(0)] == []
    folder.begin(TASK)
    assert folder.read_task() == TASK
    line = as_line(Figures(step=10, figures={"loss": 0.5}))
    folder.figures.write_text(line + line[:-5])
    ((figures, offset),) = folder.figures_after(0)
    assert (figures.step, offset) == (10, len(line))
    folder.figures.write_text(line + "nothing\n" + line)
    assert [one.step for one, _ in folder.figures_after(offset)] == [10]
    assert folder.words() is None
    folder.tell(TrainingWords(diagnosis="lost another", hint="", exit_code=6, is_final=False), "node-a-1")
    folder.tell(TrainingWords(diagnosis="not finite", hint="", exit_code=3, is_final=True), "node-b-1")
    assert folder.words().diagnosis == "not finite"  # type: ignore[union-attr]
    folder.task.write_text('{"step": "train_dit"}')
    with pytest.raises(IntegrityError, match="is nothing that training on a cluster has written"):
        folder.read_task()
