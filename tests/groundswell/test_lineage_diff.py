import json

import pytest
from sqlalchemy import insert

from governance.lineage import ArtifactRef, StepIdentity, run_event
from infra.home import Home
from infra.lineage import record_event
from infra.tables import model_versions, runs, steps
from tests.groundswell.conftest import Cli

RUNS = {1: "0198f3a2-6f10-7c3e-9a51-3f2f6f0a7b11", 2: "0198f3a2-6f10-7c3e-9a51-3f2f6f0a7b12"}


@pytest.fixture
def two_models(home: Home) -> Home:
    """A home with two versions that differ by seed and figures."""
    with home.database.unit_of_work() as uow:
        for number, run_id in RUNS.items():
            package = ArtifactRef(kind="package", digest=f"{number}" * 64)
            data = ArtifactRef(kind="dataset", digest="d" * 64)
            values = {"run_id": run_id, "pipeline": "training", "runner": "subprocess", "params": "{}", "actor": "id-1"}
            uow.connection.execute(insert(runs).values(**values, status="completed", started=uow.time))
            row = {"run_id": run_id, "step": "train_dit", "status": "completed", "fingerprint": "f", "started": uow.time}
            record = {"config": {"seed": number, "preset": None}, "environment": {"python": "3.11"}}
            uow.connection.execute(insert(steps).values(**row, record=json.dumps(record)))
            identity = StepIdentity(run_id=run_id, pipeline="training", step="train_dit")
            record_event(uow, run_event("COMPLETE", identity, time=uow.time, inputs=[data], outputs=[package]))
            metrics = json.dumps({"kid": 0.1 * number, "kid_low": 0.05, "kid_high": 0.5 * number})
            row = {"name": "m", "version": number, "root_digest": package.digest, "location": "x", "run_id": run_id}
            uow.connection.execute(insert(model_versions).values(**row, metrics=metrics, inputs="{}", created=uow.time))
    return home


def test_it_prints_what_differs_and_what_nobody_recorded(cli: Cli, two_models: Home) -> None:
    called = cli("--home", two_models.path, "lineage", "diff", "m/1", "m/2")
    assert called.exit_code == 0, called.stderr
    rows = [line.split() for line in called.stdout.splitlines()]
    assert ["train_dit.seed", "1", "2"] in rows
    assert ["kid", *["0.1", "(0.05", "to", "0.5)"], *["0.2", "(0.05", "to", "1)"]] in rows
    assert "kid_low" not in called.stdout
    assert "environment: host" in called.stdout.partition("unknown for both")[2].replace("\n  ", " ")
    assert "preset" not in called.stdout.partition("unknown for both")[2]
    same = cli("--home", two_models.path, "lineage", "diff", "m/2", "m/2").stdout
    assert "the same package, byte for byte" in same
    assert "everything that is known of how they were made is the same" in same


def test_under_json_it_is_one_document(cli: Cli, two_models: Home) -> None:
    document = cli("--home", two_models.path, "--json", "lineage", "diff", "m/1", "m/2").document
    assert document["sections"]["seeds"] == [{"name": "train_dit.seed", "first": 1, "second": 2, "differs": True}]


@pytest.mark.parametrize("model", ["m/3", "nobody/1", "m", "../m/1", "m@production"])
def test_a_model_that_is_not_there_is_bad_input(cli: Cli, two_models: Home, model: str) -> None:
    called = cli("--home", two_models.path, "lineage", "diff", "m/1", model)
    assert called.exit_code == 3
    assert called.stderr.startswith("error: ")
