"""Trains in several processes, for tests: ``python -m tests.model_core.training.processes RANK WORLD_SIZE FOLDER PLAN``.

A plan is a JSON list of runs, done one after the other; each writes what it found to FOLDER/NAME-RANK.json and, in the main
process, its weights to FOLDER/NAME.safetensors.
"""

import dataclasses
import json
import os
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from model_core.data.latents import LatentDataset
from model_core.errors import ModelCoreError
from model_core.training.distributed import joined_processes
from model_core.training.loop import StepProgress, train
from tests.model_core.toy_latents import ARCHITECTURE, TRAINING


class StoppedError(Exception):
    """Stands for something that ends all processes between two steps."""


def main(rank: int, world_size: int, folder: Path, plan: list[dict]) -> None:
    torch.set_num_threads(1)
    latents = LatentDataset.open(folder / "latents")
    for run in plan:
        config = dataclasses.replace(TRAINING, **run.get("training", {}))
        architecture = dataclasses.replace(ARCHITECTURE, **run.get("architecture", {}))

        def on_step(progress: StepProgress, run: dict = run) -> None:
            if progress.step == run.get("stop_after"):
                raise StoppedError
            if progress.step == run.get("die_after") and rank == world_size - 1:
                os._exit(9)

        try:
            with joined_processes(
                torch.device("cpu"),
                strategy=run["strategy"],
                rank=rank,
                world_size=world_size,
                init_method=(folder / f"meet-{run['name']}").as_uri(),
                timeout_s=60,
            ) as distributed:
                result = train(
                    config,
                    architecture,
                    latents,
                    scratch=folder / f"scratch-{run.get('scratch', run['name'])}-{rank if run.get('apart') else 0}",
                    device="cpu",
                    distributed=distributed,
                    on_step=on_step,
                )
            found = {"losses": result.losses, "resumed_from": result.resumed_from, "num_parameters": result.num_parameters}
            if rank == 0:
                save_file(result.weights, folder / f"{run['name']}.safetensors")
        except ModelCoreError as error:
            found = {"error": type(error).__name__, "diagnosis": error.diagnosis, "hint": error.hint}
        except StoppedError:
            found = {}
        (folder / f"{run['name']}-{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), json.loads(sys.argv[4]))
