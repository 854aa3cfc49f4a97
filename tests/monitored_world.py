"""A home in which everything that has a metric has happened: the promotion tests' home, with more of it."""

import json
import shutil
import time
from pathlib import Path

import pytest
from sqlalchemy import update

from governance.access_token import Scope
from governance.canonical import canonical_text
from governance.errors import RefusedError
from infra.access_tokens import create_token
from infra.append_failures import count_failure
from infra.content_keys import signing_keys
from infra.gpu_usage import usage_path
from infra.ledger import sign_checkpoint
from infra.progress import ProgressFile
from infra.run_records import begin_run, end_run
from infra.tables import model_versions, steps
from tests.infra.promotion.world import RUN, World

COMPLETED = "0198f3a2-0001-7c3e-9a51-3f2f6f0a7b11"
FAILED = "0198f3a2-0002-7c3e-9a51-3f2f6f0a7b11"


def fill_monitored(world: World) -> None:
    """Lets it all happen: runs that ended and one that goes on, promotions, tokens, keys, and what went wrong."""
    home, admin = world.home, world.people["Admin"]
    for run_id, pipeline, ending in ((COMPLETED, "training", "completed"), (FAILED, "codec", "failed")):
        begin_run(home, run_id=run_id, pipeline=pipeline, runner="subprocess", params={}, actor=world.people["Ada"])
        add_step(world, run_id, "validate_data", status=ending, metrics={"num_items": 12, "success": 1.0})
        if ending == "completed":
            add_step(world, run_id, "evaluate", status=ending, metrics={"kid": 0.03})
        end_run(home, run_id=run_id, status=ending)
    add_step(world, RUN, "train_dit", status="running")
    path = home.run_folder(RUN) / "progress" / "train_dit.json"
    progress = ProgressFile(path)
    progress.update(600, 600, "training", loss=0.31, steps_per_s=4.5)
    gpu = {"gpu": "0", "utilization": 0.93, "memory_used_bytes": 1 << 30, "memory_total_bytes": 80 << 30}
    usage_path(path).write_text(json.dumps({"sampled": time.time(), "gpus": [gpu]}))
    world.promote(1)
    waiting = world.request(2)
    with pytest.raises(RefusedError):
        world.approve(waiting, "Ada")
    signing_keys(home)
    sign_checkpoint(home.database, home.keys)
    create_token(home.database, identity_id=admin, scopes={Scope.READ}, days=30, actor=admin)
    count_failure(home.metrics)
    with home.database.unit_of_work() as uow:
        for action in ("asset.generated", "asset.withheld", "artifact.tampered", "lineage.imported"):
            uow.append(action, f"media:{'0' * 64}", {})
        uow.append("generation.refused", "policy:@guardrails", {"rule": "terms", "category": "violence"})


def add_step(world: World, run_id: str, step: str, *, status: str, metrics: dict[str, float] | None = None) -> None:
    """Adds a step's row."""
    with world.home.database.unit_of_work() as uow:
        ended = None if status == "running" else uow.time
        record = canonical_text({"metrics": metrics or {}, "summary": "done"}, floats=True)
        values = {"run_id": run_id, "step": step, "status": status, "fingerprint": "0" * 64, "started": uow.time}
        uow.connection.execute(steps.insert().values(**values, ended=ended, work_s=1.5 if ended else None, record=record))


def package_of_its_own(world: World, number: int, folder: Path) -> Path:
    """Returns the folder of a version's package, moved to where other tests do not see what becomes of it."""
    package = folder / f"package-{number}"
    shutil.copytree(world.version(number).location.removeprefix("file://"), package)
    with world.db.unit_of_work() as uow:
        uow.connection.execute(update(model_versions).where(model_versions.c.version == number).values(location=str(package)))
    return package
