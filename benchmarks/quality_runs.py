"""Trains a recipe for a budget and judges it at several points: the part that benchmarks of quality share.

Everything lies under one folder and is found again: an interrupted training goes on from its checkpoint, a finished one is not
repeated, nor is a judgement of the same weights sampled alike. A run's folder is named after a digest of all that decides its
weights, so a changed recipe never meets an old result.
"""

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.command import digest_of, machine, read_json, write_json
from benchmarks.fashion import Pictures
from benchmarks.spaces import Space, SpaceName, open_space, write_latents
from model_core.data.importers.fashion_mnist import LABELS
from model_core.data.latents import LatentDataset
from model_core.errors import BadDataError
from model_core.training.checkpoint import CHECKPOINT_NAME, read_checkpoint
from model_core.training.config import TrainingConfig
from model_core.training.loop import StepProgress, train
from model_core.transformer.config import TransformerConfig

_CALIBRATION_STEPS = 12
_UNCOUNTED_STEPS = 3
_EMA = "ema."
_CHECKPOINT_TIMEOUT_S, _POLL_S = 60.0, 0.02
PLAN_NAME, TIMES_NAME = "plan.json", "times.json"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One way to train and sample.

    Attributes:
        name: What it is called in tables.
        training: Changes to `TrainingConfig`'s defaults; its length and seed come from the benchmark.
        architecture: Changes to `TransformerConfig`'s defaults; channels and labels come from the data.
        space: Where the transformer works.
        sampler: How it is sampled; the objective's default sampler if None.
        num_sampling_steps: Steps of the sampler.
        guidance_scale: s of P8.
    """

    name: str
    training: Mapping[str, Any] = field(default_factory=dict)
    architecture: Mapping[str, Any] = field(default_factory=dict)
    space: SpaceName = "pixels"
    sampler: str | None = None
    num_sampling_steps: int = 20
    guidance_scale: float = 1.0

    def changed(
        self,
        name: str,
        *,
        training: Mapping[str, Any] | None = None,
        architecture: Mapping[str, Any] | None = None,
        **values: Any,
    ) -> "Recipe":
        """Returns the recipe under another name with some values of its own."""
        return replace(
            self,
            name=name,
            training={**self.training, **(training or {})},
            architecture={**self.architecture, **(architecture or {})},
            **values,
        )


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long a recipe is trained: a wall-clock time or a number of steps.

    Attributes:
        seconds: Time; steps follow from what a step was measured to take.
        steps: Steps.
        num_snapshots: How often the averaged weights are kept: at the end, at half of it, at a quarter, and so on.
    """

    seconds: float | None = None
    steps: int | None = None
    num_snapshots: int = 4

    def __post_init__(self) -> None:
        """Refuses both and neither."""
        if (self.seconds is None) == (self.steps is None):
            raise BadDataError("a budget is either seconds or steps", hint="give one of --seconds and --steps")


@dataclass(frozen=True, kw_only=True)
class Run:
    """A recipe in training, or trained.

    Attributes:
        folder: Where all of it lies.
        recipe: How.
        seed: Decides weights, order, noise.
        budget: How long.
        training: The whole training configuration.
        architecture: The whole network.
        calibration: What a step was measured to take, seconds.
    """

    folder: Path
    recipe: Recipe
    seed: int
    budget: Budget
    training: TrainingConfig
    architecture: TransformerConfig
    calibration: float | None

    @property
    def snapshot_steps(self) -> list[int]:
        """The steps after which weights are kept."""
        return [self.training.num_steps >> shift for shift in reversed(range(self.budget.num_snapshots))]

    def snapshot(self, step: int) -> Path:
        """Returns where the averaged weights of a step lie."""
        return self.folder / "snapshots" / f"step-{step:06d}.safetensors"

    def times(self) -> dict[int, float]:
        """Returns the seconds of training up to each step for which they were written down."""
        path = self.folder / TIMES_NAME
        return {int(step): float(seconds) for step, seconds in read_json(path).items()} if path.is_file() else {}

    def is_finished(self) -> bool:
        """Returns whether every snapshot is there."""
        return all(self.snapshot(step).is_file() for step in self.snapshot_steps)


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """The data, and a folder for all that is made from them.

    Attributes:
        out: The folder.
        train: The pictures to learn from.
        codec: Folder of a trained codec, for recipes that work on its latents.
    """

    out: Path
    train: Pictures
    codec: Path | None = None

    def space(self, name: SpaceName) -> Space:
        """Returns a space of these data."""
        return open_space(name, self.train, codec=self.codec)

    def latents(self, space: Space) -> LatentDataset:
        """Returns the training pictures in a space, encoded once."""
        return write_latents(space, self.train, self.out / "latents" / f"{space.name}-{space.digest[:12]}")


def open_run(recipe: Recipe, seed: int, budget: Budget, workplace: Workplace) -> Run:
    """Returns the run of a recipe, with its number of steps decided: at the first call, and kept.

    Recipes that differ in sampling alone share a run.

    Raises:
        BadDataError: A value is no known setting, or the recipe's data are missing.
        BadModelError: A value is out of range.
    """
    space = workplace.space(recipe.space)
    latents = workplace.latents(space)
    architecture: TransformerConfig = _configured(
        TransformerConfig,
        recipe,
        {"in_channels": latents.config.latent_shape[0], "num_labels": len(LABELS), **recipe.architecture},
    )
    architecture.grid(latents.config.latent_shape)
    key = {
        "training": dict(recipe.training),
        "architecture": architecture.to_dict(),
        "seed": seed,
        "budget": asdict(budget),
        "space": space.digest,
        "data": workplace.train.digest,
        "threads": torch.get_num_threads(),
    }
    folder = workplace.out / "runs" / f"{recipe.training.get('objective', 'rectified_flow')}-{seed}-{digest_of(key)[:12]}"
    if not (folder / PLAN_NAME).is_file():
        cost = None
        if budget.seconds is not None:
            probe = _training_config(recipe, seed, num_steps=_CALIBRATION_STEPS, every=_CALIBRATION_STEPS)
            cost = _seconds_per_step(probe, architecture, latents, folder / "calibration")
        wanted = budget.steps if budget.steps is not None else int((budget.seconds or 0) / (cost or 1))
        smallest = 1 << (budget.num_snapshots - 1)
        plan = {
            "key": key,
            "recipe": asdict(recipe),
            "num_steps": max(smallest, wanted // smallest * smallest),
            "seconds_per_step": cost,
            "machine": machine(),
        }
        write_json(folder / PLAN_NAME, plan)
    return replace(_read_run(folder), recipe=recipe)


def reopen_run(folder: Path, workplace: Workplace) -> Run:
    """Returns a run that an earlier call made, by its folder.

    Raises:
        BadDataError: There is none, it is unfinished, or it learnt from other pictures.
    """
    if not (folder / PLAN_NAME).is_file():
        made = sorted(path.parent.name for path in (workplace.out / "runs").glob(f"*/{PLAN_NAME}"))
        raise BadDataError(
            f"{folder} holds no run", hint=f"there are {', '.join(made)}" if made else "make one with benchmarks.quality_time"
        )
    run = _read_run(folder)
    if read_json(folder / PLAN_NAME)["key"]["data"] != workplace.train.digest:
        raise BadDataError(f"{folder} learnt from other pictures than those of --data", hint="give the same --data as then")
    if not run.is_finished():
        raise BadDataError(f"{folder} is not trained to its end", hint="finish it with the command that began it")
    return run


def _read_run(folder: Path) -> Run:
    plan = read_json(folder / PLAN_NAME)
    try:
        recipe, budget = Recipe(**plan["recipe"]), Budget(**plan["key"]["budget"])
        num_steps, seed, cost = int(plan["num_steps"]), int(plan["key"]["seed"]), plan["seconds_per_step"]
        architecture = TransformerConfig.from_dict(plan["key"]["architecture"])
    except (KeyError, TypeError) as error:
        raise BadDataError(f"{folder / PLAN_NAME} lacks {error}", hint="remove the folder; it is made again") from error
    every = num_steps >> (budget.num_snapshots - 1)
    return Run(
        folder=folder,
        recipe=recipe,
        seed=seed,
        budget=budget,
        training=_training_config(recipe, seed, num_steps=num_steps, every=every),
        architecture=architecture,
        calibration=cost,
    )


def _training_config(recipe: Recipe, seed: int, *, num_steps: int, every: int) -> TrainingConfig:
    values = {
        "drop_label": 0.0,  # dropped with all, which is the null condition; there are no captions
        **recipe.training,
        "num_steps": num_steps,
        "seed": seed,
        "checkpoint_every_steps": every,
        "checkpoint_every_s": 1e9,
    }
    config: TrainingConfig = _configured(TrainingConfig, recipe, values)
    return config


def _configured(kind: Any, recipe: Recipe, values: Mapping[str, Any]) -> Any:
    try:
        return kind(**values)
    except TypeError as error:
        raise BadDataError(f"recipe {recipe.name!r}: {error}", hint="its settings are fields of this configuration") from error


def train_run(run: Run, workplace: Workplace, *, on_step: Callable[[StepProgress], None] = lambda _: None) -> None:
    """Trains a run to its end, from wherever it stopped, and keeps snapshots of its averaged weights."""
    _keep_snapshot(run)  # a kill may have come between the checkpoint and its copy
    if run.is_finished():
        return
    with _Clock(run) as clock:

        def after_step(progress: StepProgress) -> None:
            clock.stop(progress.step)
            if progress.step in run.snapshot_steps:
                _await_checkpoint(run, progress.step)
                _keep_snapshot(run)
                clock.save()
            on_step(progress)
            clock.start()

        scratch = run.folder / "scratch"
        scratch.mkdir(parents=True, exist_ok=True)
        latents = workplace.latents(workplace.space(run.recipe.space))
        clock.start()
        train(run.training, run.architecture, latents, scratch=scratch, device="cpu", on_step=after_step)
        _keep_snapshot(run)
    if run.is_finished():
        shutil.rmtree(scratch)  # ten times the size of what is kept


class _Clock:
    """Seconds of training by step, over all attempts; what is done between steps by others is not counted."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._times = run.times()
        self._elapsed: float | None = None
        self._started = 0.0
        self._step = 0

    def __enter__(self) -> "_Clock":
        return self

    def __exit__(self, *_: object) -> None:
        self.save()

    def start(self) -> None:
        self._started = time.perf_counter()

    def stop(self, step: int) -> None:
        passed = time.perf_counter() - self._started
        if self._elapsed is None:
            self._elapsed = self._before(step - 1)
        self._elapsed += passed
        self._step = step
        if step in self._run.snapshot_steps:
            self._times[step] = self._elapsed

    def save(self) -> None:
        if self._elapsed is not None:
            times = {**self._times, self._step: self._elapsed}
            write_json(self._run.folder / TIMES_NAME, {str(step): round(times[step], 3) for step in sorted(times)})

    def _before(self, step: int) -> float:
        """Returns what an earlier attempt took to a step, in proportion where it was killed before it could say."""
        if step == 0:
            return 0.0
        if step in self._times:
            return self._times[step]
        known = max((other for other in self._times if other > 0), default=0)
        return self._times[known] * step / known if known else step * (self._run.calibration or 0.0)


def _await_checkpoint(run: Run, step: int) -> None:
    """Waits until the training loop, which writes checkpoints while it goes on, has written that of a step."""
    path = run.folder / "scratch" / CHECKPOINT_NAME
    for _ in range(round(_CHECKPOINT_TIMEOUT_S / _POLL_S)):  # where it cannot be written, the training loop says why
        if path.is_file() and read_checkpoint(path).step == step:
            return
        time.sleep(_POLL_S)


def _keep_snapshot(run: Run) -> None:
    """Copies the averaged weights out of the checkpoint, where it is at one of the steps to keep."""
    path = run.folder / "scratch" / CHECKPOINT_NAME
    if not path.is_file():
        return
    checkpoint = read_checkpoint(path)
    target = run.snapshot(checkpoint.step)
    if checkpoint.step not in run.snapshot_steps or target.is_file():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    weights = {name.removeprefix(_EMA): tensor for name, tensor in checkpoint.tensors.items() if name.startswith(_EMA)}
    partial = target.with_name(f"{target.name}.partial")
    save_file(weights, partial)
    partial.replace(target)


def load_snapshot(run: Run, step: int) -> dict[str, Tensor]:
    """Returns the averaged weights of a step.

    Raises:
        BadDataError: The run has not come so far.
    """
    path = run.snapshot(step)
    if not path.is_file():
        raise BadDataError(f"{path} does not exist", hint="train the recipe first: the same command without --only evaluate")
    found: dict[str, Tensor] = load_file(path)
    return found


def _seconds_per_step(config: TrainingConfig, architecture: TransformerConfig, latents: LatentDataset, scratch: Path) -> float:
    """Returns the median wall-clock time of a step, the first few left out."""
    scratch.mkdir(parents=True, exist_ok=True)
    (scratch / CHECKPOINT_NAME).unlink(missing_ok=True)
    times = [time.perf_counter()]
    train(config, architecture, latents, scratch=scratch, device="cpu", on_step=lambda _: times.append(time.perf_counter()))
    (scratch / CHECKPOINT_NAME).unlink(missing_ok=True)
    return median(after - before for before, after in zip(times[_UNCOUNTED_STEPS:], times[_UNCOUNTED_STEPS + 1 :], strict=False))
