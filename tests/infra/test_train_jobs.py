"""TrainJobs: what is asked of a cluster, and what is made of all that it may answer, over HTTP with the real client."""

import copy
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from governance.errors import RefusedError
from infra.errors import BackendUnavailableError, BadSettingError, InfraError
from infra.train_jobs.api import TrainJobApi, connect
from infra.train_jobs.manifest import TrainJobWork, in_home, train_job
from infra.train_jobs.plan import TrainJobPlan, read_plan
from infra.train_jobs.watch import LastWords, TrainJobDone, TrainJobRunner
from tests.kubernetes_server import (
    COMPLETE,
    FAILED,
    NEW,
    RESUMED,
    RUNNING,
    STARTING,
    SUSPENDED,
    UNSUPPORTED,
    Cluster,
    kubernetes_cluster,
    problems_of,
    require_definition,
)

RUN, OTHER_RUN = "6b1f6f0e-5f2d-4c58-9d2c-0d5b3a1f7c11", "00000000-5f2d-4c58-9d2c-0d5b3a1f7c11"
WORK = TrainJobWork(
    run_id=RUN,
    pipeline="training",
    step="train_dit",
    fingerprint="ab" * 32,
    command=("python3", "-m", "torch.distributed.run", "-m", "components.training_worker"),
    folder=lambda name: f"/groundswell/work/ab/scratch/train-job/{name}",
    reads=(PurePosixPath("work/cd/outputs/latents"),),
    writes=PurePosixPath("work/ab/scratch"),
)
FIRST, SECOND, THIRD = (WORK.name(attempt) for attempt in (1, 2, 3))
JOB: dict[str, Any] = {
    "num_nodes": 2,
    "cpu": "8",
    "memory": "64Gi",
    "accelerator": {"type": "nvidia.com/gpu", "count": 4},
    "node_selector": {"pool": "gpu"},
    "tolerations": [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}],
    "environment": {"NCCL_SOCKET_IFNAME": "eth0"},
}
PLAN = TrainJobPlan.model_validate(
    {
        "job": JOB,
        "image": f"registry.example/groundswell/train-dit@sha256:{'1' * 64}",
        "claim": "groundswell-home",
        "mount": "/groundswell",
        "sub_path": "homes/team",
        "pull_secrets": ["registry"],
        "deadline_s": 3600,
    }
)


class Time:
    """A clock that waiting alone moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class FakeShared:
    """What the machines would have left."""

    def __init__(self) -> None:
        self.prepared: list[str] = []
        self.relayed: list[str] = []
        self.results: set[str] = set()
        self.words: dict[str, LastWords] = {}
        self.interrupt_at: int | None = None

    def prepare(self, name: str) -> None:
        self.prepared.append(name)

    def relay(self, name: str) -> None:
        self.relayed.append(name)
        if len(self.relayed) == self.interrupt_at:
            raise KeyboardInterrupt

    def has_result(self, name: str) -> bool:
        return name in self.results

    def last_words(self, name: str) -> LastWords | None:
        return self.words.get(name)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with kubernetes_cluster() as found:
        yield found


@pytest.fixture
def shared() -> FakeShared:
    return FakeShared()


class World:
    """A runner on the cluster, and what it has said."""

    def __init__(self, cluster: Cluster, folder: Path, shared: FakeShared) -> None:
        self.said: list[str] = []
        self.time, self.shared = Time(), shared
        self.kubeconfig = cluster.kubeconfig(folder)
        self.api = TrainJobApi(lambda: connect(str(self.kubeconfig)))

    def run(self, work: TrainJobWork = WORK, plan: TrainJobPlan = PLAN) -> TrainJobDone:
        runner = TrainJobRunner(self.api, plan, say=self.said.append, clock=lambda: self.time.now, sleep=self.time.sleep)
        return runner.run(work, self.shared)


@pytest.fixture
def world(cluster: Cluster, tmp_path: Path, shared: FakeShared) -> World:
    return World(cluster, tmp_path, shared)


def planned(**job: Any) -> TrainJobPlan:
    return TrainJobPlan.model_validate({**PLAN.model_dump(), "job": {**JOB, **job}})


def is_one_line(error: Any) -> bool:
    return "\n" not in error.diagnosis and bool(error.hint) and "\n" not in error.hint


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
        "/groundswell/work/cd/outputs/latents": ("homes/team/work/cd/outputs/latents", True),
        "/groundswell/work/ab/scratch": ("homes/team/work/ab/scratch", False),
        "/dev/shm": (None, None),
    }


def test_a_train_job_is_made_once_watched_and_told_of(world: World, cluster: Cluster, shared: FakeShared) -> None:
    assert world.run() == TrainJobDone(name=FIRST, attempt=1)
    assert cluster.made == shared.prepared == [FIRST]
    assert cluster.jobs[FIRST]["metadata"]["labels"]["groundswell.io/run"] == RUN
    assert [line.partition(FIRST)[2].strip() for line in world.said] == [
        "in team, attempt 1 of 3",
        "waits for its machines",
        "trains",
    ]
    assert len(shared.relayed) == 4
    assert cluster.deleted == []


def test_a_lost_machine_costs_an_attempt_and_its_pod_says_why(world: World, cluster: Cluster, shared: FakeShared) -> None:
    evicted = {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}
    cluster.pods = {FIRST: [{"metadata": {"name": f"{FIRST}-node-0-1"}, "status": evicted}]}
    cluster.futures = [[RUNNING, FAILED], [RUNNING, COMPLETE]]
    assert world.run() == TrainJobDone(name=SECOND, attempt=2)
    assert (cluster.made, cluster.deleted) == ([FIRST, SECOND], [FIRST])
    assert FIRST not in cluster.jobs, "its pods are gone before the next one begins"
    told = next(line for line in world.said if "Evicted" in line)
    assert "The node was low on resource: memory.; it goes on from its last checkpoint" in told.replace(")", "")


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (
            {
                "conditions": [
                    {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager", "message": "lost"}
                ]
            },
            "DeletionByTaintManager: lost",
        ),
        (
            {"containerStatuses": [{"state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]},
            "OOMKilled, exit code 137",
        ),
    ],
)
def test_an_end_of_every_attempt_is_told_with_its_cause_and_stays_to_be_looked_at(
    status: dict[str, Any], words: str, world: World, cluster: Cluster
) -> None:
    cluster.futures = [[RUNNING, FAILED]]
    cluster.pods = {THIRD: [{"metadata": {"name": "node-1"}, "status": status}]}
    with pytest.raises(BackendUnavailableError, match=re.escape(words)) as caught:
        world.run()
    assert "FailedJobs: jobset failed due to one or more job failures" in caught.value.diagnosis
    assert "in attempt 3 of 3" in caught.value.diagnosis
    assert "last checkpoint" in caught.value.hint
    assert is_one_line(caught.value)
    assert [*cluster.jobs] == [THIRD]


def test_what_the_machines_say_of_their_own_is_not_tried_again(world: World, cluster: Cluster, shared: FakeShared) -> None:
    cluster.futures = [[RUNNING, FAILED]]
    not_finite = InfraError("the loss is no longer finite at step 7", hint="lower learning_rate")
    shared.words[FIRST] = LastWords(error=not_finite, is_final=True)
    with pytest.raises(InfraError, match="no longer finite"):
        world.run()
    assert cluster.made == [FIRST]


def test_what_may_fare_better_another_time_is_told_where_no_pod_says_more(
    world: World, cluster: Cluster, shared: FakeShared
) -> None:
    cluster.futures = [[RUNNING, FAILED], [RUNNING, COMPLETE]]
    shared.words[FIRST] = LastWords(error=InfraError("process 0 lost another of the 8 processes of this run"), is_final=False)
    assert world.run().attempt == 2
    assert any("(process 0 lost another of the 8 processes of this run)" in line for line in world.said)


def test_a_runtime_that_is_not_supported_is_not_tried_again(world: World, cluster: Cluster) -> None:
    cluster.futures = [[NEW, UNSUPPORTED]]
    with pytest.raises(BackendUnavailableError, match="TrainingRuntimeNotSupported: TrainingRuntime 'mpi' is not supported"):
        world.run()
    assert cluster.made == [FIRST]


def _unschedulable(cluster: Cluster) -> None:
    message = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    waits = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    cluster.pods = {FIRST: [{"metadata": {"name": "node-0-0"}, "status": {"conditions": [waits]}}]}


def _without_image(cluster: Cluster) -> None:
    waiting = {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}
    cluster.pods = {
        FIRST: [{"metadata": {"name": "node-0-0"}, "status": {"containerStatuses": [{"state": {"waiting": waiting}}]}}]
    }


def _over_quota(cluster: Cluster) -> None:
    about = {"name": f"{FIRST}-node-0"}
    cluster.events = [{"involvedObject": about, "reason": "FailedCreate", "message": "exceeded quota: gpus"}]


def _held_back(cluster: Cluster) -> None:
    cluster.futures = [[NEW, SUSPENDED]]


def _unreadable(cluster: Cluster) -> None:
    cluster.pods = None


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (_unschedulable, "pod node-0-0: Unschedulable: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu."),
        (_without_image, "pod node-0-0: ImagePullBackOff: Back-off pulling image"),
        (_over_quota, "FailedCreate: exceeded quota: gpus"),
        (_held_back, "Suspended: TrainJob is suspended"),
        (_unreadable, "its conditions and pods do not say for what"),
    ],
)
def test_one_that_never_starts_is_told_by_what_it_waits_for_and_ended(
    cause: Any, words: str, world: World, cluster: Cluster
) -> None:
    cluster.futures = [[NEW, STARTING]]
    cause(cluster)
    with pytest.raises(BackendUnavailableError, match=re.escape(f"has not started within 2m; it waits: {words}")) as caught:
        world.run(plan=planned(start_within="2m"))
    assert is_one_line(caught.value)
    assert 120 < world.time.now < 130
    assert cluster.deleted == [FIRST]


def test_one_that_a_queue_holds_back_for_a_while_is_waited_for(world: World, cluster: Cluster) -> None:
    cluster.futures = [[NEW, *[SUSPENDED] * 20, RESUMED, COMPLETE]]
    assert world.run().attempt == 1
    assert any("is held back: Suspended: TrainJob is suspended" in line for line in world.said)


def test_errors_of_the_server_between_are_waited_out(world: World, cluster: Cluster) -> None:
    cluster.faults = [None, (503, "{}"), (500, "<html>oops</html>"), None, (429, "{}"), None, (503, "{}")]
    assert world.run() == TrainJobDone(name=FIRST, attempt=1)
    assert cluster.made == [FIRST]
    assert sum("asking again" in line for line in world.said) == 3


def test_an_answer_that_was_lost_makes_no_second_train_job(world: World, cluster: Cluster) -> None:
    lost = iter([True])
    cluster.drop_after = lambda method, _path: method == "POST" and next(lost, False)
    assert world.run() == TrainJobDone(name=FIRST, attempt=1)
    assert cluster.made == [FIRST]


def test_a_server_that_is_gone_for_good_is_told_and_what_trains_is_taken_up_again(
    world: World, cluster: Cluster, shared: FakeShared
) -> None:
    cluster.futures = [[RUNNING, *[RUNNING] * 5, COMPLETE]]
    cluster.faults = [None, None, None, *[(503, "{}")] * 1000]
    with pytest.raises(BackendUnavailableError, match=r"HTTP 503, for 10m now") as caught:
        world.run()
    assert is_one_line(caught.value)
    assert 600 <= world.time.now < 660
    cluster.faults.clear()
    assert cluster.deleted == []
    assert world.run() == TrainJobDone(name=FIRST, attempt=1)
    assert cluster.made == shared.prepared == [FIRST]
    assert f"taking up the TrainJob {FIRST}" in world.said


def test_a_cluster_that_does_not_answer_before_a_run_is_told_at_once(tmp_path: Path, shared: FakeShared) -> None:
    with kubernetes_cluster() as cluster:
        world = World(cluster, tmp_path, shared)
    with pytest.raises(BackendUnavailableError, match=r"the cluster's API at http://127.0.0.1:\d+ does not answer") as caught:
        world.run()
    assert is_one_line(caught.value)
    assert (world.time.now, shared.prepared) == (0.0, [])


def test_a_token_that_expires_is_read_anew_and_told_where_it_is_still_refused(
    world: World, cluster: Cluster, tmp_path: Path
) -> None:
    cluster.futures = [[RUNNING, RUNNING, COMPLETE]]

    def expire(job: dict[str, Any]) -> None:
        cluster.token = "newer"
        cluster.kubeconfig(tmp_path)

    cluster.on_made = expire
    assert world.run().name == FIRST
    cluster.token = "newest"
    with pytest.raises(RefusedError, match=r"does not accept the token \(HTTP 401\)") as caught:
        world.run()
    assert is_one_line(caught.value)
    assert "newe" not in caught.value.diagnosis


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ((403, '{"message": "trainjobs is forbidden: User x cannot list"}'), RefusedError, "refuses it (HTTP 403): trainjobs is"),
        ((404, "404 page not found"), BackendUnavailableError, "knows no TrainJobs"),
        ((200, "<html>log in</html>"), BackendUnavailableError, "is no cluster's API"),
    ],
)
def test_a_cluster_without_rights_or_without_trainer_is_one_line(
    fault: tuple[int, str], kind: type[Exception], words: str, world: World, cluster: Cluster
) -> None:
    cluster.faults = [fault]
    with pytest.raises(kind, match=re.escape(words)) as caught:
        world.run()
    assert is_one_line(caught.value)


def test_a_runtime_that_is_missing_is_what_the_cluster_says(world: World, cluster: Cluster) -> None:
    cluster.refuses = "spec.runtimeRef: clusterTrainingRuntime must be created before the TrainJob is created"
    with pytest.raises(BadSettingError, match="must be created before the TrainJob is created"):
        world.run()


def test_an_interrupt_ends_the_train_job(world: World, cluster: Cluster, shared: FakeShared) -> None:
    cluster.futures = [[RUNNING]]
    shared.interrupt_at = 3
    with pytest.raises(KeyboardInterrupt):
        world.run()
    assert cluster.deleted == [FIRST]


def test_one_that_somebody_deletes_is_not_made_again(world: World, cluster: Cluster, shared: FakeShared) -> None:
    cluster.futures = [[RUNNING]]
    relay = shared.relay

    def deleting(name: str) -> None:
        relay(name)
        cluster.jobs.clear()

    shared.relay = deleting  # type: ignore[method-assign]
    with pytest.raises(BackendUnavailableError, match="was deleted on the cluster"):
        world.run()
    assert cluster.made == [FIRST]


def test_another_runs_train_job_of_the_same_work_is_ended_before(world: World, cluster: Cluster) -> None:
    other = TrainJobWork(**{**vars(WORK), "run_id": OTHER_RUN})
    world.api.create(train_job(other, PLAN, 1))
    assert world.run() == TrainJobDone(name=FIRST, attempt=1)
    assert cluster.deleted == [other.name(1)]
    assert other.name(1) not in cluster.jobs


def test_a_failed_one_of_the_run_is_begun_anew_when_the_step_is_tried_again(world: World, cluster: Cluster) -> None:
    cluster.futures = [[RUNNING, FAILED]]
    with pytest.raises(BackendUnavailableError):
        world.run()
    cluster.futures = [[RUNNING, FAILED]] * 3 + [[RUNNING, COMPLETE]]
    assert world.run() == TrainJobDone(name=FIRST, attempt=1)
    assert cluster.deleted == [FIRST, SECOND, THIRD]


def test_a_completed_one_whose_result_is_there_is_taken_as_it_is(world: World, cluster: Cluster, shared: FakeShared) -> None:
    world.run()
    shared.results = {FIRST}
    assert world.run() == TrainJobDone(name=FIRST, attempt=1)
    assert cluster.made == [FIRST]
    shared.results = set()
    world.run()
    assert cluster.made == [FIRST, FIRST]


def test_a_pod_that_stays_on_a_lost_node_does_not_hold_the_next_attempt_back_for_ever(world: World, cluster: Cluster) -> None:
    cluster.futures = [[RUNNING, FAILED], [RUNNING, COMPLETE]]
    cluster.lingers = 1000
    assert world.run().attempt == 2
    assert any("is still ending after 120 s" in line for line in world.said)


def test_there_is_no_cluster_without_pod_or_kubeconfig(tmp_path: Path) -> None:
    with pytest.raises(BadSettingError, match="there is no cluster to train on") as caught:
        connect(str(tmp_path / "none"))
    assert is_one_line(caught.value)
    (tmp_path / "bad").write_text("a: [")
    with pytest.raises(BadSettingError):
        connect(str(tmp_path / "bad"))


def test_a_plan_is_read_back_and_one_that_is_none_is_one_line() -> None:
    assert read_plan(PLAN.model_dump_json()) == PLAN
    with pytest.raises(BadSettingError, match="GROUNDSWELL_TRAIN_JOB: claim: Field required"):
        read_plan(PLAN.model_dump_json(exclude={"claim"}))


def test_an_input_outside_the_home_is_refused(tmp_path: Path) -> None:
    assert in_home(tmp_path / "home" / "work" / "a", tmp_path / "home") == PurePosixPath("work/a")
    with pytest.raises(BadSettingError, match="is not in the home"):
        in_home(tmp_path / "elsewhere", tmp_path / "home")
