"""TrainJobs watched to their end: begun again after a loss, told of where they do not start, taken up by who comes next."""

import re
from typing import Any

import pytest

from infra.errors import BackendUnavailableError, InfraError
from infra.train_jobs.manifest import TrainJobWork, train_job
from infra.train_jobs.watch import LastWords, TrainJobDone
from tests.infra.train_jobs.world import (
    FIRST,
    OTHER_RUN,
    PLAN,
    RUN,
    SECOND,
    THIRD,
    WORK,
    FakeShared,
    World,
    is_one_line,
    planned,
)
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
)


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
    assert shared.waited == [f"the TrainJob {FIRST} waits for its machines"] * 2
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


def test_one_that_is_held_back_again_is_waited_for_until_it_goes_on(world: World, cluster: Cluster, shared: FakeShared) -> None:
    cluster.futures = [[RUNNING, SUSPENDED, SUSPENDED, RESUMED, COMPLETE]]
    world.run()
    assert shared.waited == [f"the TrainJob {FIRST} is held back: Suspended: TrainJob is suspended"] * 2
