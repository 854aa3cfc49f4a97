"""Samples of several sizes and durations through a transformer at once, without padding (Dehghani 2023, arXiv 2307.06304).

Shape legend: c channels; every sample has frames, height and width of its own.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from model_core.errors import BadDataError, BadModelError
from model_core.transformer.buckets import Shape
from model_core.transformer.config import TransformerConfig
from model_core.transformer.dit import DiT
from model_core.transformer.layout import TokenLayout
from model_core.transformer.modulations import Modulations
from model_core.transformer.patchify import patchify, unpatchify


def first_fit_decreasing(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Returns rows of samples whose lengths add up to at most a capacity, in few rows (Johnson 1973: at most 11/9 of the fewest).

    Args:
        lengths: Tokens of each sample.
        capacity: Most tokens of a row.

    Returns:
        Places of each row's samples; every sample is in one row. Equal lengths keep their order.

    Raises:
        BadDataError: A sample without tokens, or with more than fit.
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        length = lengths[place]
        if not 0 < length <= capacity:
            raise BadDataError(
                f"sample {place} has {length} tokens, a row takes 1 to {capacity}", hint="raise the row's capacity"
            )
        row = next((row for row, left in enumerate(room) if left >= length), len(rows))
        if row == len(rows):
            rows.append([])
            room.append(capacity)
        rows[row].append(place)
        room[row] -= length
    return rows


def packed_rows(config: TransformerConfig, shapes: Sequence[Shape], *, max_tokens: int) -> list[list[int]]:
    """Returns which samples of frames, height and width to give `denoise_packed` together, within a budget of tokens.

    Raises:
        BadModelError: A shape that the patch does not divide.
        BadDataError: A sample of more tokens than the budget.
    """
    return first_fit_decreasing([math.prod(config.grid((config.in_channels, *shape))) for shape in shapes], max_tokens)


def padding_fraction(rows: Sequence[Sequence[int]], lengths: Sequence[int], capacity: int) -> float:
    """Returns the share of the rows' room that no token takes."""
    return 1 - sum(lengths[place] for row in rows for place in row) / (len(rows) * capacity) if rows else 0.0


def denoise_packed(
    model: DiT, latents: Sequence[Float[Tensor, "..."]], modulations: Modulations
) -> list[Float[Tensor, "_out _frames _height _width"]]:
    """Returns `DiT.denoise` of samples of any sizes, computed as one sequence of tokens.

    Linear layers run over all tokens at once. Attention is block-diagonal: it runs over the samples of each grid as a batch, so
    it costs no more than without packing, and no padding is made.

    Args:
        model: The transformer.
        latents: Noised latents of each sample [c frames height width].
        modulations: Of each sample, in the same order.

    Raises:
        BadModelError: Latents that are not 4-D, have other channels, or do not divide into patches.
        BadDataError: No latents, another number of modulations, or a timestep a frame.
    """
    if not latents or len(latents) != len(modulations):
        raise BadDataError(f"{len(latents)} latents and {len(modulations)} modulations: give as many, and at least one")
    if modulations.times_each is not None:
        raise BadDataError("packed samples have one timestep each, not one a frame", hint="denoise clips of one size as a batch")
    if odd := [x for x in latents if x.ndim != 4]:
        raise BadModelError(f"latents to pack have shape {list(odd[0].shape)}, expected [channels, frames, height, width]")
    patch = model.config.patch_size
    grids = [model.config.grid((x.shape[0], x.shape[1], x.shape[2], x.shape[3])) for x in latents]
    order = sorted(range(len(latents)), key=lambda place: grids[place])  # neighbours of one grid attend as a batch
    layout = TokenLayout.pack([grids[place] for place in order])
    starts = torch.tensor([run.count for run in layout.runs]).cumsum(0).tolist()
    runs = [
        torch.stack([latents[place] for place in order[start - run.count : start]])
        for start, run in zip(starts, layout.runs, strict=True)
    ]
    patches = layout.join([patchify(run, patch) for run in runs])
    places = torch.tensor(order, device=modulations.final.device)
    predicted = layout.split(model.transform(patches, modulations.rows(places), layout))
    found = [sample for part, run in zip(predicted, layout.runs, strict=True) for sample in unpatchify(part, patch, run.grid)]
    return [sample for _, sample in sorted(zip(order, found, strict=True), key=lambda pair: pair[0])]
