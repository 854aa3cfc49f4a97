"""Training a codec: exact resume, exponential moving average, latent statistics.

Everything random comes from the seed and the step (`batches.generator_for`), and a checkpoint holds the weights, their moving
average and the optimiser's moments, so a training that was interrupted ends in the same bits as one that was not.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from model_core.codec.adversary import AdversarialTraining, Adversary
from model_core.codec.autoencoder import Codec, Encoder, build_codec
from model_core.codec.batches import CropSampler, crop_sampler, frames_of, generator_for
from model_core.codec.causal_autoencoder import CausalEncoder
from model_core.codec.causal_config import CausalConfig
from model_core.codec.checkpoint import CHECKPOINT_NAME, damaged, moments_of, read_checkpoint, restore_moments, write_checkpoint
from model_core.codec.config import CodecConfig, LatentConfig
from model_core.codec.losses import LossWeights, codec_loss
from model_core.codec.patch_pca import fit_patch_pca, initialise_from_pca
from model_core.codec.perceptual import SIDE_MULTIPLE, PerceptualLoss
from model_core.codec.statistics import latent_statistics
from model_core.device import DeviceName, select_device
from model_core.errors import BadDataError, BadModelError, TrainingDivergedError
from model_core.memory import memory_named

_ADAM_BETAS = (0.9, 0.99)
_DETERMINISTIC_CUBLAS = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts; without it sums may run in any order
_INITIAL_LOG_VARIANCE = -6.0
_CPU = torch.device("cpu")
_NOISE_STREAM = 1 << 31  # noise of a step comes from another stream than its crops


@dataclass(frozen=True, kw_only=True)
class CodecTraining:
    """How a codec is trained.

    Attributes:
        num_steps: Batches to train on.
        batch_size: Crops in a batch.
        crop_size: Side of a crop in pixels.
        crop_frames: Frames of a crop where a codec that compresses in time learns from clips; all where there are fewer.
        divisors: The scales: a batch holds crops of the pictures divided by each of these.
        learning_rate: AdamW's rate after warm-up; it falls to zero along a cosine.
        warmup_steps: Steps over which the rate rises.
        ema_decay: Decay of the moving average of weights.
        gradient_clip: Largest norm of a gradient.
        latent_noise: Noise is added to sampled latents with a standard deviation drawn evenly from 0 to this many of theirs, so
            that the decoder forgives what a diffusion model gets slightly wrong.
        weights: Weights of the loss's terms.
        adversarial: How a discriminator takes part, if one does.
        checkpoint_every: Steps between checkpoints.
        seed: Decides weights, batches and noise.
    """

    num_steps: int
    batch_size: int = 32
    crop_size: int = 32
    crop_frames: int = 16
    divisors: tuple[int, ...] = (1, 2)
    learning_rate: float = 2e-3
    warmup_steps: int = 100
    ema_decay: float = 0.998
    gradient_clip: float = 1.0
    latent_noise: float = 0.0
    weights: LossWeights = field(default_factory=LossWeights)
    adversarial: AdversarialTraining | None = None
    checkpoint_every: int = 200
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class CodecProgress:
    """How far a training has come.

    Attributes:
        step: Steps done.
        num_steps: Steps in all.
        loss: The last step's loss.
    """

    step: int
    num_steps: int
    loss: float


@dataclass(frozen=True, kw_only=True)
class TrainedCodec:
    """A finished training.

    Attributes:
        codec: The moving average of the weights, with latent statistics, in evaluation mode.
        losses: The total loss of each step.
    """

    codec: Codec
    losses: tuple[float, ...]


def learning_rate_at(step: int, training: CodecTraining) -> float:
    """Returns the rate of a step: a linear rise, then a cosine down to zero (Loshchilov & Hutter 2016, arXiv 1608.03983)."""
    rise = min(1.0, (step + 1) / max(1, training.warmup_steps))
    return training.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * step / training.num_steps))


def ema_decay_at(step: int, training: CodecTraining) -> float:
    """Returns the decay of a step: smaller at first, so that the start is forgotten."""
    return min(training.ema_decay, (1 + step) / (10 + step))


class CodecTrainer:
    """The state of a training; `step` advances it, `save` and `restore` keep it.

    Args:
        config: The codec's architecture, without latent statistics.
        training: How to train.
        frames: Training pictures, square, values in [-1, 1]; clips for a codec that compresses in time.
        perceptual: The distance of the loss's perceptual term, where that has a weight.
        device: Where to compute; first weights, crops and noise are drawn on the CPU, the same for every device.

    Raises:
        BadDataError: The pictures are not finite, or cannot be cropped as asked.
        BadModelError: The loss, the codec and the crops do not fit together.
    """

    def __init__(
        self,
        config: LatentConfig,
        training: CodecTraining,
        frames: Float[Tensor, "n 3 *t side side"],
        perceptual: PerceptualLoss | None = None,
        *,
        device: torch.device = _CPU,
    ) -> None:
        self.training, self.device = training, device
        self.config = replace(config, latent_mean=(), latent_std=())
        self.config.latent_shape(1, training.crop_size, training.crop_size)
        _check_loss(config, training, perceptual)
        self.perceptual = perceptual.to(device) if perceptual is not None and training.weights.perceptual > 0 else None
        _check_axes(config, frames)
        self.sampler: CropSampler = crop_sampler(
            frames,
            divisors=training.divisors,
            crop_size=training.crop_size,
            crop_frames=training.crop_frames,
            batch_size=training.batch_size,
            seed=training.seed,
        )
        self.codec = _initial_codec(self.config, training, self.sampler).to(device)
        self.ema = {name: tensor.detach().clone() for name, tensor in self.codec.state_dict().items()}
        self.parameters = dict(self.codec.named_parameters())
        self.optimiser = torch.optim.AdamW(
            self.parameters.values(), lr=training.learning_rate, betas=_ADAM_BETAS, weight_decay=0.0
        )
        plan = training.adversarial
        self.adversary = None
        if plan is not None:
            self.adversary = Adversary(plan, crop_size=training.crop_size, seed=training.seed, device=device)
        self.losses: list[float] = []

    @property
    def num_done(self) -> int:
        """Steps done."""
        return len(self.losses)

    def step(self) -> float:
        """Trains on one batch and returns its loss.

        Raises:
            TrainingDivergedError: The loss is not finite.
        """
        training, step = self.training, self.num_done
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate_at(step, training)
        crops = self.sampler.draw(step).to(self.device)  # [n 3 *t size size]
        generator = generator_for(training.seed, step + _NOISE_STREAM)
        posterior = self.codec.posterior(crops)
        latents = _disturb(posterior.sample(generator), training.latent_noise, generator)
        pixels = self.codec.pixels(latents)
        frames, reconstruction = frames_of(crops), frames_of(pixels[:, :, -crops.shape[2] :] if crops.ndim == 5 else pixels)
        loss = codec_loss(frames, reconstruction, posterior, training.weights, self.perceptual)
        total, adversary = loss.total, self.adversary
        if adversary is not None and adversary.takes_part(step):
            total = total + adversary.codec_loss(reconstruction, loss.reconstruction, self.codec.last_weight)
        value = total.item()
        if not math.isfinite(value):
            raise TrainingDivergedError(f"the codec's loss is {value} at step {step + 1}", hint="lower learning_rate")
        self._descend(total, step)
        if adversary is not None and adversary.takes_part(step):
            adversary.step(frames, reconstruction)
        self.losses.append(value)
        return value

    def _descend(self, total: Tensor, step: int) -> None:
        """Takes one step down the loss and moves the average of the weights."""
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.training.gradient_clip)
        self.optimiser.step()
        decay = ema_decay_at(step, self.training)
        with torch.no_grad():
            for name, tensor in self.codec.state_dict().items():
                self.ema[name].lerp_(tensor, 1 - decay)

    def digest(self) -> str:
        """Returns a digest of all that decides the result but the pictures, which a checkpoint's place decides."""
        left_out = {"checkpoint_every"} if self.config.temporal_factor > 1 else {"checkpoint_every", "crop_frames"}
        plan = {key: value for key, value in asdict(self.training).items() if key not in left_out}
        network = None if self.perceptual is None else self.perceptual.digest
        text = json.dumps({"codec": self.config.to_dict(), "training": plan, "perceptual": network}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def save(self, folder: Path) -> None:
        """Writes a checkpoint, atomically."""
        tensors = {f"model/{name}": tensor for name, tensor in self.codec.state_dict().items()}
        tensors |= {f"ema/{name}": tensor for name, tensor in self.ema.items()}
        tensors |= moments_of(self.optimiser, self.parameters)
        if self.adversary is not None:
            tensors |= self.adversary.tensors()
        tensors["losses"] = torch.tensor(self.losses, dtype=torch.float64)
        write_checkpoint(folder, tensors, plan=self.digest())

    def restore(self, folder: Path) -> bool:
        """Goes on from a checkpoint where there is one of this training; returns whether there was.

        Raises:
            BadModelError: The checkpoint is damaged.
        """
        path = folder / CHECKPOINT_NAME
        tensors = read_checkpoint(path, plan=self.digest()) if path.is_file() else None
        if tensors is None:
            return False
        try:
            self._load(tensors)
        except (KeyError, RuntimeError) as error:
            raise damaged(path, error) from error
        return True

    def _load(self, tensors: dict[str, Tensor]) -> None:
        self.losses = tensors["losses"].tolist()
        for name, target in self.codec.state_dict().items():
            target.copy_(tensors[f"model/{name}"])
            self.ema[name].copy_(tensors[f"ema/{name}"])
        restore_moments(self.optimiser, self.parameters, tensors)
        if self.adversary is not None:
            self.adversary.load(tensors)

    def finish(self) -> TrainedCodec:
        """Returns the moving average, on the CPU, with the statistics of its latents on all training pictures, every scale."""
        codec = build_codec(self.config)
        codec.load_state_dict(self.ema)
        mean, std = latent_statistics(codec.eval().to(self.device), self.sampler.scales)
        finished = build_codec(replace(self.config, latent_mean=mean, latent_std=std))
        finished.load_state_dict(self.ema)
        return TrainedCodec(codec=finished.eval().requires_grad_(requires_grad=False), losses=tuple(self.losses))


def train_codec(
    config: LatentConfig,
    training: CodecTraining,
    frames: Float[Tensor, "n 3 *t side side"],
    *,
    scratch: Path,
    perceptual: PerceptualLoss | None = None,
    device: DeviceName = "auto",
    report: Callable[[CodecProgress], None] | None = None,
) -> TrainedCodec:
    """Trains a codec, going on from the checkpoint in `scratch` where there is one.

    Args:
        config: The codec's architecture.
        training: How to train.
        frames: Training pictures, square, values in [-1, 1]; clips for a codec that compresses in time.
        scratch: Where checkpoints lie.
        perceptual: The distance of the loss's perceptual term, where that has a weight.
        device: Where to compute.
        report: Called after each step.

    Raises:
        BadDataError: The pictures are not finite, or cannot be cropped as asked.
        BadModelError: The checkpoint is damaged, the loss, the codec and the crops do not fit together, a batch does not fit into
            memory, or there is no such device.
        TrainingDivergedError: The loss is not finite.
    """
    where = select_device(device)
    crops = f"training the codec: a batch of {training.batch_size} crops of {training.crop_size} px"
    with memory_named(crops, hint="lower batch_size or crop_size"), deterministic_algorithms(where):
        trainer = CodecTrainer(config, training, frames, perceptual, device=where)
        trainer.restore(scratch)
        while trainer.num_done < training.num_steps:
            loss = trainer.step()
            if trainer.num_done % training.checkpoint_every == 0 or trainer.num_done == training.num_steps:
                trainer.save(scratch)
            if report is not None:
                report(CodecProgress(step=trainer.num_done, num_steps=training.num_steps, loss=loss))
        return trainer.finish()


@contextmanager
def deterministic_algorithms(device: torch.device = _CPU) -> Iterator[None]:
    """Has torch refuse algorithms that are not deterministic, or on a GPU warn of them, and puts things back as they were."""
    before, warn_only = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    if device.type == "cuda":
        os.environ.setdefault(*_DETERMINISTIC_CUBLAS)
    torch.use_deterministic_algorithms(mode=True, warn_only=device.type == "cuda")
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)


def _check_axes(config: LatentConfig, frames: Tensor) -> None:
    """Refuses clips for a codec of pictures, and pictures without an axis of frames for a codec of clips.

    Raises:
        BadDataError: They are such.
    """
    if (frames.ndim == 5) != (config.temporal_factor > 1):
        expected = "[n, 3, frames, side, side]" if config.temporal_factor > 1 else "[n, 3, side, side]"
        raise BadDataError(f"training pictures have shape {list(frames.shape)}, the codec learns from {expected}")


def _check_loss(config: LatentConfig, training: CodecTraining, perceptual: PerceptualLoss | None) -> None:
    """Refuses a loss that the codec or the crops cannot have.

    Raises:
        BadModelError: It is one.
    """
    if isinstance(config, CodecConfig) and config.posterior == "deterministic" and training.weights.kl > 0:
        raise BadModelError("a deterministic codec has no KL divergence", hint="set kl_weight to 0")
    if training.weights.perceptual > 0 and perceptual is None:
        raise BadModelError("the perceptual term has a weight, but there is no network for it")
    if training.weights.perceptual > 0 and training.crop_size % SIDE_MULTIPLE:
        raise BadModelError(
            f"crops of {training.crop_size} px have no perceptual distance", hint=f"use a multiple of {SIDE_MULTIPLE} px"
        )


def _initial_codec(config: LatentConfig, training: CodecTraining, sampler: CropSampler) -> Codec:
    """Returns the codec to start from.

    A compact or a causal one starts with the pictures' patch PCA as its linear path and a nonlinear path that adds nothing yet.
    """
    codec = build_codec(config, seed=training.seed)
    if isinstance(config, CodecConfig) and isinstance(codec.encoder, Encoder | CausalEncoder):
        frames = torch.cat([_tiles(scale, training.crop_size) for scale in sampler.scales])
        pca = fit_patch_pca(
            frames,
            downscale=config.downscale,
            num_components=config.latent_channels,
            num_frames=config.temporal_downscale if isinstance(config, CausalConfig) else None,
        )
        initialise_from_pca(codec, pca)
        with torch.no_grad():
            codec.encoder.out.bias[config.latent_channels :].fill_(_INITIAL_LOG_VARIANCE)  # type: ignore[index]  # it has a bias
    return codec.train()


def _tiles(frames: Tensor, size: int) -> Float[Tensor, "n 3 *t size size"]:
    """Returns the tiles of pictures or clips, leaving out what is left over at the edges."""
    tiles = frames.unfold(-2, size, size).unfold(-2, size, size)  # [n 3 *t rows columns size size]
    return tiles.movedim((-4, -3), (1, 2)).flatten(0, 2)


def _disturb(latents: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Adds gaussian noise, its strength drawn for each item and counted in standard deviations of each channel."""
    if strength == 0.0:
        return latents
    std = latents.detach().std(dim=(0, *range(2, latents.ndim)), keepdim=True)  # [1 c *1 1 1]
    strengths = strength * torch.rand(len(latents), *(1,) * (latents.ndim - 1), generator=generator).to(latents)
    return latents + strengths * std * torch.randn(latents.shape, generator=generator).to(latents)
