"""The shape of a codec, as plain values; importing this imports no tensors."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from model_core.errors import BadModelError

FORMAT = "groundswell-codec/1"
_MAX_WIDTH = 1024
_MAX_BLOCKS = 16


@dataclass(frozen=True, kw_only=True)
class CodecConfig:
    """Architecture of a KL-VAE codec and the statistics of its latents.

    Levels run from full resolution to the latents' resolution, each half the size of the one before, so there are
    ``log2(downscale) + 1`` of them.

    Attributes:
        latent_channels: Channels of a latent.
        downscale: Pixels per latent position, along height and along width (f4 is 4).
        encoder_widths: Channels of the encoder at each level.
        encoder_blocks: Residual blocks of the encoder at each level.
        decoder_widths: Channels of the decoder at each level.
        decoder_blocks: Residual blocks of the decoder at each level.
        latent_mean: Mean of each latent channel on the training split, empty until measured.
        latent_std: Standard deviation of each latent channel on the training split, empty until measured.

    Raises:
        BadModelError: The values do not describe a codec.
    """

    latent_channels: int = 8
    downscale: int = 4
    encoder_widths: tuple[int, ...] = (32, 64, 96)
    encoder_blocks: tuple[int, ...] = (0, 1, 2)
    decoder_widths: tuple[int, ...] = (32, 64, 128)
    decoder_blocks: tuple[int, ...] = (1, 2, 2)
    latent_mean: tuple[float, ...] = ()
    latent_std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Refuses values that do not fit together."""
        if not 1 <= self.latent_channels <= _MAX_WIDTH:
            raise BadModelError(f"codec: latent_channels is {self.latent_channels}", hint=f"choose 1 to {_MAX_WIDTH}")
        if self.downscale not in {2, 4, 8, 16, 32}:
            raise BadModelError(f"codec: downscale is {self.downscale}", hint="choose 2, 4, 8, 16 or 32")
        for name in ("encoder_widths", "decoder_widths", "encoder_blocks", "decoder_blocks"):
            values, blocks = getattr(self, name), name.endswith("blocks")
            if len(values) != self.num_levels:
                raise BadModelError(f"codec: {name} has {len(values)} levels, downscale {self.downscale} needs {self.num_levels}")
            if not all((0 if blocks else 1) <= value <= (_MAX_BLOCKS if blocks else _MAX_WIDTH) for value in values):
                raise BadModelError(f"codec: {name} is out of range: {list(values)}")
        if len(self.latent_mean) != len(self.latent_std) or len(self.latent_mean) not in {0, self.latent_channels}:
            raise BadModelError(f"codec: latent_mean and latent_std need {self.latent_channels} values each, or none")
        if not all(map(math.isfinite, self.latent_mean)) or not all(0 < std < math.inf for std in self.latent_std):
            raise BadModelError("codec: latent_mean must be finite and latent_std positive")

    @property
    def num_levels(self) -> int:
        """Number of resolutions, the full one included."""
        return self.downscale.bit_length()

    def latent_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Returns (channels, frames, height, width) of a clip's latents.

        Raises:
            BadModelError: A side is not a multiple of the downscaling factor.
        """
        if height < 1 or width < 1 or height % self.downscale or width % self.downscale:
            raise BadModelError(
                f"a picture of {width}x{height} cannot be encoded by a codec that divides by {self.downscale}",
                hint=f"use sizes that are multiples of {self.downscale}",
            )
        return (self.latent_channels, frames, height // self.downscale, width // self.downscale)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON; `from_dict` reverses it."""
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {"format": FORMAT, **values}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "CodecConfig":
        """Reads what `to_dict` wrote.

        Raises:
            BadModelError: Another format, an unknown or missing key, or a value of a wrong type.
        """
        if values.get("format") != FORMAT:
            raise BadModelError(f"codec config.json: format is {values.get('format')!r}, expected {FORMAT!r}")
        kinds = {field.name: "tuple" if "tuple" in str(field.type) else "int" for field in fields(cls)}
        given = {name: value for name, value in values.items() if name != "format"}
        if odd := sorted(set(given) ^ set(kinds)):
            raise BadModelError(f"codec config.json: unknown or missing keys: {', '.join(odd)}")
        for name, value in given.items():
            items = value if kinds[name] == "tuple" and isinstance(value, list) else [value]
            number = (int, float) if name in {"latent_mean", "latent_std"} else int
            if (kinds[name] == "tuple") != isinstance(value, list) or not all(
                isinstance(item, number) and not isinstance(item, bool) for item in items
            ):
                raise BadModelError(f"codec config.json: {name} has a value of a wrong type: {value!r}")
        plain: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
        return cls(**plain)
