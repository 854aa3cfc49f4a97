"""What the metrics say of a step whose work a cluster's machines do: it is alive while it waits, and still when they are."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.runtime import run_step
from components.training_task import TaskFolder, TrainingWords
from infra import progress
from infra.errors import InfraError
from infra.gpu_usage import GpuUsage, write_samples
from infra.home import Home
from infra.monitoring.catalogue import Families
from infra.monitoring.running_steps import add_running_steps
from infra.progress import ProgressFile
from tests.components.cluster_world import RUN, SHORT, begin, on_one_machine
from tests.kubernetes_server import COMPLETE, FAILED, RUNNING, STARTING, SUSPENDED, Cluster
from tests.model_core.toy_latents import write_latents

UPDATED, COMPLETED = "groundswell_running_step_updated_timestamp_seconds", "groundswell_running_step_completed"
UTILIZATION, MEMORY = "groundswell_gpu_utilization_ratio", "groundswell_gpu_memory_used_bytes"
Exported = dict[str, dict[str, float]]


def exported(home: Home) -> Exported:
    """What the exporter says of the running step: values by name and GPU."""
    families = Families()
    with home.database.read() as connection:
        add_running_steps(families, connection, running=[RUN], runs_folder=home.run_folder(RUN).parent)
    return {
        family.name: {sample.labels.get("gpu", ""): sample.value for sample in family.samples} for family in families.collect()
    }


class Play:
    """A TrainJob whose machines do what is written, one act a look; a look sees what came of the act before."""

    def __init__(self, home: Home, cluster: Cluster, acts: list[tuple[dict[str, Any], Callable[[TaskFolder], object]]]) -> None:
        self._home, self._acts = home, acts
        self.seen: list[Exported] = []
        cluster.status = self._status

    def _status(self, name: str) -> dict[str, Any]:
        self.seen.append(exported(self._home))
        (current,) = self._home.work.glob(f"*/scratch/train-job/{name}")
        status, act = self._acts[len(self.seen) - 1]
        act(TaskFolder(current))
        return status

    def run(self) -> list[Exported]:
        """Returns what was exported after each act but the last, which ends it."""
        latents = write_latents(self._home.path / "datasets" / "latents")
        with pytest.raises(InfraError, match="that was all"):
            run_step(begin(self._home), "train_dit", SHORT.model_dump(mode="json"), {"latents": latents})
        return self.seen[1:]


def nothing(_folder: TaskFolder) -> None:
    """Machines that write nothing."""


def trains_to(completed: int) -> Callable[[TaskFolder], None]:
    return lambda folder: ProgressFile(folder.progress).update(completed, 100, "training", loss=0.5)


def ends(folder: TaskFolder) -> None:
    folder.tell(TrainingWords(diagnosis="that was all", hint="none", exit_code=3, is_final=True), "node-0-1")


def samples(machine: int, *utilizations: float, ago_s: float = 0.0) -> Callable[[TaskFolder], None]:
    gpus = [
        GpuUsage(gpu=str(index), utilization=share, memory_used_bytes=1 << 30, memory_total_bytes=80 << 30)
        for index, share in enumerate(utilizations)
    ]
    return lambda folder: write_samples(folder.gpus(machine), gpus, sampled=time.time() - ago_s)


def test_a_step_stands_still_when_its_machines_do_and_not_while_it_waits_for_them(
    training_home: Home, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_MIN_INTERVAL_S", 0.0)
    acts = [
        *[(STARTING, nothing)] * 3,
        (RUNNING, trains_to(40)),
        *[(RUNNING, nothing)] * 4,
        (RUNNING, trains_to(50)),
        (RUNNING, nothing),
        *[(SUSPENDED, nothing)] * 3,
        (FAILED, ends),
    ]
    seen = Play(training_home, cluster, acts).run()
    at = [one[UPDATED][""] for one in seen]
    assert at[0] < at[1] < at[2], "waiting for machines is no standstill"
    assert at[2] < at[3] == at[4] == at[5] == at[6] == at[7], "machines that write nothing leave it as it was"
    assert [one[COMPLETED][""] for one in seen[4:8]] == [40] * 4
    assert at[7] < at[8] == at[9]
    assert seen[9][COMPLETED][""] == 50
    assert at[9] < at[10] < at[11] < at[12], "nor is being held back"


def test_what_the_log_is_told_does_not_pass_for_a_sign_of_the_machines(
    training_home: Home, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_MIN_INTERVAL_S", 0.0)

    def faults(_folder: TaskFolder) -> None:
        cluster.faults.append((503, "away"))

    acts = [(RUNNING, trains_to(40)), (RUNNING, nothing), (RUNNING, faults), (RUNNING, nothing), (FAILED, ends)]
    seen = Play(training_home, cluster, acts).run()
    assert "asking again" in capfd.readouterr().err
    assert len({one[UPDATED][""] for one in seen[1:]}) == 1
    assert [one[COMPLETED][""] for one in seen[1:]] == [40] * 3


def test_gpus_of_all_machines_are_told_as_long_as_they_sample(training_home: Home, cluster: Cluster) -> None:
    acts = [
        (RUNNING, nothing),
        (RUNNING, samples(0, 0.97, 0.91)),
        (RUNNING, samples(1, 0.02)),
        (RUNNING, samples(1, 0.5, ago_s=600)),
        (RUNNING, lambda folder: folder.gpus(1).write_text('{"sampled": 1e12, "gpus": [{"gpu": 0, "utilization": "busy"}]}')),
        (RUNNING, samples(2, 0.5)),
        (FAILED, ends),
    ]
    seen = Play(training_home, cluster, acts).run()
    assert UTILIZATION not in seen[0]
    assert seen[1][UTILIZATION] == {"0:0": 0.97, "0:1": 0.91}
    assert seen[2][UTILIZATION] == {"0:0": 0.97, "0:1": 0.91, "1:0": 0.02}
    assert seen[3][UTILIZATION] == seen[4][UTILIZATION] == seen[5][UTILIZATION] == {"0:0": 0.97, "0:1": 0.91}
    assert seen[2][MEMORY]["1:0"] == 1 << 30


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("0, 97, 40960, 81559\\n1, [N/A], 0, 81559\\n2, 0, 3, 81559\\n", {"0:0": 0.97, "0:2": 0.0}),
        ("", None),
        (None, None),
    ],
)
def test_machines_sample_their_gpus_and_the_step_that_watches_none(
    told: str | None,
    expected: dict[str, float] | None,
    training_home: Home,
    cluster: Cluster,
    one_machine: dict[str, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    if told is not None:
        (programs / "nvidia-smi").write_text(f'#!/bin/sh\nprintf "{told}"\n')
        (programs / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}" if told is not None else str(programs))
    home, seen = on_one_machine(training_home), list[Exported]()

    def status(name: str) -> dict[str, Any]:
        assert one_machine[name] == 0
        seen.append(exported(home))
        return RUNNING if len(seen) < 3 else COMPLETE

    cluster.status = status
    latents = write_latents(home.path / "datasets" / "latents")
    run_step(begin(home), "train_dit", SHORT.model_dump(mode="json"), {"latents": latents})
    assert UTILIZATION not in seen[0], "the step's own process samples nothing"
    assert [one.get(UTILIZATION) for one in seen[1:]] == [expected] * 2
