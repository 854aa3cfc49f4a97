"""Evaluates a registered model again: its package is verified, and the run is recorded with its lineage."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from components.runtime import run_step
from governance.digest import sha256_file, tree_digest
from governance.errors import IntegrityError
from governance.model_records import origin_of
from governance.package_layout import CODEC_WEIGHTS, WEIGHTS
from infra.artifact_folders import find_artifact
from infra.errors import BadSettingError
from infra.home import Home
from infra.model_package import ModelPackage
from infra.model_versions import ModelVersion, find_version, open_version
from infra.tables import steps
from pipelines.recorded import OnView, recorded_run, shown

PIPELINE = "evaluation"
STEP = "evaluate"


@dataclass(frozen=True, kw_only=True)
class EvaluationOutcome:
    """What an evaluation has come to.

    Attributes:
        run_id: The run.
        model_version: ``name/version``.
        folder: Where report and pictures are.
        report: The content of ``report.json``.
        wall_s: How long it took.
    """

    run_id: str
    model_version: str
    folder: Path
    report: Mapping[str, Any]
    wall_s: float

    @property
    def metrics(self) -> dict[str, float]:
        """The figures."""
        return dict(self.report["metrics"])


def evaluate_model(
    home: Home,
    specifier: str,
    settings: Mapping[str, Any],
    *,
    actor: str,
    data: Path | None = None,
    on_view: OnView = lambda _: None,
) -> EvaluationOutcome:
    """Evaluates a model as it was evaluated before it was registered, but for what the settings say; done work is reused.

    Args:
        home: The home.
        specifier: ``name@alias`` or ``name/version``.
        settings: Settings of the step `evaluate`.
        actor: The identity that asks.
        data: The folder of the data that the model was trained on, where the home no longer has it.
        on_view: Called about five times a second with how far it has come.

    Raises:
        IntegrityError: Package, data or latents are not what was recorded.
        BadSettingError: A setting is not the step's, or the home no longer has what the evaluation needs.
        RefusedError: The data hold withdrawn items.
    """
    version = find_version(home.database, specifier)
    package = open_version(version, home.package_keys, home.package_cache)
    if origin_of(package.config) is not None:
        raise BadSettingError(
            f"{version.name}/{version.version} was imported, and nothing is held out here to evaluate it on",
            hint="fine-tune it on pictures of your own, which evaluates the result: docs/FINETUNING.md",
        )
    before = _step_before(home, version)
    folders = {**_inputs(home, version, package, data), "codec": _codec(version, package, before)}
    config = {**_known_settings(before), "utility": True, **settings}
    name = f"{version.name}/{version.version}"
    began = time.time()
    inputs = [f"package:{version.root_digest}"]
    with (
        recorded_run(
            home, pipeline=PIPELINE, runner="in-process", params={STEP: config, "model": name}, actor=actor, inputs=inputs
        ) as run,
        shown(run, steps=(STEP,), on_view=on_view),
    ):
        made = run_step(run, STEP, config, folders)["evaluation"]
    report = json.loads((made.path / "report.json").read_text(encoding="utf-8"))
    return EvaluationOutcome(run_id=run.run_id, model_version=name, folder=made.path, report=report, wall_s=time.time() - began)


def _inputs(home: Home, version: ModelVersion, package: ModelPackage, data: Path | None) -> dict[str, Path]:
    """Returns the step's inputs, each verified by the digest that the version was registered with."""
    folders: dict[str, Path] = {}
    for kind in ("model", "latents", "dataset"):
        digest = version.inputs.get(kind, "")
        found = data if kind == "dataset" and data is not None else find_artifact(home, kind, digest)
        if found is None:
            option = ", or name its folder with --data" if kind == "dataset" else ""
            raise BadSettingError(
                f"this home no longer has the {kind} that {version.name}/{version.version} was made from",
                hint=f"run its training pipeline again, which makes what is missing anew{option}",
            )
        folders[kind] = found
    if data is not None and (not data.is_dir() or tree_digest(data) != version.inputs.get("dataset")):
        raise BadSettingError(
            f"{data} is not the dataset that {version.name}/{version.version} was trained on",
            hint="name the folder that it was trained on; its digest must be the one on record",
        )
    if sha256_file(folders["model"] / WEIGHTS) != package.digests[WEIGHTS]:
        raise IntegrityError(f"the weights on record for {version.name}/{version.version} are not those of its package")
    return folders


def _codec(version: ModelVersion, package: ModelPackage, before: Mapping[str, Any]) -> Path:
    """Returns the codec's folder as the pipeline had it, so that its work is found again, otherwise the package's."""
    recorded = Path(before.get("inputs", {}).get("codec", {}).get("location", ""))
    same = recorded.is_dir() and tree_digest(recorded) == version.inputs.get("codec")
    return recorded if same and sha256_file(recorded / "codec.safetensors") == package.digests[CODEC_WEIGHTS] else package.codec


def _step_before(home: Home, version: ModelVersion) -> dict[str, Any]:
    """Returns the record of the evaluation that the version was registered with; empty where there is none."""
    wanted = version.inputs.get("evaluation")
    with home.database.read() as connection:
        rows = connection.execute(
            select(steps.c.record).where(steps.c.step == STEP, steps.c.status == "completed").order_by(steps.c.ended.desc())
        ).scalars()
        records = (json.loads(text or "{}") for text in rows)
        found = (one for one in records if one.get("outputs", {}).get("evaluation", {}).get("digest") == wanted)
        return next(found, {})


def _known_settings(before: Mapping[str, Any]) -> dict[str, Any]:
    """Returns its settings, as far as the step still has them."""
    from components.evaluate.config import Config

    return {name: value for name, value in before.get("config", {}).items() if name in Config.model_fields}
