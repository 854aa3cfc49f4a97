"""The pipelines by name, and their steps in order, without importing kfp."""

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

from components.specs import STEPS

IMPORT_STEP = "import_data"
ENCODE_STEP = "encode_latents"

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


def asks_for_parts(params: Mapping[str, Any]) -> bool:
    """Returns whether steps' configurations, by the step's name, ask for a dataset to be encoded in parts."""
    return int(params.get(ENCODE_STEP, {}).get("parts", 1)) > 1


def whole_of(step: str) -> str:
    """Returns the step that a step does a share of, or else itself: ``encode_latents`` of ``encode_part``."""
    return STEPS[step].whole if step in STEPS else step


def step_of(name: str) -> str:
    """Returns the step of what may be one of its parts: ``generate_batch`` of ``generate_batch-0003``."""
    return whole_of(name.partition("-")[0])


def shown_names(step: str, names: Iterable[str]) -> list[str]:
    """Returns what a run has recorded of a step, in order, and the step itself where that is still to come.

    Args:
        step: The step.
        names: What is recorded of it: itself, its parts, or what does another share of it.
    """
    found = sorted(names, key=_place)
    is_shared = any(whole_of(name.partition("-")[0]) != name.partition("-")[0] for name in found)
    return [*found, *([step] if not found or (is_shared and step not in found) else [])]


def _place(name: str) -> tuple[int, str]:
    """Returns by what the parts of a step are ordered: what plans them, they, what joins them."""
    step = name.partition("-")[0]
    return (list(STEPS).index(step) if step in STEPS else -1, name)


def in_order(pipeline: str, names: Iterable[str]) -> list[str]:
    """Returns steps and parts of a run in the order of its pipeline; of a run of another kind as they come."""
    steps, given = PIPELINES.get(pipeline, ()), list(names)
    if not any(step_of(name) in steps for name in given):
        return given
    return sorted((name for name in given if step_of(name) in steps), key=lambda name: (steps.index(step_of(name)), _place(name)))
