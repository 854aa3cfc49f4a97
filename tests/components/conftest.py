"""A home whose training is the work of a cluster's machines, the cluster's API, and a machine."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.training_worker import main
from infra.home import Home
from infra.train_jobs import watch
from tests.components.cluster_world import free_port
from tests.kubernetes_server import COMPLETE, FAILED, Cluster, kubernetes_cluster


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with kubernetes_cluster() as found:
        yield found


@pytest.fixture
def training_home(home: Home, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """A home whose training is the cluster's work."""
    monkeypatch.setattr(watch, "_POLL_S", 0.1)
    plan = {
        "job": {"num_nodes": 2, "attempts": 3},
        "image": f"registry.example/train-dit@sha256:{'1' * 64}",
        "claim": "groundswell-home",
        "mount": str(home.path),
        "deadline_s": 3600,
    }
    settings = replace(home.settings, train_job=json.dumps(plan), kubeconfig=str(cluster.kubeconfig(tmp_path)))
    home.database.close()
    opened = Home.open(settings)
    yield opened
    opened.database.close()


@pytest.fixture
def one_machine(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Runs a TrainJob's one process in this one; returns exit codes by name."""
    codes: dict[str, int] = {}
    place = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    for name, value in place.items():
        monkeypatch.setenv(name, value)

    def start(job: dict[str, Any]) -> None:
        monkeypatch.setenv("MASTER_PORT", free_port())
        codes[job["metadata"]["name"]] = main(job["spec"]["trainer"]["command"][-1:])

    cluster.on_made, cluster.status = start, lambda name: FAILED if codes[name] else COMPLETE
    return codes
