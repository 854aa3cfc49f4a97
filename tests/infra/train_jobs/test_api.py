"""What is made of a cluster's API that refuses, fails, or is gone, over HTTP with the real client."""

import re
from pathlib import Path
from typing import Any

import pytest

from governance.errors import RefusedError
from infra.errors import BackendUnavailableError, BadSettingError
from infra.train_jobs.api import connect
from infra.train_jobs.watch import TrainJobDone
from tests.infra.train_jobs.world import (
    FIRST,
    FakeShared,
    World,
    is_one_line,
)
from tests.kubernetes_server import (
    COMPLETE,
    RUNNING,
    Cluster,
    kubernetes_cluster,
)


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


def test_there_is_no_cluster_without_pod_or_kubeconfig(tmp_path: Path) -> None:
    with pytest.raises(BadSettingError, match="there is no cluster to train on") as caught:
        connect(str(tmp_path / "none"))
    assert is_one_line(caught.value)
    (tmp_path / "bad").write_text("a: [")
    with pytest.raises(BadSettingError):
        connect(str(tmp_path / "bad"))
