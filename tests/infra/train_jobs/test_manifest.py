"""What a TrainJob is made of, from the plan that a compiled pipeline carries."""

import copy
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from infra.errors import BadSettingError
from infra.train_jobs.manifest import in_home, train_job
from infra.train_jobs.plan import TrainJobPlan, read_plan
from tests.infra.train_jobs.world import (
    JOB,
    MOUNT,
    PLAN,
    READS,
    SECOND,
    SUB_PATH,
    WORK,
    WRITES,
)
from tests.kubernetes_server import (
    problems_of,
    require_definition,
)


@pytest.mark.parametrize("job", [JOB, {"num_nodes": 1}], ids=["all", "least"])
def test_a_train_job_is_as_the_published_definition_has_it(job: dict[str, Any]) -> None:
    require_definition()
    made = train_job(WORK, TrainJobPlan.model_validate({**PLAN.model_dump(), "job": job}), 1)
    assert problems_of(made) == []
    spoilt = copy.deepcopy(made)
    spoilt["spec"]["podSpecOverrides"] = []
    assert problems_of(spoilt), "what the definition does not know has to be found"


def test_machines_get_what_the_file_says_and_see_no_more_of_the_home_than_the_work_needs() -> None:
    spec = train_job(WORK, PLAN, 2)["spec"]
    assert spec["runtimeRef"]["name"] == "torch-distributed"
    trainer = spec["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (2, 4)
    assert trainer["command"][-1].endswith(SECOND)
    amounts = {"cpu": "8", "memory": "64Gi", "nvidia.com/gpu": "4"}
    assert trainer["resourcesPerNode"] == {"requests": amounts, "limits": amounts}
    (patch,) = spec["runtimePatches"]
    (job,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pod = job["template"]["spec"]["template"]["spec"]
    assert (pod["nodeSelector"], pod["imagePullSecrets"]) == ({"pool": "gpu"}, [{"name": "registry"}])
    mounts = {one["mountPath"]: (one.get("subPath"), one.get("readOnly")) for one in pod["containers"][0]["volumeMounts"]}
    assert mounts == {
        str(MOUNT / READS): (str(SUB_PATH / READS), True),
        str(MOUNT / WRITES): (str(SUB_PATH / WRITES), False),
        "/dev/shm": (None, None),
    }


def test_a_plan_is_read_back_and_one_that_is_none_is_one_line() -> None:
    assert read_plan(PLAN.model_dump_json()) == PLAN
    with pytest.raises(BadSettingError, match="GROUNDSWELL_TRAIN_JOB: claim: Field required"):
        read_plan(PLAN.model_dump_json(exclude={"claim"}))


def test_an_input_outside_the_home_is_refused(tmp_path: Path) -> None:
    assert in_home(tmp_path / "home" / "work" / "a", tmp_path / "home") == PurePosixPath("work/a")
    with pytest.raises(BadSettingError, match="is not in the home"):
        in_home(tmp_path / "elsewhere", tmp_path / "home")
