"""Weights of the published DiT networks for pictures, to ours and back.

The published state dict is that of Peebles & Xie 2022 (arXiv 2212.09748): a convolution where ours has a linear layer over
patches, and its fixed positions stored beside the weights. All other names and shapes are the same. A published file is a pickle;
whoever brings one turns it into plain tensors first.

Shape legend: d hidden size, c channels, p a patch's side, n tokens.
"""

import math
import re
from collections.abc import Mapping
from typing import Final

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from model_core.errors import BadModelError
from model_core.transformer.config import TransformerConfig
from model_core.transformer.dit import DiT
from model_core.transformer.positions import grid_positions

_PATCHES: Final = "x_embedder.proj.weight"
_POSITIONS: Final = "pos_embed"
_POSITIONS_TOLERANCE: Final = 1e-4  # the published ones were rounded in single precision


def reference_architecture(state: Mapping[str, Tensor], *, num_heads: int) -> TransformerConfig:
    """Returns the architecture of a published state dict.

    Args:
        state: Tensors by name.
        num_heads: Attention heads: they leave no trace in shapes; 6, 12, 16, 16 for S, B, L, XL.

    Raises:
        BadModelError: The names or shapes are not those of such a network.
    """
    try:
        width, channels, side, _ = state[_PATCHES].shape
        out = state["final_layer.linear.bias"].shape[0] // side**2
        places = [int(found[1]) for name in state if (found := re.match(r"blocks\.(\d{1,4})\.", name))]
        return TransformerConfig(
            in_channels=channels,
            patch_size=(1, side, side),
            hidden_size=width,
            depth=max(places) + 1,
            num_heads=num_heads,
            mlp_ratio=state["blocks.0.mlp.fc1.bias"].shape[0] / width,
            num_labels=state["y_embedder.embedding_table.weight"].shape[0] - 1,
            frequency_dim=state["t_embedder.mlp.0.weight"].shape[1],
            learn_variance=out == 2 * channels,
        )
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise BadModelError(
            f"the tensors are not a published DiT's: {' '.join(str(error).split())}", hint="give the state dict of its weights"
        ) from error


def from_reference(state: Mapping[str, Tensor], config: TransformerConfig) -> dict[str, Tensor]:
    """Returns a published state dict as weights of a `DiT`; `to_reference` reverses it.

    Args:
        state: Tensors by name, as in ``DiT-XL-2-256x256``; half precision becomes single.
        config: The architecture, such as `presets.reference` or `reference_architecture` gives.

    Raises:
        BadModelError: The architecture has parts that the published network lacks, or a tensor is missing, left over, of another
            shape, no floating-point number or not finite, or the positions are not the fixed ones.
    """
    expected = _expected_shapes(config)
    if odd := sorted(set(expected) ^ (set(state) - {_POSITIONS})):
        more = f" and {len(odd) - 3} more" if len(odd) > 3 else ""
        raise BadModelError(f"the published weights lack or add: {', '.join(odd[:3])}{more}", hint="they are another network's")
    for name, shape in expected.items():
        _require_sound(name, state[name], shape)
    if _POSITIONS in state:
        _require_fixed_positions(state[_POSITIONS], config)
    weights = {name: tensor.detach().float().clone() for name, tensor in state.items() if name != _POSITIONS}
    weights["x_embedder.weight"] = rearrange(weights.pop(_PATCHES), "d c ph pw -> d (ph pw c)").contiguous()
    weights["x_embedder.bias"] = weights.pop("x_embedder.proj.bias")
    return weights


def to_reference(weights: Mapping[str, Tensor], config: TransformerConfig, *, input_size: int) -> dict[str, Tensor]:
    """Returns a `DiT`'s weights as a published state dict.

    Args:
        weights: Tensors by parameter name.
        config: Their architecture.
        input_size: Side of the latents that the stored positions are for, 32 for pictures of 256 pixels.

    Raises:
        BadModelError: The published network has no place for these weights, or a tensor is unsound.
    """
    _require_published_parts(config)
    side = config.patch_size[1]
    grid = config.grid((config.in_channels, 1, input_size, input_size))
    state = dict(weights)
    try:
        patches, bias = state.pop("x_embedder.weight"), state.pop("x_embedder.bias")
    except KeyError as error:
        raise BadModelError(f"the weights lack {error}", hint="they are another network's") from error
    _require_sound("x_embedder.weight", patches, (config.hidden_size, config.in_channels * side**2))
    state[_PATCHES] = rearrange(patches, "d (ph pw c) -> d c ph pw", ph=side, pw=side).contiguous()
    state["x_embedder.proj.bias"] = bias
    expected = _expected_shapes(config)
    if odd := sorted(set(expected) ^ set(state)):
        raise BadModelError(f"the weights lack or add: {', '.join(odd[:3])}", hint="they are another network's")
    for name, shape in expected.items():
        _require_sound(name, state[name], shape)
    positions = grid_positions(grid, config.hidden_size).unsqueeze(0).clone()
    return {_POSITIONS: positions, **{name: tensor.detach().clone() for name, tensor in state.items()}}


def _require_published_parts(config: TransformerConfig) -> None:
    """Refuses architectures with options that the published network lacks."""
    pt, ph, pw = config.patch_size
    plain = TransformerConfig(
        in_channels=config.in_channels,
        patch_size=(1, ph, ph),
        hidden_size=config.hidden_size,
        depth=config.depth,
        num_heads=config.num_heads,
        mlp_ratio=config.mlp_ratio,
        num_labels=config.num_labels,
        frequency_dim=config.frequency_dim,
        learn_variance=config.learn_variance,
    )
    if (pt, pw) != (1, ph) or config != plain:
        odd = [name for name, value in config.to_dict().items() if value != plain.to_dict()[name]]
        raise BadModelError(f"the published DiT has no choice of {', '.join(odd)}", hint="use presets.reference")


def _expected_shapes(config: TransformerConfig) -> dict[str, tuple[int, ...]]:
    """Returns name and shape of every trained tensor of the published network."""
    _require_published_parts(config)
    with torch.device("meta"):
        shapes = {name: tuple(parameter.shape) for name, parameter in DiT(config).named_parameters()}
    del shapes["x_embedder.weight"]
    side = config.patch_size[1]
    shapes[_PATCHES] = (config.hidden_size, config.in_channels, side, side)
    shapes["x_embedder.proj.bias"] = shapes.pop("x_embedder.bias")
    return shapes


def _require_sound(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape or not tensor.is_floating_point():
        raise BadModelError(
            f"{name} is {tensor.dtype} {list(tensor.shape)}, expected floating-point numbers {list(shape)}",
            hint="the weights are another network's",
        )
    if not bool(torch.isfinite(tensor).all()):
        raise BadModelError(f"{name} holds a number that is not finite", hint="get the weights again")


def _require_fixed_positions(positions: Float[Tensor, "..."], config: TransformerConfig) -> None:
    """Refuses positions other than the fixed ones, which would have to be stored."""
    side = math.isqrt(positions.shape[1]) if positions.ndim == 3 else 0
    _require_sound(_POSITIONS, positions, (1, side**2, config.hidden_size))
    fixed = grid_positions((1, side, side), config.hidden_size)
    if float((positions[0].float() - fixed).abs().amax()) > _POSITIONS_TOLERANCE:
        raise BadModelError(
            "pos_embed holds other positions than the published network's", hint="learned positions have no place"
        )
