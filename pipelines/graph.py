"""The pipelines by name, and their steps in order, without importing kfp."""

from collections.abc import Iterable
from importlib import import_module
from typing import Any

IMPORT_STEP = "import_data"

PIPELINES: dict[str, tuple[str, ...]] = {
    "training": ("validate_data", "encode_latents", "train_dit", "evaluate", "register_model"),
    "codec": ("validate_data", "train_codec"),
    "finetune": ("validate_data", "encode_latents", "finetune_dit", "evaluate", "register_model"),
    "generation": ("validate_requests", "generate_batch", "collect_results"),
}
_MODULES = {
    "training": "pipelines.training",
    "codec": "pipelines.codec",
    "finetune": "pipelines.finetune",
    "generation": "pipelines.batch_pipeline",
}


def load_pipeline(pipeline: str) -> Any:
    """Returns a pipeline as kfp has it, after importing kfp."""
    return getattr(import_module(_MODULES[pipeline]), pipeline)


def shown_steps(pipeline: str) -> tuple[str, ...]:
    """Returns the steps of a pipeline's run as a person sees them, the import of its data before them where it has data."""
    steps = PIPELINES[pipeline]
    return steps if pipeline == "generation" else (IMPORT_STEP, *steps)


def step_of(name: str) -> str:
    """Returns the step of what may be one of its parts: ``generate_batch`` of ``generate_batch-0003``."""
    return name.partition("-")[0]


def in_order(pipeline: str, names: Iterable[str]) -> list[str]:
    """Returns steps and parts of a run in the order of its pipeline; of a run of another kind as they come."""
    steps, given = PIPELINES.get(pipeline, ()), list(names)
    if not any(step_of(name) in steps for name in given):
        return given
    return sorted((name for name in given if step_of(name) in steps), key=lambda name: (steps.index(step_of(name)), name))
