"""The shape of a diffusion transformer, as plain values; importing this imports no tensors."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Literal, get_args

from model_core.errors import BadModelError

NormName = Literal["layer", "rms"]
MlpName = Literal["gelu", "swiglu"]
PositionsName = Literal["sinusoid", "rope"]
ModulationName = Literal["block", "shared"]
AttentionName = Literal["full", "factorised"]
TextConditioningName = Literal["pooled", "cross_attention", "none"]
Grid = tuple[int, int, int]
"""Tokens along frames, height and width."""

MIN_ROPE_HEAD_DIM: Final = 6
_LIMITS = {
    "in_channels": (1, 4096),
    "hidden_size": (4, 16384),
    "depth": (1, 256),
    "num_heads": (1, 256),
    "num_labels": (0, 1_000_000),
    "text_dim": (0, 65_536),
    "frequency_dim": (2, 65_536),
}
_CHOICES: dict[str, tuple[str, ...]] = {
    "norm": get_args(NormName),
    "mlp": get_args(MlpName),
    "positions": get_args(PositionsName),
    "modulation": get_args(ModulationName),
    "attention": get_args(AttentionName),
    "text_conditioning": get_args(TextConditioningName),
}
_FLAGS = ("learn_variance", "qk_norm", "long_skips")
_TRIPLES = ("patch_size", "rope_grid")
_ADDED_LATER = {*_CHOICES, *_FLAGS, "rope_grid"}  # absent from configurations of the first kind, where the default is meant


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Architecture of a DiT (Peebles & Xie 2022, arXiv 2212.09748) and of what the field has changed in it since.

    By default every part is the paper's but the learned variance, and the sizes are none of the paper's; its networks are those
    of `presets.reference`.

    Attributes:
        in_channels: Channels of a latent, and of the prediction.
        patch_size: Latent positions per token along frames, height and width.
        hidden_size: Width of the token stream.
        depth: Number of blocks.
        num_heads: Attention heads.
        mlp_ratio: Width of a block's hidden layer over `hidden_size`.
        num_labels: Labels known; one more index stands for no label.
        text_dim: Width of a caption's embeddings; 0 for a model without captions.
        frequency_dim: Width of the sinusoidal embedding of the timestep.
        learn_variance: Twice the channels come out: the prediction, then the interpolation between the two variances of P2
            (Nichol & Dhariwal 2021, arXiv 2102.09672).
        norm: Layer norm, or root mean square norm (Zhang & Sennrich 2019, arXiv 1910.07467).
        mlp: A GELU between two layers, or SwiGLU (Shazeer 2020, arXiv 2002.05202) with as many weights.
        positions: Added sines and cosines, or rotations of queries and keys (Su 2021, arXiv 2104.09864) along three axes.
        rope_grid: Tokens along each axis in training; on a longer axis the rotations slow down so that the slowest turns as far
            as it did (NTK-aware scaling, Peng 2023, arXiv 2309.00071). None leaves them as they are on every grid.
        qk_norm: Queries and keys are normalised (Dehghani 2023, arXiv 2302.05442; Esser 2024, arXiv 2403.03206).
        modulation: A linear layer of its own for every block, or one for all plus an offset a block (adaLN-single, Chen 2023,
            arXiv 2310.00426).
        attention: Over all tokens, or over a frame's tokens and then over a place's frames (Ma 2024, arXiv 2401.03048).
        text_conditioning: A pooled caption joins timestep and label, or the tokens attend to the caption's own tokens (Chen
            2023), or captions are not read.
        long_skips: The first half's tokens are led past the middle to the second half (U-ViT, Bao 2022, arXiv 2209.12152).

    Raises:
        BadModelError: The values do not describe a transformer.
    """

    in_channels: int
    patch_size: tuple[int, int, int] = (1, 1, 1)
    hidden_size: int = 192
    depth: int = 4
    num_heads: int = 3
    mlp_ratio: float = 4.0
    num_labels: int = 0
    text_dim: int = 0
    frequency_dim: int = 256
    learn_variance: bool = False
    norm: NormName = "layer"
    mlp: MlpName = "gelu"
    positions: PositionsName = "sinusoid"
    rope_grid: Grid | None = None
    qk_norm: bool = False
    modulation: ModulationName = "block"
    attention: AttentionName = "full"
    text_conditioning: TextConditioningName = "pooled"
    long_skips: bool = False

    def __post_init__(self) -> None:
        """Refuses values that do not fit together."""
        for name, (low, high) in _LIMITS.items():
            if not low <= getattr(self, name) <= high:
                raise BadModelError(f"transformer: {name} is {getattr(self, name)}", hint=f"choose {low} to {high}")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise BadModelError(f"transformer: {name} is {getattr(self, name)!r}", hint="choose " + " or ".join(choices))
        if len(self.patch_size) != 3 or not all(1 <= side <= 64 for side in self.patch_size):
            raise BadModelError(
                f"transformer: patch_size is {list(self.patch_size)}", hint="give three sides of 1 to 64: t, h, w"
            )
        if self.hidden_size % self.num_heads:
            raise BadModelError(
                f"transformer: hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}",
                hint="choose a number of heads that divides the width",
            )
        if self.hidden_size % 4 or self.frequency_dim % 2:
            raise BadModelError(
                f"transformer: hidden_size {self.hidden_size} must be a multiple of 4, frequency_dim {self.frequency_dim} even"
            )
        if not 0 < self.mlp_ratio <= 64:
            raise BadModelError(f"transformer: mlp_ratio is {self.mlp_ratio}", hint="choose more than 0, at most 64")
        self._require_parts_that_fit()

    def _require_parts_that_fit(self) -> None:
        """Refuses options that the rest does not allow."""
        if self.positions == "rope" and (self.head_dim % 2 or self.head_dim < MIN_ROPE_HEAD_DIM):
            raise BadModelError(
                f"transformer: rotary positions need an even head width of {MIN_ROPE_HEAD_DIM} or more, it is {self.head_dim}",
                hint="choose fewer heads or a larger hidden_size",
            )
        if self.rope_grid is not None and self.positions != "rope":
            raise BadModelError("transformer: rope_grid is given without rotary positions", hint="set positions to rope")
        if self.rope_grid is not None and (len(self.rope_grid) != 3 or min(self.rope_grid) < 1):
            raise BadModelError(f"transformer: rope_grid is {list(self.rope_grid)}", hint="give three numbers of tokens: t, h, w")
        if self.text_conditioning == "cross_attention" and self.text_dim == 0:
            raise BadModelError("transformer: cross attention needs captions, text_dim is 0", hint="set text_dim")

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_heads

    @property
    def out_channels(self) -> int:
        """Channels that come out: those of a latent, twice where the variance is learned."""
        return 2 * self.in_channels if self.learn_variance else self.in_channels

    @property
    def mlp_width(self) -> int:
        """Width inside a block's MLP; SwiGLU's third matrix is paid for with a narrower one, to a multiple of 8."""
        width = self.hidden_size * self.mlp_ratio
        return int(width) if self.mlp == "gelu" else max(8, 8 * math.ceil(2 * width / 3 / 8))

    @property
    def modulations_per_block(self) -> int:
        """Vectors that modulate a block: shift, scale and gate of each of its modulated sublayers."""
        return 9 if self.attention == "factorised" else 6

    @property
    def reads_pooled_text(self) -> bool:
        """Whether a caption's pooled embedding enters."""
        return self.text_conditioning == "pooled" and self.text_dim > 0

    @property
    def reads_text_states(self) -> bool:
        """Whether a caption's token states enter."""
        return self.text_conditioning == "cross_attention"

    def grid(self, latent_shape: tuple[int, int, int, int]) -> Grid:
        """Returns the number of tokens along frames, height and width for latents [channels frames height width].

        Raises:
            BadModelError: Other channels, or a side that the patch does not divide.
        """
        channels, *sides = latent_shape
        if channels != self.in_channels:
            raise BadModelError(f"latents have {channels} channels, the transformer takes {self.in_channels}")
        if any(side < 1 or side % patch for side, patch in zip(sides, self.patch_size, strict=True)):
            raise BadModelError(
                f"latents of {sides[0]}x{sides[1]}x{sides[2]} (frames, height, width) do not divide into patches of "
                + "x".join(map(str, self.patch_size)),
                hint=f"take latent frames in multiples of {self.patch_size[0]}, and sides in multiples of the codec's factor "
                f"times {self.patch_size[1]} and {self.patch_size[2]}",
            )
        t, h, w = (side // patch for side, patch in zip(sides, self.patch_size, strict=True))
        return t, h, w

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON; `from_dict` reverses it."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TransformerConfig":
        """Reads what `to_dict` wrote, also before the options after `frequency_dim` existed.

        Raises:
            BadModelError: An unknown or missing key, or a value of a wrong type.
        """
        names = {field.name for field in fields(cls)}
        if odd := sorted((set(values) - names) | (names - _ADDED_LATER - set(values))):
            raise BadModelError(f"transformer architecture: unknown or missing keys: {', '.join(odd)}")
        for name, value in values.items():
            if not _has_kind(name, value):
                raise BadModelError(f"transformer architecture: {name} has a value of a wrong type: {value!r}")
        arguments: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        return cls(**arguments)


def _has_kind(name: str, value: object) -> bool:
    """Returns whether a value is of the type that its field has."""
    if name in _FLAGS:
        return isinstance(value, bool)
    if name in _CHOICES:
        return isinstance(value, str)
    if name in _TRIPLES:
        if value is None:
            return name == "rope_grid"
        return isinstance(value, list | tuple) and all(isinstance(side, int) and not isinstance(side, bool) for side in value)
    return isinstance(value, (int, float) if name == "mlp_ratio" else int) and not isinstance(value, bool)
