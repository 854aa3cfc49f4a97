"""What a pipeline is given when it runs: the run, its parameters, and the folders that it begins with."""

import json
from pathlib import Path

from infra.home import Home
from infra.progress import ProgressFile
from pipelines.base_model import filled_from_base, open_base
from pipelines.batch_run import batch_arguments, resolve_batch
from pipelines.datasets import ensure_dataset
from pipelines.graph import IMPORT_STEP
from pipelines.params import DataParams, DataPipelineParams, FinetuneParams, GenerationParams, PipelineParams


def resolve_model(home: Home, params: PipelineParams) -> tuple[PipelineParams, dict[str, str]]:
    """Returns parameters with the registered model that they name looked up, and the arguments that it gives.

    Raises:
        BadSettingError: A pipeline that needs a model or a table names none.
        UnknownSubjectError: There is no such version.
        IntegrityError: It is not what was registered.
        RefusedError: Its data were withdrawn, or it may not be used.
    """
    if isinstance(params, GenerationParams):
        return resolve_batch(home, params), {}
    if isinstance(params, FinetuneParams):
        base = open_base(home, params)
        return filled_from_base(params, base), base.arguments
    return params, {}


def pipeline_arguments(home: Home, run_id: str, params: PipelineParams, *, actor: str) -> dict[str, str]:
    """Returns a pipeline's arguments, once what it runs on is at hand: a dataset imported, or a table copied.

    Args:
        home: The home.
        run_id: The run, which has begun.
        params: Its parameters.
        actor: The identity that runs it.

    Raises:
        BadDataError: The dataset cannot be imported, or the table is none.
        IntegrityError: The dataset or the package is not what was recorded.
        RefusedError: The dataset holds withdrawn items.
    """
    arguments = {
        "home": str(home.path),
        "run_id": run_id,
        "params": json.dumps(params.step_configs(), sort_keys=True),
    }
    if isinstance(params, GenerationParams):
        return arguments | batch_arguments(home, run_id, params)
    if isinstance(params, DataPipelineParams):
        arguments["dataset"] = str(_dataset(home, run_id, params.data, actor=actor))
    codec = getattr(params, "codec", None)
    if codec is not None:
        arguments["codec"] = str(home.codec_folder(codec))
    return arguments


def _dataset(home: Home, run_id: str, data: DataParams, *, actor: str) -> Path:
    progress = ProgressFile(home.run_folder(run_id) / "progress" / f"{IMPORT_STEP}.json")
    try:
        home.begin_mlflow_schema()
        return ensure_dataset(home, data, actor=actor, run_id=run_id, progress=progress)
    except BaseException as problem:
        progress.end("interrupted" if isinstance(problem, KeyboardInterrupt) else "failed", str(problem))
        raise
