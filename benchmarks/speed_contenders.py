"""What `benchmarks.transformer_speed` compares: our networks in our training loop, and its peers' in theirs."""

import contextlib
import functools
import importlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from model_core.data.latents import LatentDataset
    from model_core.diffusion.condition import Condition
    from model_core.diffusion.names import ObjectiveName
    from model_core.transformer.config import TransformerConfig
    from model_core.transformer.model_config import ModelConfig

OursName = Literal["ours", "ours-modern", "ours-modern-shared"]
MATMUL = "matmul"
MATMUL_SIZE = {"cpu": 1024, "cuda": 8192}
NUM_LABELS = 1000
GUIDANCE_SCALE = 4.0
_ROWS = 64
_ENDLESS = 1_000_000
_WARM_UP_MATMULS = 2
_DIFFUSERS_DECAY = 0.9999


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all contenders of a measurement have in common.

    Attributes:
        contender: A name of `CONTENDERS`.
        hidden_size: Width of the network.
        depth: Its blocks.
        num_heads: Its heads.
        side: Side of the latents, of four channels.
        batch_size: Latents a step.
        device: ``cpu`` or ``cuda``.
        precision: ``float32``, or ``bfloat16`` for matmuls.
        threads: Threads of the processor.
    """

    contender: str
    hidden_size: int
    depth: int
    num_heads: int
    side: int
    batch_size: int
    device: str
    precision: str
    threads: int

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
        return asdict(self)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Returns a context in which matmuls have the precision."""
        return torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.precision == "bfloat16")


@dataclass(frozen=True, kw_only=True)
class Contender:
    """What is measured of one.

    Attributes:
        num_parameters: Trained numbers.
        forward: One forward pass on a batch of so many latents, with which operations are counted.
        train: Trains without end, calling back after each step.
        sample: Draws a batch with so many guided steps.
    """

    num_parameters: int
    forward: Callable[[int], Tensor]
    train: Callable[[Callable[[], None]], None]
    sample: Callable[[int], object]


def _drawn(settings: Settings) -> tuple[Tensor, Tensor]:
    """Returns latents and labels to learn from."""
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(_ROWS, 4, settings.side, settings.side, generator=generator)
    return latents.to(settings.device), torch.randint(NUM_LABELS, (_ROWS,), generator=generator).to(settings.device)


def _batches(settings: Settings) -> Iterator[tuple[Tensor, Tensor]]:
    latents, labels = _drawn(settings)
    while True:
        chosen = torch.randint(_ROWS, (settings.batch_size,), device=settings.device)
        yield latents[chosen], labels[chosen]


def _asked(settings: Settings) -> tuple[Tensor, Tensor]:
    """Returns noise and labels to sample from."""
    noise = torch.randn(settings.batch_size, 4, settings.side, settings.side, device=settings.device)
    return noise, torch.arange(settings.batch_size, device=settings.device) % NUM_LABELS


def _reference(settings: Settings) -> Contender:
    from benchmarks.peers.dit_reference import ReferenceDiT
    from benchmarks.peers.reference_training import ReferenceTrainer

    model = ReferenceDiT(
        input_size=settings.side,
        hidden_size=settings.hidden_size,
        depth=settings.depth,
        num_heads=settings.num_heads,
        num_classes=NUM_LABELS,
    ).to(settings.device)
    trainer = ReferenceTrainer(model, num_labels=NUM_LABELS)

    def train(after_step: Callable[[], None]) -> None:
        for x_0, labels in _batches(settings):
            with settings.autocast():
                trainer.step(x_0, labels)
            after_step()

    @torch.no_grad()
    def sample(num_steps: int) -> Tensor:
        x_t, labels = _asked(settings)
        both = torch.cat([labels, torch.full_like(labels, NUM_LABELS)])
        for t, previous in _ddim_steps(num_steps, trainer.diffusion.num_timesteps):
            times = torch.full((2 * len(x_t),), t, device=x_t.device)
            with settings.autocast():
                conditional, unconditional = model(torch.cat([x_t, x_t]), times, both)[:, :4].float().chunk(2)
            x_t = trainer.diffusion.ddim_step(unconditional + GUIDANCE_SCALE * (conditional - unconditional), x_t, t, previous)
        return x_t

    def forward(count: int) -> Tensor:
        found: Tensor = model(*_inputs(settings, count))
        return found

    return Contender(num_parameters=_trained(model), forward=forward, train=train, sample=sample)


def _diffusers(settings: Settings) -> Contender:
    from torch.nn import functional

    diffusers: Any = importlib.import_module("diffusers")  # its types are left out
    model = diffusers.DiTTransformer2DModel(
        num_attention_heads=settings.num_heads,
        attention_head_dim=settings.hidden_size // settings.num_heads,
        in_channels=4,
        out_channels=4,
        num_layers=settings.depth,
        sample_size=settings.side,
        patch_size=2,
        num_embeds_ada_norm=NUM_LABELS,
    ).to(settings.device)
    model.train()  # its label embedding drops labels itself
    average = importlib.import_module("diffusers.training_utils").EMAModel(model.parameters(), decay=_DIFFUSERS_DECAY)
    average.to(settings.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    schedule = diffusers.DDPMScheduler(num_train_timesteps=1000)

    def train(after_step: Callable[[], None]) -> None:
        for x_0, labels in _batches(settings):
            noise, t = torch.randn_like(x_0), torch.randint(1000, (len(x_0),), device=x_0.device)
            with settings.autocast():
                predicted = model(schedule.add_noise(x_0, noise, t), timestep=t, class_labels=labels).sample
                loss = functional.mse_loss(predicted.float(), noise)
            loss.backward()  # type: ignore[no-untyped-call]  # torch's own
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            average.step(model.parameters())
            after_step()

    @torch.no_grad()
    def sample(num_steps: int) -> Tensor:
        model.eval()
        steps = diffusers.DDIMScheduler(num_train_timesteps=1000, clip_sample=False)
        steps.set_timesteps(num_steps)
        x_t, labels = _asked(settings)
        both = torch.cat([labels, torch.full_like(labels, NUM_LABELS)])
        for t in steps.timesteps:
            times = t.to(x_t.device).expand(2 * len(x_t))
            with settings.autocast():
                predicted = model(torch.cat([x_t, x_t]), timestep=times, class_labels=both).sample.float()
            conditional, unconditional = predicted.chunk(2)
            x_t = steps.step(unconditional + GUIDANCE_SCALE * (conditional - unconditional), t, x_t).prev_sample
        model.train()
        return x_t

    def forward(count: int) -> Tensor:
        x, t, labels = _inputs(settings, count)
        found: Tensor = model(x, timestep=t, class_labels=labels).sample
        return found

    return Contender(num_parameters=_trained(model), forward=forward, train=train, sample=sample)


def _architecture(settings: Settings, name: OursName) -> "TransformerConfig":
    """Returns a network of ours: compatible with the reference, or as the preset `modern` has it."""
    from model_core.transformer.config import TransformerConfig
    from model_core.transformer.presets import modern

    plain = TransformerConfig(
        in_channels=4,
        patch_size=(1, 2, 2),
        hidden_size=settings.hidden_size,
        depth=settings.depth,
        num_heads=settings.num_heads,
        num_labels=NUM_LABELS,
    )
    match name:
        case "ours":
            return replace(plain, learn_variance=True)
        case "ours-modern":
            return modern(plain)
        case "ours-modern-shared":
            return replace(modern(plain), modulation="shared")


def _ours(settings: Settings, *, name: OursName) -> Contender:
    """Returns a network of ours in our training loop."""
    from model_core.sampling.sample import sample_latents
    from model_core.training.config import TrainingConfig
    from model_core.training.loop import train as train_loop
    from model_core.training.precision import DeviceName
    from model_core.transformer.dit import DiT

    architecture = _architecture(settings, name)
    objective: dict[str, Any] = {"objective": "epsilon", "learn_variance": True} if name == "ours" else {}
    config = TrainingConfig(
        num_steps=_ENDLESS,
        batch_size=settings.batch_size,
        checkpoint_every_steps=_ENDLESS,
        checkpoint_every_s=1e12,
        drop_label=0.0,
        precision="bfloat16" if settings.precision == "bfloat16" else "float32",
        **objective,
    )
    place: DeviceName = "cuda" if settings.device == "cuda" else "cpu"

    def train(after_step: Callable[[], None]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            latents = _latents_folder(settings, Path(folder) / "latents")
            train_loop(config, architecture, latents, scratch=Path(folder), device=place, on_step=lambda _: after_step())

    @functools.cache
    def model() -> DiT:
        return DiT(architecture).to(settings.device)

    def sample(num_steps: int) -> Tensor:
        noise, labels = _asked(settings)
        with settings.autocast():
            return sample_latents(
                model(),
                _model_config(architecture, settings, "epsilon" if name == "ours" else "rectified_flow"),
                noise=noise[:, :, None],
                condition=_condition(labels),
                num_steps=num_steps,
                guidance_scale=GUIDANCE_SCALE,
            )

    def forward(count: int) -> Tensor:
        x, t, labels = _inputs(settings, count)
        return model().predict(x[:, :, None], t.float(), _condition(labels))

    with torch.device("meta"):
        num_parameters = _trained(DiT(architecture))
    return Contender(num_parameters=num_parameters, forward=forward, train=train, sample=sample)


def _condition(labels: Tensor) -> "Condition":
    from model_core.diffusion.condition import Condition

    nothing = torch.zeros(len(labels), 0, device=labels.device)
    return Condition(labels=labels, text=nothing, text_mask=torch.zeros_like(labels, dtype=torch.bool))


def _model_config(architecture: "TransformerConfig", settings: Settings, objective: "ObjectiveName") -> "ModelConfig":
    from model_core.transformer.model_config import Conditioning, ModelConfig, NoiseScheduleId, SamplingDefaults, TextEncoderId

    return ModelConfig(
        architecture=architecture.to_dict(),
        objective=objective,
        noise_schedule=NoiseScheduleId(name="linear", num_timesteps=1000) if objective == "epsilon" else None,
        conditioning=Conditioning(
            labels=[str(label) for label in range(NUM_LABELS)], text_encoder=TextEncoderId(name="none", digest="", dim=1)
        ),
        latent_shape=(4, 1, settings.side, settings.side),
        image_size=8 * settings.side,
        codec_digest="",
        dataset_digest="",
        sampling=SamplingDefaults(num_steps=20, guidance_scale=GUIDANCE_SCALE),
        training={},
    )


def _latents_folder(settings: Settings, folder: Path) -> "LatentDataset":
    """Writes latents as the pipeline does, for a training loop that reads them."""
    from model_core.data.latents import (
        INDEX_SCHEMA,
        LatentDataset,
        LatentsConfig,
        TextEncoderInfo,
        shard_name,
        write_index,
        write_shard,
    )

    latents, labels = _drawn(settings)
    write_shard(folder, 0, latents[:, :, None].cpu())
    entries = [
        {"shard": shard_name(0), "row": row, "sha256": "", "split": "train", "label_index": int(label), "caption_index": -1}
        for row, label in enumerate(labels.tolist())
    ]
    config = LatentsConfig(
        codec_digest="",
        dataset_digest="",
        latent_shape=(4, 1, settings.side, settings.side),
        image_size=8 * settings.side,
        labels=tuple(str(label) for label in range(NUM_LABELS)),
        text_encoder=TextEncoderInfo(name="none", digest="", dim=1),
    )
    write_index(
        folder, config, pa.Table.from_pylist(entries, schema=INDEX_SCHEMA), captions=["none"], embeddings=torch.zeros(1, 1)
    )
    return LatentDataset.open(folder)


def _matmul(settings: Settings) -> Contender:
    """Returns the machine's own measure: products of square matrices, "trained" one after the other."""
    size = MATMUL_SIZE[settings.device]
    dtype = torch.bfloat16 if settings.precision == "bfloat16" else torch.float32
    a, b = (torch.randn(size, size, device=settings.device, dtype=dtype) for _ in range(2))
    out = torch.empty_like(a)

    def train(after_step: Callable[[], None]) -> None:
        for _ in range(_WARM_UP_MATMULS):
            torch.matmul(a, b, out=out)
        while True:
            torch.matmul(a, b, out=out)
            after_step()

    def nothing(_: int) -> Tensor:
        return out

    return Contender(num_parameters=0, forward=nothing, train=train, sample=nothing)


def _inputs(settings: Settings, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns latents, timesteps and labels for one forward pass."""
    x = torch.randn(count, 4, settings.side, settings.side, device=settings.device)
    labels = torch.arange(count, device=settings.device) % NUM_LABELS
    return x, torch.full((count,), 500, device=settings.device), labels


def _ddim_steps(num_steps: int, num_timesteps: int) -> list[tuple[int, int]]:
    """Returns the steps to visit with the one after each, evenly spread; -1 stands for the data."""
    ratio = num_timesteps // num_steps
    steps = [ratio * index for index in reversed(range(num_steps))]
    return list(zip(steps, [*steps[1:], -1], strict=True))


def _trained(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


CONTENDERS: dict[str, Callable[[Settings], Contender]] = {
    "reference": _reference,
    "diffusers": _diffusers,
    "ours": functools.partial(_ours, name="ours"),
    "ours-modern": functools.partial(_ours, name="ours-modern"),
    "ours-modern-shared": functools.partial(_ours, name="ours-modern-shared"),
}
EVERYTHING = {**CONTENDERS, MATMUL: _matmul}
"""The contenders, and the matrix products that they are measured against."""
