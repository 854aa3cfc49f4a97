"""Pictures and clips from a trained transformer and a codec."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from model_core.codec.autoencoder import Codec
from model_core.codec.batches import clips_to_bytes
from model_core.device import DeviceName, exact_convolutions, placed, select_device
from model_core.diffusion.condition import Condition
from model_core.diffusion.guidance import Guidance
from model_core.errors import BadDataError, BadModelError
from model_core.memory import memory_named
from model_core.sampling.names import SamplerName
from model_core.sampling.options import DEFAULT_NUM_PASSES, DdpmVariance, options_in_effect
from model_core.sampling.sample import sample_latents
from model_core.sampling.seeds import noise_source
from model_core.transformer.dit import DiT
from model_core.transformer.model_config import ModelConfig, read_model_config
from model_core.transformer.weights import load_weights

_MAX_BATCH_SIZE, _TOKENS_AT_A_TIME = 8, 256
"""What fills two cores: more tokens at a time are no faster there, and a single clip would wait for all of them."""
_FRAMES_AT_A_TIME = 64


def load_transformer(folder: Path) -> tuple[DiT, ModelConfig]:
    """Opens a model folder: `config.json` and `transformer.safetensors`.

    Raises:
        BadModelError: Something is missing, damaged or does not fit the rest.
    """
    config = read_model_config(folder)
    return load_weights(config.transformer(), folder), config


def generate_images(
    transformer: DiT, model_config: ModelConfig, codec: Codec, **how: Any
) -> UInt8[np.ndarray, "n height width 3"]:
    """Returns one picture a seed: `generate_clips` for models that make pictures.

    Raises:
        BadModelError: As `generate_clips` does, or the model makes clips.
    """
    if model_config.frames > 1:
        raise BadModelError(f"the model makes clips of {model_config.frames} frames, not pictures")
    pictures: np.ndarray = generate_clips(transformer, model_config, codec, **how)[:, 0]
    return pictures


def generate_clips(
    transformer: DiT,
    model_config: ModelConfig,
    codec: Codec,
    *,
    labels: Sequence[int | None],
    seeds: Sequence[int],
    text: Float[Tensor, "n dim"] | None = None,
    text_mask: Bool[Tensor, "n"] | None = None,
    num_steps: int | None = None,
    guidance_scale: float | None = None,
    guidance_interval: tuple[float, float] | None = None,
    guidance_rescale: float | None = None,
    eta: float | None = None,
    ddpm_variance: DdpmVariance | None = None,
    batch_size: int | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    sampler: SamplerName | None = None,
    guidance: Guidance | None = None,
    start: Float[Tensor, "n c f h w"] | None = None,
    strength: float = 1.0,
    keep: Bool[Tensor, "kept"] | None = None,
    num_passes: int = DEFAULT_NUM_PASSES,
    time_shift: float | None = None,
    cache_interval: int | None = None,
    text_states: Float[Tensor, "k m features"] | None = None,
    text_states_mask: Bool[Tensor, "k m"] | None = None,
    device: DeviceName = "auto",
    num_frames: int | None = None,
) -> UInt8[np.ndarray, "n frames height width 3"]:
    """Returns one clip a seed; a picture is a clip of one frame.

    The network always runs on a whole batch of samples, the last batch filled up with copies: the shape of the arithmetic, and
    with it its rounding, depends neither on how many clips are made nor on which others are. Noise is drawn on the CPU,
    so a seed starts from the same noise on every device.

    Args:
        transformer: The network.
        model_config: Its configuration, with the defaults for sampling.
        codec: Decodes latents to pixels.
        labels: A label index a clip, None for no label.
        seeds: A seed a clip.
        text: A pooled caption embedding a clip; None for no captions at all.
        text_mask: False for clips without a caption; all have one if not given.
        num_steps: Steps of the whole path; the model's default if not given.
        guidance_scale: s of P8; the model's default if not given.
        guidance_interval: Times at which guidance holds, from 0 (data) to 1 (noise); the model's default if not given.
        guidance_rescale: Share of the correction of contrast; the model's default if not given.
        eta: Share of DDPM's noise that DDIM adds; the model's default if not given.
        ddpm_variance: Which fixed variance DDPM draws with; the model's default if not given.
        batch_size: Clips at a time; as many as make 256 tokens, at most 8, if not given.
        progress: Called with steps done and in all.
        sampler: How to go from noise to data; the model's default if not given.
        guidance: All of guidance at once, in place of scale, interval and rescale.
        start: Encoded latents a clip to start from instead of pure noise.
        strength: Share of the path to go from there: 1 keeps nothing of `start`, 0 returns it.
        keep: True for latent frames of `start` that stay as they are, while the others are drawn to go with them.
        num_passes: How often each step is taken where frames are kept: more fit them better, and take longer.
        time_shift: Rectified flow's shift of times towards noise; the model's default if not given.
        cache_interval: Compute attention and MLPs only in every n-th call of the network, 1 always; the model's default if
            not given.
        text_states: States of each caption's tokens, for networks that attend to them.
        text_states_mask: False at places without a token; all have one if not given.
        device: Where to compute; network and codec are moved there, and afterwards back.
        num_frames: Frames of each clip, up to the model's own number, which they are if not given.

    Raises:
        BadDataError: Labels, seeds, captions and starts differ in number, a label is out of range, or a number makes no sense.
        BadModelError: The codec makes other latents than the model, a clip does not come out finite, a batch does not fit into
            memory, or there is no such device.
    """
    latent_shape = _latent_shape(model_config, codec, num_frames)
    num_frames = num_frames or model_config.frames
    if batch_size is None:
        num_tokens = math.prod(transformer.config.grid(latent_shape))
        batch_size = max(1, min(_MAX_BATCH_SIZE, _TOKENS_AT_A_TIME // num_tokens))
    if batch_size < 1:
        raise BadDataError(f"batch_size is {batch_size}", hint="choose at least 1")
    how = sampling_in_effect(
        model_config,
        sampler=sampler,
        num_steps=num_steps,
        guidance_scale=guidance_scale,
        guidance_interval=guidance_interval,
        guidance_rescale=guidance_rescale,
        time_shift=time_shift,
        cache_interval=cache_interval,
        eta=eta,
        ddpm_variance=ddpm_variance,
    )
    condition = condition_of(transformer, labels, text, text_mask, text_states, text_states_mask)
    if len(condition) != len(seeds):
        raise BadDataError(f"{len(seeds)} seeds for {len(condition)} conditions")
    if start is not None and len(start) != len(seeds):
        raise BadDataError(f"{len(seeds)} seeds for {len(start)} latents to start from")
    num_batches = -(-len(seeds) // batch_size)
    where, size, clips = select_device(device), model_config.image_size, []
    noun = "pictures" if num_frames == 1 else f"clips of {num_frames} frames"
    with (
        memory_named(f"making {batch_size} {noun} of {size}x{size} at a time", hint="lower the batch size"),
        placed(where, transformer, codec),
        exact_convolutions(),
    ):
        for number, chosen in enumerate(_batches(len(seeds), batch_size)):
            draw_noise = noise_source([seeds[index] for index in chosen], latent_shape)
            latents = sample_latents(
                transformer,
                model_config,
                noise=draw_noise().to(where),
                condition=condition.rows(torch.tensor(chosen)).to(where),
                on_step=lambda done, total, number=number: progress(  # type: ignore[misc]
                    number * total + done, num_batches * total
                ),
                start=None if start is None else start[chosen].to(where),
                strength=strength,
                keep=None if keep is None else keep.to(where),
                num_passes=num_passes,
                draw_noise=draw_noise,
                names=[f"the sample of seed {seeds[index]}" for index in chosen],
                **({**how, "guidance": guidance} if guidance else how),
            )
            clips.append(decode_clips(codec, latents, num_frames))
    found = np.concatenate(clips) if clips else np.empty((0, num_frames, size, size, 3), dtype=np.uint8)
    return found[: len(seeds)]


def sampling_in_effect(
    model_config: ModelConfig,
    *,
    sampler: SamplerName | None = None,
    num_steps: int | None = None,
    guidance_scale: float | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Returns what `sample_latents` takes of how to sample: what is asked for, and else the model's defaults.

    Args:
        model_config: The model's configuration.
        sampler: The sampler.
        num_steps: Steps of the whole path.
        guidance_scale: s of P8.
        **options: What else there is to choose, by the names of `SamplingOptions`; None where it is not chosen.
    """
    found = options_in_effect(model_config.sampling.chosen(), options, sampler or model_config.sampler)
    guidance = Guidance(
        scale=model_config.sampling.guidance_scale if guidance_scale is None else guidance_scale,
        interval=found.pop("guidance_interval", None),
        rescale=found.pop("guidance_rescale", 0.0),
    )
    steps = model_config.sampling.num_steps if num_steps is None else num_steps
    return {"sampler": sampler, "num_steps": steps, "guidance": guidance, **found}


def condition_of(
    transformer: DiT,
    labels: Sequence[int | None],
    text: Float[Tensor, "n dim"] | None = None,
    text_mask: Bool[Tensor, "n"] | None = None,
    text_states: Float[Tensor, "k m features"] | None = None,
    text_states_mask: Bool[Tensor, "k m"] | None = None,
) -> Condition:
    """Returns what a transformer is asked for; arguments as of `generate_clips`.

    Raises:
        BadDataError: Labels and captions differ in number, a label is out of range, or the model knows no captions.
    """
    return _with_states(_condition(transformer, labels, text, text_mask), transformer, text_states, text_states_mask)


def _latent_shape(model_config: ModelConfig, codec: Codec, num_frames: int | None) -> tuple[int, int, int, int]:
    """Returns the shape of a sample's latents; refuses a codec that is not the model's, and more frames than it has learnt."""
    channels, latent_frames, height, width = model_config.latent_shape
    frames = model_config.frames
    if codec.config.latent_channels != channels:
        raise BadModelError(
            f"the codec has {codec.config.latent_channels} latent channels, the model {channels}",
            hint="use the codec that the model was trained with",
        )
    if codec.config.latent_frames(frames) != latent_frames:
        raise BadModelError(
            f"the codec has {codec.config.latent_frames(frames)} latent frames of {frames} frames, the model {latent_frames}",
            hint="use the codec that the model was trained with",
        )
    if num_frames is not None and not 1 <= num_frames <= frames:
        raise BadDataError(
            f"the model makes {'pictures' if frames == 1 else f'clips of up to {frames} frames'}, not of {num_frames}",
            hint="leave the number of frames out, or choose one that it has learnt",
        )
    return channels, codec.config.latent_frames(num_frames or frames), height, width


def _batches(count: int, batch_size: int) -> Iterator[list[int]]:
    """Yields the places of each batch; the last place fills up the last batch."""
    for start in range(0, count, batch_size):
        yield [min(index, count - 1) for index in range(start, start + batch_size)]


def _condition(transformer: DiT, labels: Sequence[int | None], text: Tensor | None, text_mask: Tensor | None) -> Condition:
    config = transformer.config
    none = config.num_labels
    if any(label is not None and not 0 <= label < none for label in labels):
        raise BadDataError("a label index is out of range", hint=f"the model knows {none} labels, counted from 0")
    count = len(labels)
    if text is None:
        text, text_mask = torch.zeros(count, config.text_dim), torch.zeros(count, dtype=torch.bool)
    elif config.text_dim == 0:
        raise BadDataError("this model knows no captions", hint="ask by label")
    text_mask = torch.ones(len(text), dtype=torch.bool) if text_mask is None else torch.as_tensor(text_mask)
    if len(text) != count or len(text_mask) != count:
        raise BadDataError(f"{count} labels, {len(text)} captions, {len(text_mask)} caption marks: they must be as many")
    indices = torch.tensor([none if label is None else label for label in labels], dtype=torch.int64)
    return Condition(labels=indices, text=text.float(), text_mask=text_mask)


def _with_states(condition: Condition, transformer: DiT, states: Tensor | None, mask: Tensor | None) -> Condition:
    """Returns the condition with captions' tokens; without any captions a network that attends to tokens gets places for none."""
    if states is None and transformer.config.reads_text_states and not bool(condition.text_mask.any()):
        states = torch.zeros(len(condition), 1, transformer.config.text_dim)
    if states is not None and len(states) != len(condition):
        raise BadDataError(f"{len(condition)} labels, token states of {len(states)} captions: they must be as many")
    return replace(condition, text_states=None if states is None else states.float(), text_states_mask=mask)


@torch.no_grad()
def decode_clips(
    codec: Codec, latents: Float[Tensor, "n c f h w"], num_frames: int | None = None
) -> UInt8[np.ndarray, "n frames height width 3"]:
    """Returns the frames of latents, a few clips at a time; so many a clip, which are whole groups if not given."""
    at_a_time = max(1, _FRAMES_AT_A_TIME // (latents.shape[2] * codec.config.temporal_factor))
    clips = [codec.decode(each, num_frames) for each in torch.split(latents, at_a_time)]
    found: np.ndarray = clips_to_bytes(torch.cat(clips)).cpu().numpy()
    return found
