"""What differs between the lineages of two versions, on the records of a synthetic home."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import delete, insert, update

from governance.digest import tree_digest
from governance.lineage import ArtifactRef, StepIdentity, run_event
from governance.lineage_diff import ABSENT, LineageDiff, diff_document
from governance.lineage_report.model import UNKNOWN
from infra.database import Database
from infra.lineage import LineageGraph, record_event, upstream, upstream_of_each
from infra.lineage_diff import diff_lineage
from infra.lineage_import import import_events
from infra.model_versions import find_version
from infra.tables import artifacts, model_versions, runs, steps, withdrawals
from model_core.data.manifest import SCHEMA
from tests.foreign_events import SPARK, dataset, write_lines

RUNS = {1: "0198f3a2-6f10-7c3e-9a51-3f2f6f0a7b11", 2: "0198f3a2-6f10-7c3e-9a51-3f2f6f0a7b12"}
ITEMS = {1: "abcd", 2: "bcde"}
ENVIRONMENT = {"lock_digest": "1" * 64, "python": "3.11.7", "host": "workbench", "revision": "a" * 40}


class TwoModels:
    """Two versions: the second with another seed, other data, and on another host."""

    def __init__(self, url: str, home: Path) -> None:
        self.db = Database.open(url)
        self.folder = home
        self.data = {number: self._dataset(number) for number in RUNS}
        for number in RUNS:
            self._version(number)

    def _dataset(self, number: int) -> str:
        folder = self.folder / f"data-{number}"
        folder.mkdir()
        shas, splits = [item * 64 for item in ITEMS[number]], ["train", "train", "train", "holdout"]
        columns = {"sha256": shas, "split": splits}
        blank = {field.name: pa.nulls(4, field.type).fill_null("" if field.type == pa.string() else 0) for field in SCHEMA}
        pq.write_table(pa.table({**blank, **columns}, schema=SCHEMA), folder / "manifest.parquet")
        digest = tree_digest(folder)
        facts = {"name": "pictures", "num_items": 4, "licences": ["CC0-1.0"]}
        self._artifact("dataset", digest, facts, location=str(folder))
        return digest

    def _artifact(self, kind: str, digest: str, facts: dict[str, Any] | None = None, *, location: str = "x") -> None:
        with self.db.unit_of_work() as uow:
            row = {"kind": kind, "digest": digest, "location": location, "facts": json.dumps(facts or {}), "created": uow.time}
            uow.connection.execute(insert(artifacts).values(row))

    def _version(self, number: int) -> None:
        run_id, digest = RUNS[number], {kind: f"{number}{kind[0]}" * 32 for kind in ("model", "package")}
        used = ArtifactRef(kind="dataset", digest=self.data[number])
        made = {kind: ArtifactRef(kind=kind, digest=value) for kind, value in digest.items()}
        environment = ENVIRONMENT | (
            {"host": "cluster-3", "image_digest": "sha256:9", "revision": f"{'a' * 40}-dirty"} if number == 2 else {}
        )
        config = {"seed": number, "learning_rate": 0.001} | ({"long_skips": True} if number == 2 else {})
        record = {"config": config, "environment": environment, "code_digest": "c" * 64}
        with self.db.unit_of_work() as uow:
            values = {"run_id": run_id, "pipeline": "training", "runner": "subprocess", "params": "{}", "actor": "id-1"}
            uow.connection.execute(insert(runs).values(**values, status="completed", started=uow.time))
            for step, inputs, outputs in (
                ("train_dit", [used], [made["model"]]),
                ("register_model", [made["model"], used], [made["package"]]),
            ):
                row = {"run_id": run_id, "step": step, "status": "completed", "fingerprint": "f", "started": uow.time}
                uow.connection.execute(insert(steps).values(**row, record=json.dumps(record)))
                identity = StepIdentity(run_id=run_id, pipeline="training", step=step)
                record_event(uow, run_event("COMPLETE", identity, time=uow.time, inputs=inputs, outputs=outputs))
            row = {"name": "m", "version": number, "root_digest": digest["package"], "location": "x", "run_id": run_id}
            metrics, inputs = json.dumps({"kid": 0.1 * number}), json.dumps({})
            uow.connection.execute(insert(model_versions).values(**row, metrics=metrics, inputs=inputs, created=uow.time))

    def diff(self, first: str = "m/1", second: str = "m/2") -> LineageDiff:
        versions = [find_version(self.db, name) for name in (first, second)]
        return diff_lineage(self.db, *versions, datasets=self.folder)

    def execute(self, statement: Any) -> None:
        with self.db.unit_of_work() as uow:
            uow.connection.execute(statement)


@pytest.fixture
def two(database_url: str, tmp_path: Path) -> TwoModels:
    return TwoModels(database_url, tmp_path)


def differing(diff: LineageDiff) -> dict[str, tuple[Any, Any]]:
    return {f"{title}: {p.name}": (p.first, p.second) for title, pairs in diff.sections.items() for p in pairs if p.differs}


def test_what_differs_is_named_and_nothing_else(two: TwoModels) -> None:
    assert differing(two.diff()) == {
        "data: pictures": (two.data[1], two.data[2]),
        "made on the way: model": ("1m" * 32, "2m" * 32),
        "source: revision": ("a" * 40, f"{'a' * 40}-dirty"),
        "environment: host": ("workbench", "cluster-3"),
        "environment: image digest": (UNKNOWN, "sha256:9"),
        "seeds: train_dit.seed": (1, 2),
        "seeds: register_model.seed": (1, 2),
        "parameters: train_dit.long_skips": (ABSENT, True),
        "parameters: register_model.long_skips": (ABSENT, True),
        "evaluation: kid": (0.1, 0.2),
    }
    assert two.diff("m/1", "m/1").is_same


def test_what_was_not_recorded_is_unknown_and_not_guessed(two: TwoModels) -> None:
    unknown = {f"{title}: {p.name}" for title, pairs in two.diff().sections.items() for p in pairs if p.is_unknown}
    assert {"environment: image", "environment: accelerator", "data: pictures: sources"} <= unknown
    two.execute(update(steps).where(steps.c.run_id == RUNS[2], steps.c.step == "train_dit").values(record=None))
    found = differing(two.diff())
    assert found["parameters: train_dit.learning_rate"] == (0.001, UNKNOWN)
    assert found["source: train_dit: code digest"] == ("c" * 64, UNKNOWN)
    assert found["environment: host"] == ("workbench", {"register_model": "cluster-3", "train_dit": UNKNOWN})
    assert found["parameters: register_model.long_skips"] == (ABSENT, True)


def test_items_that_were_left_out_are_named_with_their_withdrawal(two: TwoModels) -> None:
    with two.db.unit_of_work() as uow:
        commitment = uow.commit_to("the author asked")
        values = {"dataset": two.data[1], "item": "a" * 64, "actor": "id-1", "created": uow.time}
        uow.connection.execute(insert(withdrawals).values(**values, reason_commitment=commitment))
    (changes,) = two.diff().items
    assert changes.left_out is not None
    assert changes.added is not None
    assert [(item.sha256, item.split, item.reason) for item in changes.left_out] == [("a" * 64, "train", "the author asked")]
    assert changes.left_out[0].withdrawn
    assert [(item.sha256, item.withdrawn) for item in changes.added] == [("e" * 64, None)]
    assert differing(two.diff())["data: pictures: items withdrawn since"] == (1, 0)


@pytest.mark.parametrize("how", ["gone", "changed"])
def test_items_of_a_dataset_that_is_not_there_any_longer_are_unknown(two: TwoModels, how: str) -> None:
    manifest = two.folder / "data-2" / "manifest.parquet"
    manifest.unlink() if how == "gone" else manifest.write_bytes((two.folder / "data-1" / "manifest.parquet").read_bytes())
    (changes,) = two.diff().items
    assert (changes.left_out, changes.added) == (None, None)
    assert diff_document(two.diff())["items"][0]["left_out"] == UNKNOWN


def test_a_version_without_lineage_is_unknown_throughout(two: TwoModels) -> None:
    with two.db.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM gs_lineage_edges WHERE event_id > 2")
    found = differing(two.diff())
    assert found["data: pictures"] == (two.data[1], UNKNOWN)
    assert {second for name, (_, second) in found.items() if not name.startswith("evaluation")} == {UNKNOWN}


def test_what_others_say_is_left_out_and_named(two: TwoModels, tmp_path: Path) -> None:
    step = StepIdentity(run_id=RUNS[1], pipeline="training", step="train_dit")
    named = [dataset(f"dataset:{'7' * 64}", "groundswell")]
    claim = run_event("RUNNING", step, time="2026-11-22T20:43:57Z", producer=SPARK) | {"inputs": named}
    before = differing(two.diff())
    import_events(two.db, write_lines(tmp_path / "events", [claim]), actor="id-1")
    diff = two.diff()
    assert differing(diff) == before
    assert diff.origins[0].producers == (SPARK,)
    assert diff_document(diff)["left_out_imports"] == {"m/1": [SPARK], "m/2": []}


def test_one_query_finds_what_is_upstream_of_each(two: TwoModels) -> None:
    packages = [f"package:{number}p" + f"{number}p" * 31 for number in RUNS]
    with two.db.read() as connection:
        found = upstream_of_each(connection, [*packages, "package:none"])
        alone = [upstream(connection, package) for package in packages]
    assert [graph.edges for graph in found] == [*(graph.edges for graph in alone), ()]
    assert found[2].nodes == LineageGraph(nodes=["package:none"]).nodes


def test_the_document_is_json(two: TwoModels) -> None:
    document = json.loads(json.dumps(diff_document(two.diff())))
    assert (document["models"], document["same_package"], document["same"]) == (["m/1", "m/2"], False, False)
    assert {"name": "kid", "first": 0.1, "second": 0.2, "differs": True} in document["sections"]["evaluation"]


def test_runs_that_made_the_same_thing_again_do_not_count(two: TwoModels) -> None:
    """A step that reused what another made says nothing of how it was made."""
    before = differing(two.diff())
    with two.db.unit_of_work() as uow:
        values = {"run_id": "again", "pipeline": "training", "runner": "subprocess", "params": "{}", "actor": "id-1"}
        uow.connection.execute(insert(runs).values(**values, status="completed", started="2020"))
        row = {"run_id": "again", "step": "train_dit", "status": "reused", "fingerprint": "f", "started": "2020"}
        uow.connection.execute(insert(steps).values(**row, record=json.dumps({"config": {"seed": 99}})))
        identity = StepIdentity(run_id=RUNS[1], pipeline="training", step="train_dit")
        event = run_event("COMPLETE", identity, time=uow.time, outputs=[ArtifactRef(kind="model", digest="1m" * 32)])
        event["run"]["facets"]["groundswell_step"]["subject"] = "step:again/train_dit"
        record_event(uow, event)
    assert differing(two.diff()) == before
    two.execute(delete(steps).where(steps.c.run_id == "again"))
