"""The shape of a diffusion transformer, as plain values; importing this imports no tensors."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from model_core.errors import BadModelError

_LIMITS = {
    "in_channels": (1, 4096),
    "hidden_size": (4, 16384),
    "depth": (1, 256),
    "num_heads": (1, 256),
    "num_labels": (0, 1_000_000),
    "text_dim": (0, 65_536),
    "frequency_dim": (2, 65_536),
}


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Architecture of a DiT (Peebles & Xie 2022, arXiv 2212.09748).

    Attributes:
        in_channels: Channels of a latent, and of the prediction.
        patch_size: Latent positions per token along frames, height and width.
        hidden_size: Width of the token stream.
        depth: Number of blocks.
        num_heads: Attention heads.
        mlp_ratio: Width of a block's hidden layer over `hidden_size`.
        num_labels: Labels known; one more index stands for no label.
        text_dim: Width of a pooled caption embedding; 0 for a model without captions.
        frequency_dim: Width of the sinusoidal embedding of the timestep.

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

    def __post_init__(self) -> None:
        """Refuses values that do not fit together."""
        for name, (low, high) in _LIMITS.items():
            if not low <= getattr(self, name) <= high:
                raise BadModelError(f"transformer: {name} is {getattr(self, name)}", hint=f"choose {low} to {high}")
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

    def grid(self, latent_shape: tuple[int, int, int, int]) -> tuple[int, int, int]:
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
                hint="use sizes that are multiples of the codec's factor times the patch",
            )
        t, h, w = (side // patch for side, patch in zip(sides, self.patch_size, strict=True))
        return t, h, w

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON; `from_dict` reverses it."""
        return {**asdict(self), "patch_size": list(self.patch_size)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TransformerConfig":
        """Reads what `to_dict` wrote.

        Raises:
            BadModelError: An unknown or missing key, or a value of a wrong type.
        """
        names = {field.name for field in fields(cls)}
        if odd := sorted(set(values) ^ names):
            raise BadModelError(f"transformer architecture: unknown or missing keys: {', '.join(odd)}")
        for name, value in values.items():
            items = value if name == "patch_size" and isinstance(value, list) else [value]
            kinds = (int, float) if name == "mlp_ratio" else int
            if not all(isinstance(item, kinds) and not isinstance(item, bool) for item in items):
                raise BadModelError(f"transformer architecture: {name} has a value of a wrong type: {value!r}")
        patch = values["patch_size"]
        return cls(**{**values, "patch_size": tuple(patch) if isinstance(patch, list) else (patch,) * 3})
