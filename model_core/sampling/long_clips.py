"""Clips longer than a model's own, window by window: each goes on from the last frames of the one before.

What is held is one window and those last frames, however long the clip is. The first window is the clip that the model makes of
the seed by itself; the noise of each further one follows from the seed and its number, so that a clip can be taken up again after
any window, to the same frames.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from model_core.codec.autoencoder import Codec
from model_core.device import DeviceName, exact_convolutions, placed, select_device
from model_core.diffusion.condition import Condition
from model_core.errors import BadDataError
from model_core.memory import memory_named
from model_core.sampling.context import Context
from model_core.sampling.generate import condition_of, decode_clips, sampling_in_effect
from model_core.sampling.sample import sample_latents
from model_core.sampling.seeds import noise_source, window_seed
from model_core.transformer.dit import DiT
from model_core.transformer.model_config import ModelConfig

DEFAULT_CONTEXT_TIME = 0.02
"""Noise on the frames to go on from, as a share of all time."""
_CONTEXT_SHARE = 4


@dataclass(frozen=True, kw_only=True)
class Window:
    """The frames that one window adds to a clip.

    Attributes:
        index: Its number, from 0.
        frames: Its new pixels.
        tail: Latents of the clip's last frames so far, which the next window goes on from.
    """

    index: int
    frames: UInt8[np.ndarray, "frames height width 3"]
    tail: Float[Tensor, "1 c context h w"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a clip divides into windows.

    Attributes:
        num_frames: Frames of the clip.
        window: Frames of a window, which are a model's own number.
        context: Of these, how many are the end of the window before.
    """

    num_frames: int
    window: int
    context: int

    @property
    def num_windows(self) -> int:
        """Windows that the clip takes."""
        return 1 + max(0, math.ceil((self.num_frames - self.window) / (self.window - self.context)))

    def end_of(self, index: int) -> int:
        """Returns how many frames there are after a window; those beyond the clip's are cut off."""
        return min(self.num_frames, self.window + index * (self.window - self.context))


def plan_windows(model_config: ModelConfig, num_frames: int, context: int | None = None) -> Plan:
    """Returns how a clip of some length is made.

    Args:
        model_config: The model's configuration.
        num_frames: Frames of the clip.
        context: How many frames of a window are the end of the one before: whole patches, at least one, fewer than all. A quarter
            if not given.

    Raises:
        BadDataError: The model has not learnt to go on, or numbers make no sense for it.
    """
    window, joined = model_config.frames, model_config.transformer().patch_size[0]
    if num_frames > window != model_config.latent_shape[1]:
        raise BadDataError(
            f"the model makes clips of up to {window} frames, not of {num_frames}: its codec compresses in time",
            hint="ask for fewer frames; longer clips are made by models whose codec codes frame by frame",
        )
    if num_frames > window and not model_config.extends_clips:
        raise BadDataError(
            f"the model makes {'pictures' if window == 1 else f'clips of up to {window} frames'}, not of {num_frames}",
            hint="ask for fewer frames, or train a model with train_dit.frame_times=context, which makes clips of any length",
        )
    if num_frames < 1:
        raise BadDataError(f"a clip of {num_frames} frames cannot be made", hint="choose at least 1")
    if context is None:
        context = max(1, window // joined // _CONTEXT_SHARE) * joined
    if context % joined or not 0 < context <= max(window - joined, joined):
        raise BadDataError(
            f"windows of {window} frames cannot share {context}", hint=f"choose a multiple of {joined} below {window}"
        )
    return Plan(num_frames=num_frames, window=window, context=context)


def generate_long_clip(
    transformer: DiT,
    model_config: ModelConfig,
    codec: Codec,
    plan: Plan,
    *,
    seed: int,
    on_window: Callable[[Window], None],
    after: Window | None = None,
    label: int | None = None,
    text: Float[Tensor, "1 dim"] | None = None,
    text_states: Float[Tensor, "1 m features"] | None = None,
    text_states_mask: Bool[Tensor, "1 m"] | None = None,
    context_time: float = DEFAULT_CONTEXT_TIME,
    progress: Callable[[int], None] = lambda _frames: None,
    device: DeviceName = "auto",
    **how: Any,
) -> None:
    """Makes one clip and hands its windows on as they come, decoded.

    Args:
        transformer: The network.
        model_config: Its configuration, with the defaults for sampling.
        codec: Decodes latents to pixels.
        plan: The clip's windows, from `plan_windows`.
        seed: The clip's seed.
        on_window: Called with each window; none is kept here.
        after: The last window that is already there; all are made if not given. Its pixels are not looked at.
        label: What the clip shows, by label.
        text: What it shows, as a pooled caption embedding.
        text_states: States of the caption's tokens, for networks that attend to them.
        text_states_mask: False at places without a token.
        context_time: Noise on the frames to go on from, as a share of all time.
        progress: Called with the frames done so far, after each step of the sampler.
        device: Where to compute; network and codec are moved there, and afterwards back.
        **how: Sampler, steps, guidance scale and options, as `sampling_in_effect` takes them; the model's own if not given.

    Raises:
        BadDataError: The label is out of range, or a number makes no sense.
        BadModelError: A window does not come out finite, or does not fit into memory, or there is no such device.
    """
    chosen = sampling_in_effect(model_config, **how)
    condition = condition_of(transformer, [label], text, None, text_states, text_states_mask)
    where, size = select_device(device), model_config.image_size
    with (
        memory_named(f"making windows of {plan.window} frames of {size}x{size}", hint="choose a smaller model"),
        placed(where, transformer, codec),
        exact_convolutions(),
    ):
        tail = None if after is None else after.tail.to(where)
        for index in range(0 if after is None else after.index + 1, plan.num_windows):
            begin = plan.end_of(index - 1) if index else 0

            def on_step(done: int, total: int, *, begin: int = begin, end: int = plan.end_of(index)) -> None:
                progress(begin + (end - begin) * done // total)

            latents = _sampled(
                transformer,
                model_config,
                plan,
                seed=seed,
                index=index,
                tail=tail,
                condition=condition.to(where),
                context_time=context_time,
                on_step=on_step,
                **chosen,
            )
            tail = (latents if tail is None else torch.cat([tail, latents], dim=2))[:, :, -plan.context :]
            pixels = decode_clips(codec, latents[:, :, : plan.end_of(index) - begin])[0]
            on_window(Window(index=index, frames=pixels, tail=tail.cpu()))


def _sampled(
    transformer: DiT,
    model_config: ModelConfig,
    plan: Plan,
    *,
    seed: int,
    index: int,
    tail: Tensor | None,
    condition: Condition,
    context_time: float,
    **how: Any,
) -> Float[Tensor, "1 c frames h w"]:
    """Returns the latents of a window's new frames."""
    channels, _, height, width = model_config.latent_shape
    context, num_new = None, plan.window
    if tail is not None:
        num_new = plan.window - plan.context
        noise = noise_source([window_seed(seed, index, "context")], (channels, plan.context, height, width))()
        context = Context(latents=tail, noise=noise.to(tail), time=context_time)
    draw_noise = noise_source([window_seed(seed, index)], (channels, num_new, height, width))
    return sample_latents(
        transformer,
        model_config,
        noise=draw_noise().to(next(transformer.parameters()).device),
        condition=condition,
        context=context,
        draw_noise=draw_noise,
        names=[f"window {index} of the clip of seed {seed}"],
        **how,
    )
