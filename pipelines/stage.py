"""One step as a stage of DVC: ``python -m pipelines.stage STEP --input NAME=FOLDER --output NAME=FOLDER``.

The stages of ``dvc.yaml`` call the same step functions, through the same runtime, as the Kubeflow pipelines; ``params.yaml``
holds their configuration. A stage is a run of its own in the home; lineage joins stages by the digests of what they pass on.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from components.runtime import RunContext, describe_error, run_step
from components.specs import STEPS
from infra.home import Home
from infra.identities import first_identity
from infra.progress import ProgressFile
from infra.settings import Settings
from pipelines.datasets import ensure_dataset
from pipelines.graph import IMPORT_STEP
from pipelines.params import TrainingParams, resolve_params
from pipelines.recorded import recorded_run


def main(arguments: Sequence[str]) -> int:
    """Runs one stage and returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.stage", description="Runs one step of the training pipeline for DVC."
    )
    parser.add_argument("step", choices=[IMPORT_STEP, *STEPS])
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--input", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--output", action="append", default=[], metavar="NAME=FOLDER")
    options = parser.parse_args(arguments)
    inputs, outputs = _folders(options.input), _folders(options.output)
    try:
        home = Home.open(Settings.load())
        params = cast("TrainingParams", resolve_params("training", params_file=options.params))
        _run(home, options.step, params, inputs, outputs)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the one catch of this front door
        problem = describe_error(error)
        print(f"error: {problem.diagnosis}", file=sys.stderr)  # noqa: T201
        if problem.hint:
            print(f"hint: {problem.hint}", file=sys.stderr)  # noqa: T201
        return problem.exit_code
    return 0


def _run(home: Home, step: str, params: TrainingParams, inputs: dict[str, Path], outputs: dict[str, Path]) -> None:
    values = params.model_dump(mode="json")
    actor = first_identity(home.database)
    with recorded_run(home, pipeline="training", runner="dvc", params=values, actor=actor) as run:
        made = _make(run, step, params, inputs)
    for name, target in outputs.items():
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(made[name], target)


def _make(run: RunContext, step: str, params: TrainingParams, inputs: dict[str, Path]) -> dict[str, Path]:
    if step == IMPORT_STEP:
        progress = ProgressFile(run.home.run_folder(run.run_id) / "progress" / f"{step}.json")
        return {"dataset": ensure_dataset(run.home, params.data, actor=run.actor, run_id=run.run_id, progress=progress)}
    run.home.begin_mlflow_schema()
    if "codec" in STEPS[step].inputs:
        inputs = {**inputs, "codec": run.home.codec_folder(params.codec)}
    return {name: reference.path for name, reference in run_step(run, step, params.step_configs()[step], inputs).items()}


def _folders(texts: Sequence[str]) -> dict[str, Path]:
    return {name: Path(folder) for name, _, folder in (text.partition("=") for text in texts)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
