"""Trains a diffusion transformer on latents: deterministic, resumable, stopped by a loss that is not finite.

One step is the same work however it is divided: into parts whose gradients are summed, and among processes.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from model_core.data.latents import LatentDataset
from model_core.device import DeviceName, select_device
from model_core.errors import BadModelError
from model_core.memory import memory_named
from model_core.training.adaptation import Adaptation
from model_core.training.batch import Batch, draw_batch, objective_of, require_fit
from model_core.training.checkpoint import CHECKPOINT_NAME, Checkpoint, CheckpointWriter, read_checkpoint
from model_core.training.config import TrainingConfig
from model_core.training.distributed import Distributed, lost_workers_named
from model_core.training.divergence import divergence
from model_core.training.precision import ResolvedPrecision, matmul_dtype, resolve_precision
from model_core.training.state import TrainingState
from model_core.training.throughput import MatmulPeak, Throughput, throughput_of, widest_matmul
from model_core.training.whitened_captions import WhitenedCaptions
from model_core.transformer.config import TransformerConfig

_ALONE = Distributed()


@dataclass(frozen=True, kw_only=True)
class StepProgress:
    """How far a training run has come.

    Attributes:
        step: Steps done.
        num_steps: Steps in all.
        loss: Loss of the last step.
        steps_per_s: Speed since this process started or resumed.
        seconds_left: Estimate for the rest.
        images_per_s: Items trained on a second, over all processes.
        tokens_per_s: Their tokens.
        model_flops_per_s: Floating-point operations of the model's matmuls a second, forward and backward.
        share_of_peak: Those over what the machine reaches in one large matmul; None where that was not measured.
    """

    step: int
    num_steps: int
    loss: float
    steps_per_s: float
    seconds_left: float
    images_per_s: float
    tokens_per_s: float
    model_flops_per_s: float
    share_of_peak: float | None


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """What a finished run leaves.

    Attributes:
        weights: Averaged weights by name of each trained parameter.
        losses: Loss of every step.
        num_parameters: Number of trained numbers.
        resumed_from: Steps that a checkpoint had already done; 0 for a run from the beginning.
        precision: Precision of the matmuls.
        is_main: Whether it is this process, of those that trained together, that writes what is left.
    """

    weights: dict[str, Tensor]
    losses: list[float]
    num_parameters: int
    resumed_from: int
    precision: ResolvedPrecision
    is_main: bool = True


def train(
    config: TrainingConfig,
    architecture: TransformerConfig,
    latents: LatentDataset,
    *,
    scratch: Path,
    device: DeviceName = "auto",
    distributed: Distributed = _ALONE,
    adaptation: Adaptation | None = None,
    on_step: Callable[[StepProgress], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
    matmul_peak: MatmulPeak | None = None,
) -> TrainingResult:
    """Trains on the train split and returns the averaged weights.

    A checkpoint in ``scratch`` of the same work is resumed, to the same losses and weights as a run that was never stopped, by
    any number of processes. On KeyboardInterrupt a checkpoint is written before it goes on its way.

    Args:
        config: Hyperparameters.
        architecture: The network.
        latents: What to train on.
        scratch: Folder for checkpoints, the same for all processes; it is found again by the next attempt.
        device: Where to compute.
        distributed: This process's place among others, which call this with the same arguments.
        adaptation: A trained network to start from, of which adapters alone are learnt; the result holds these. From the
            beginning if not given.
        on_step: Called after every step.
        clock: Seconds, for speed and for when to write checkpoints.
        matmul_peak: Measures what the machine reaches in a matmul, once, before the first step; not measured if not given.

    Raises:
        BadDataError: The train split is empty, or holds latents that are not finite or do not fit the network.
        BadModelError: The checkpoint is unreadable or of another architecture, the architecture does not fit the latents or the
            objective, a step does not fit into memory, or there is no such device.
        TrainingDivergedError: A loss or gradient is not finite; the step's inputs lie in ``scratch``.
        WorkerLostError: Another process is gone.
    """
    where = select_device(device, index=distributed.place)
    with (
        lost_workers_named(distributed),
        CheckpointWriter(scratch / CHECKPOINT_NAME) as writer,
        closing(_Run(config, architecture, latents, scratch, where, distributed, adaptation)) as run,
    ):
        resumed_from = run.resume()
        peak = run.peak(matmul_peak) if matmul_peak and run.state.step < config.num_steps else None
        throughput = throughput_of(
            config,
            architecture,
            latents.config.latent_shape,
            text_tokens=latents.longest_caption if architecture.reads_text_states else 0,
            peak_flops_per_s=peak,
        )
        try:
            started = saved_at = clock()
            for loss in run.steps():
                now = clock()
                due = distributed.agreed(now - saved_at >= config.checkpoint_every_s, run.device)
                if due or run.state.step % config.checkpoint_every_steps == 0:
                    run.save(writer)
                    saved_at = clock()
                on_step(_progress(run.state, loss, throughput, done=run.state.step - resumed_from, elapsed=now - started))
        except KeyboardInterrupt:
            if run.state_is_whole and not distributed.is_sharded:  # a process cannot collect the others' slices on its own
                run.save(writer)
            raise
        run.save(writer)
        return TrainingResult(
            weights=run.averaged_weights(),
            losses=run.state.losses.tolist(),
            num_parameters=run.state.num_parameters,
            resumed_from=resumed_from,
            precision=run.precision,
            is_main=distributed.is_main,
        )


class _Run:
    """A training run in this process."""

    def __init__(
        self,
        config: TrainingConfig,
        architecture: TransformerConfig,
        latents: LatentDataset,
        scratch: Path,
        device: torch.device,
        distributed: Distributed,
        adaptation: Adaptation | None,
    ) -> None:
        latents = latents if adaptation is None else latents.with_labels(adaptation.labels)
        self._rows = latents.rows("train")
        require_fit(config, architecture, latents, self._rows, num_processes=distributed.world_size)
        self._whitened = None
        if config.whiten_captions and architecture.reads_pooled_text and adaptation is None:
            self._whitened = WhitenedCaptions.fit(_captions(latents, self._rows))
        self.config, self.architecture = config, architecture
        self.latents = latents if self._whitened is None else latents.with_embeddings(self._whitened(latents.embeddings))
        self.scratch, self.device, self.distributed = scratch, device, distributed
        self.precision = resolve_precision(config.precision, device)
        self.objective = objective_of(config)
        self._work = {
            "training": {**config.hyperparameters(), "precision": self.precision},
            "architecture": architecture.to_dict(),
            "codec_digest": latents.config.codec_digest,
            "dataset_digest": latents.config.dataset_digest,
            **({} if adaptation is None else {"adaptation": adaptation.work()}),
        }
        with _memory_named(config):
            self.state = TrainingState(
                config,
                architecture,
                device=device,
                precision=self.precision,
                distributed=distributed,
                adaptation=adaptation,
            )
        self.state_is_whole = True  # False while an optimiser step is half applied and must not be saved

    def steps(self) -> Iterator[float]:
        """Takes the steps that are left and yields the loss of each."""
        if self.state.step >= self.config.num_steps:
            return
        with _memory_named(self.config):
            batch = self._draw(self.state.step)
        while True:
            step = self.state.step
            with _memory_named(self.config):
                loss = self.state.backward(batch, self.objective)
                norm = self.state.gradient_norm()
                if step + 1 < self.config.num_steps:
                    batch = self._draw(step + 1)  # while a GPU is still busy with what was asked of it
                self._require_finite(step, float(loss), float(norm))
                self.state_is_whole = False
                self.state.apply(float(loss), float(norm))
                self.state_is_whole = True
            yield float(loss)
            if step + 1 == self.config.num_steps:
                return

    def resume(self) -> int:
        """Restores a checkpoint of the same work, if there is one, and returns the steps that it had done."""
        path = self.scratch / CHECKPOINT_NAME
        if path.is_file():
            checkpoint = read_checkpoint(path)
            _require_same_architecture(checkpoint, self.architecture, path)
            if checkpoint.work == self._work:  # else scratch was used for other work before: begin anew
                self.state.restore(checkpoint.tensors, checkpoint.step, source=path)
        self.distributed.require_same(self.state.step, "the step that they resume from", self.device)
        return self.state.step

    def averaged_weights(self) -> dict[str, Tensor]:
        """Returns the averaged weights, for captions as they are."""
        weights = self.state.averaged_weights()
        return weights if self._whitened is None else self._whitened.folded(weights)

    def save(self, writer: CheckpointWriter) -> None:
        """Begins to write a checkpoint."""
        writer.wait()
        step, tensors = self.state.step, self.state.snapshot()
        if self.distributed.is_main:
            writer.save(Checkpoint(step=step, work=self._work, tensors=tensors))

    def close(self) -> None:
        """Lets go of the other processes."""
        self.state.close()

    def peak(self, measure: MatmulPeak) -> float:
        """Returns the FLOP/s that all processes together reach in the network's widest product."""
        items = math.ceil(self.config.batch_size / self.distributed.world_size / self.config.accumulate_steps)
        shape = widest_matmul(self.architecture, self.latents.config.latent_shape, items)
        mine = torch.tensor(measure(shape, self.device, matmul_dtype(self.precision)), dtype=torch.float32, device=self.device)
        return float(self.distributed.total(mine))

    def _draw(self, step: int) -> Batch:
        return self._drawn(step, self.distributed.share).to(self.device)

    def _drawn(self, step: int, share: Callable[[int], slice]) -> Batch:
        return draw_batch(step, self.config, self.architecture, self.latents, self._rows, objective=self.objective, share=share)

    def _require_finite(self, step: int, loss: float, norm: float) -> None:
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise divergence(
                step,
                loss,
                norm,
                batch=self._drawn(step, slice),
                gradients=self.state.gradients(),
                folder=self.scratch,
                distributed=self.distributed,
            )


def _captions(latents: LatentDataset, rows: list[int]) -> Tensor:
    """Returns the embeddings of the items that have a caption."""
    captioned = [row for row, caption in zip(rows, latents.caption_indices(rows).tolist(), strict=True) if caption >= 0]
    return latents.caption_embeddings(captioned)


def _memory_named(config: TrainingConfig) -> AbstractContextManager[None]:
    return memory_named(
        f"training: a batch of {config.batch_size} in {config.accumulate_steps} part(s)",
        hint="lower batch_size, raise accumulate_steps, or turn on activation_checkpointing",
    )


def _require_same_architecture(checkpoint: Checkpoint, architecture: TransformerConfig, path: Path) -> None:
    found = checkpoint.work.get("architecture")
    if not isinstance(found, dict) or TransformerConfig.from_dict(found) != architecture:
        raise BadModelError(
            f"{path} is a checkpoint of another architecture", hint="remove it to train from the beginning, or use another folder"
        )


def _progress(state: TrainingState, loss: float, throughput: Throughput, *, done: int, elapsed: float) -> StepProgress:
    speed = done / elapsed if elapsed > 0 else 0.0
    return StepProgress(
        step=state.step,
        num_steps=state.config.num_steps,
        loss=loss,
        steps_per_s=speed,
        seconds_left=(state.config.num_steps - state.step) / speed if speed > 0 else 0.0,
        images_per_s=speed * throughput.images_per_step,
        tokens_per_s=speed * throughput.tokens_per_step,
        model_flops_per_s=speed * throughput.flops_per_step,
        share_of_peak=throughput.share_of_peak(speed),
    )
