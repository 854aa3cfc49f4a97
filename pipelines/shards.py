"""One part of a table of requests, as the step `generate_batch` makes it: its rows, and what makes each of them."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from components.handles import Handle, read_handle
from components.kubeflow import pass_on, step_process
from components.ports import Progress
from components.runtime import RunContext, run_step
from components.validate_requests.plan import Plan, read_plan
from components.validate_requests.step import TABLE_NAME
from components.validate_requests.table import read_rows, write_rows
from governance import lineage
from governance.digest import tree_digest
from governance.errors import IntegrityError
from infra.home import Home
from infra.lineage import record_event
from infra.progress import tell_parts
from infra.request_salt import write_salt
from infra.source_digest import lock_digest, source_digest
from infra.source_revision import source_revision
from model_core.sampling.options import SamplingOptions
from pipelines.generation import GenerateRequest
from pipelines.requests_folder import copy_sources

STEP = "generate_batch"
SPLIT_STEP = "split_requests"


@dataclass(frozen=True, kw_only=True)
class Maker:
    """What makes requests of a home; implements `components.ports.RequestMaker`."""

    home: Home
    actor: str

    def make(self, requests: Path, options: Mapping[str, Any], out: Path, progress: Progress) -> list[Mapping[str, str]]:
        """Makes the requests of a folder, each a run of its own."""
        from pipelines.batch import make_rows

        known = {field.name for field in fields(GenerateRequest)} - {"options"}
        own = {name: value for name, value in options.items() if name in known}
        more = {name: value for name, value in options.items() if name in SamplingOptions.model_fields}
        template = GenerateRequest(**own, options=more, out=out)
        rows = read_rows(requests / TABLE_NAME)
        found = make_rows(self.home, template, rows, actor=self.actor, sources=requests, progress=progress.update)
        progress.update(len(rows), len(rows), "done")
        return [asdict(found[line]) for line in sorted(found)]


def run_shard(*, home: str, run_id: str, params: str, shard: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
    """Makes one part inside a kfp component.

    Args:
        home: The home's folder.
        run_id: The run.
        params: JSON: each step's configuration by the step's name.
        shard: The part's number.
        inputs: kfp's artifacts ``table``, ``plan`` and ``package``.
        outputs: kfp's artifact ``made``.

    Raises:
        SystemExit: It failed; what and why is recorded in the home and in the step's log.
    """
    part = int(shard)
    with step_process(f"{STEP}-{part:04d}", home=home, run_id=run_id) as run:
        config = json.loads(params)[STEP]
        table, plan, package = (read_handle(Path(inputs[name].path), run.home.path) for name in ("table", "plan", "package"))
        found = read_plan(plan.folder)
        _require_same(found, table.folder, plan)
        tell_parts(run.home.run_folder(run_id) / "progress", STEP, len(found.shards))
        folder = run.home.run_folder(run_id) / "request" / f"{STEP}-{part:04d}"
        try:
            _write_requests(run, folder, table.folder, found.shards[part], seed=int(config.get("seed", 0)))
            _record_split(run, part, table=found.table_digest, plan=tree_digest(plan.folder), requests=tree_digest(folder))
            given = {"package": package.folder, "requests": folder}
            made = run_step(run, STEP, config, given, part=part, maker=Maker(home=run.home, actor=run.actor))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        pass_on(run.home, outputs, made)


def _require_same(plan: Plan, table: Path, handle: Handle) -> None:
    hint = "it was changed after it was checked; run the same command again"
    if tree_digest(table) != plan.table_digest:
        raise IntegrityError("the table of requests is not the one that was checked", hint=hint)
    if tree_digest(handle.folder) != handle.digest:
        raise IntegrityError("the plan is not the one that was made of the table", hint=hint)


def _write_requests(run: RunContext, folder: Path, table: Path, lines: tuple[int, ...], *, seed: int) -> None:
    """Writes a part's rows, each with its seed, and the files that they are made from."""
    rows = [
        replace(row, line=0, seed=seed + row.line if row.seed is None else row.seed)
        for row in read_rows(table / TABLE_NAME, set(lines))
    ]
    folder.mkdir(parents=True)
    copy_sources(table, folder, [row.source for row in rows if row.source])
    write_rows(folder / TABLE_NAME, rows)
    write_salt(run.home, folder)


def _record_split(run: RunContext, part: int, *, table: str, plan: str, requests: str) -> None:
    """Records that the part's requests came from the table."""
    name = f"{SPLIT_STEP}-{part:04d}"
    with run.home.database.unit_of_work() as uow:
        event = lineage.run_event(
            "COMPLETE",
            lineage.StepIdentity(run_id=run.run_id, pipeline=run.pipeline, step=name),
            time=uow.time,
            inputs=[lineage.ArtifactRef(kind="requests", digest=table), lineage.ArtifactRef(kind="request_plan", digest=plan)],
            outputs=[lineage.ArtifactRef(kind="requests", digest=requests)],
            environment={"lock_digest": lock_digest()},
            code_digest=source_digest("pipelines.shards"),
            revision=source_revision(),
        )
        record_event(uow, event)
        details = {"lineage": uow.lineage(), "part": part}
        uow.append("requests.split", f"step:{run.run_id}/{name}", details, run_id=run.run_id)
