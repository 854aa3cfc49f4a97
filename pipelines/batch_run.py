"""A run of the generation pipeline on this machine: what it is given, and what is handed out when it has ended."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.collect_results.results import BAD, REFUSED, RESULTS_NAME, SHEET_NAME
from components.validate_requests.plan import read_plan
from components.validate_requests.table import read_texts
from governance.digest import sha256_file
from governance.errors import IntegrityError
from infra.artifact_folders import folder_of
from infra.errors import BadSettingError
from infra.guardrails import current_guardrails
from infra.home import Home
from infra.runs import get_steps
from infra.source_digest import source_digest
from pipelines.graph import step_of
from pipelines.params import GenerationParams
from pipelines.requests_folder import stage_requests
from pipelines.views import RunOutcome

if TYPE_CHECKING:
    from infra.model_versions import ModelVersion

_MADE_BY = ("pipelines.shards", "pipelines.batch", "components.generate_media.step")


def resolve_batch(home: Home, params: GenerationParams) -> GenerationParams:
    """Returns a run's parameters with what only the home knows: which version, the guardrails, the code.

    Args:
        home: The home.
        params: What was asked for.

    Raises:
        BadSettingError: The model, or the table, is not named.
        BadDataError: The table is none.
        UnknownSubjectError: There is no such model version.
    """
    batch = params.generation
    if batch.model is None:
        raise BadSettingError("generation.model is not set", hint="add -S generation.model=NAME@ALIAS")
    if batch.requests is None:
        raise BadSettingError("generation.requests is not set", hint="add -S generation.requests=FILE.csv")
    read_texts(batch.requests)
    version = _version(home, batch.model)
    with home.database.read() as connection:
        policy = current_guardrails(connection)
    step: Any = params
    config = step.generate_batch.model_copy(
        update={
            "model": f"{version.name}/{version.version}",
            "watermark": home.settings.watermark,
            "guardrails": policy.digest,
            "made_by": {module: source_digest(module) for module in _MADE_BY},
        }
    )
    return params.model_copy(update={"generate_batch": config})


def batch_arguments(home: Home, run_id: str, params: GenerationParams) -> dict[str, str]:
    """Returns the pipeline's own arguments: the table, copied into the run's folder, and the model's package, verified.

    Raises:
        IntegrityError: The package is not what was registered.
        BadDataError: The table is none.
    """
    from infra.model_versions import open_version

    batch = params.generation
    opened = open_version(_version(home, batch.model or ""), home.package_keys, home.package_cache)
    folder = home.run_folder(run_id) / "request" / "table"
    stage_requests(home, batch.requests or Path(), folder)
    return {"table": str(folder), "package": str(opened.folder)}


def hand_out(home: Home, params: GenerationParams, outcome: RunOutcome) -> RunOutcome:
    """Copies what a finished run has made to the folder that was asked for; what is there already stays.

    Returns:
        The outcome, with where everything is and which requests were not made.

    Raises:
        BadSettingError: The folder cannot be written.
        IntegrityError: What was made is gone.
    """
    run_id = outcome.run_id
    out = (params.generation.out or home.run_folder(run_id) / "results").absolute()
    (results,) = _folders(home, run_id, "collect_results", "results")
    try:
        for folder in _folders(home, run_id, "generate_batch", "made"):
            for path in sorted(folder.glob("*/*")):
                _copy(path, out / path.relative_to(folder))
        for name in (RESULTS_NAME, SHEET_NAME):
            if (results / name).is_file():
                _copy(results / name, out / name)
    except OSError as error:
        raise BadSettingError(
            f"{out} cannot be written: {error.strerror}", hint="name another with -S generation.out=DIR; what was made is kept"
        ) from error
    (plan,) = _folders(home, run_id, "validate_requests", "plan")
    warnings = [f"row {row.line} ({row.request_id or 'no request_id'}): {'; '.join(row.problems)}" for row in read_plan(plan).bad]
    if missing := sum(outcome.metrics.get(f"num_{status}", 0.0) for status in (BAD, REFUSED)):
        were = "request was" if missing == 1 else "requests were"
        warnings.append(f"{missing:,.0f} {were} not made; {RESULTS_NAME} says why")
    places = {"files": out, "results": out / RESULTS_NAME, "contact sheet": out / SHEET_NAME}
    pictures = {title: path for title, path in places.items() if path.exists()}
    return replace(outcome, pictures={**outcome.pictures, **pictures}, warnings=(*warnings, *outcome.warnings))


def _copy(source: Path, target: Path) -> None:
    if target.is_file() and not target.is_symlink() and sha256_file(target) == sha256_file(source):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    shutil.copyfile(source, partial)
    partial.replace(target)


def _folders(home: Home, run_id: str, step: str, output: str) -> list[Path]:
    """Returns the folders of a step's outputs, one a part.

    Raises:
        IntegrityError: One is gone.
    """
    with home.database.read() as connection:
        records = [row.record for row in get_steps(connection, run_id) if step_of(row.step) == step]
    folders = [folder_of(home, record["outputs"][output]["location"]) for record in records]
    found = [folder for folder in folders if folder is not None]
    if len(found) < len(folders):
        raise IntegrityError(f"what {step} has made is gone from {home.work}", hint="run the same command again: it is made anew")
    return found


def _version(home: Home, specifier: str) -> "ModelVersion":
    from infra.model_versions import find_version

    return find_version(home.database, specifier)
