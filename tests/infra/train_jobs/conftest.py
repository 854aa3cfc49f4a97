"""A cluster's API, and a runner that asks it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.infra.train_jobs.world import (
    FakeShared,
    World,
)
from tests.kubernetes_server import (
    Cluster,
    kubernetes_cluster,
)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with kubernetes_cluster() as found:
        yield found


@pytest.fixture
def shared() -> FakeShared:
    return FakeShared()


@pytest.fixture
def world(cluster: Cluster, tmp_path: Path, shared: FakeShared) -> World:
    return World(cluster, tmp_path, shared)
