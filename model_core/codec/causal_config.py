"""The shape of a `CausalCodec`, as plain values; importing this imports no tensors."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from model_core.codec.config import FORMAT, CodecConfig, check_format, plain_values
from model_core.errors import BadModelError

CAUSAL_3D = "causal_3d"
_FACTORS = (2, 4)


@dataclass(frozen=True, kw_only=True)
class CausalConfig(CodecConfig):
    """Architecture of a codec that compresses in time as well as in space, and its latents' statistics.

    Each of the first ``log2(temporal_downscale)`` halvings of the resolution halves the number of frames, too.

    Attributes:
        latent_channels: Channels of a latent.
        downscale: Pixels per latent position, along height and along width (f4 is 4).
        temporal_downscale: Frames per latent frame.
        encoder_widths: Channels of the encoder at each level.
        encoder_blocks: Residual blocks of the encoder at each level.
        decoder_widths: Channels of the decoder at each level.
        decoder_blocks: Residual blocks of the decoder at each level.
        posterior: Whether the encoder gives mean and log variance of a gaussian, or a point.
        latent_mean: Mean of each latent channel on the training split, empty until measured.
        latent_std: Standard deviation of each latent channel on the training split, empty until measured.

    Raises:
        BadModelError: The values do not describe a codec.
    """

    temporal_downscale: int = 4

    def __post_init__(self) -> None:
        """Refuses values that do not fit together."""
        super().__post_init__()
        if self.temporal_downscale not in _FACTORS:
            raise BadModelError(f"codec: temporal_downscale is {self.temporal_downscale}", hint="choose 2 or 4")
        if self.temporal_downscale > self.downscale:
            raise BadModelError(
                f"codec: temporal_downscale {self.temporal_downscale} is larger than downscale {self.downscale}",
                hint="frames are halved where the resolution is; choose a smaller one",
            )

    @property
    def temporal_factor(self) -> int:
        """Frames per latent frame."""
        return self.temporal_downscale

    def halves_time(self, level: int) -> bool:
        """Returns whether the way down to a level, counted from full resolution, halves the number of frames."""
        return 1 <= level < self.temporal_downscale.bit_length()

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON; `from_dict` reverses it."""
        return {**super().to_dict(), "format": FORMAT, "architecture": CAUSAL_3D}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "CausalConfig":
        """Reads what `to_dict` wrote.

        Raises:
            BadModelError: Another format or architecture, an unknown or missing key, or a value of a wrong type.
        """
        check_format(values, CAUSAL_3D)
        given = {name: value for name, value in values.items() if name not in {"format", "architecture"}}
        return cls(**plain_values(given, fields(cls), optional={"posterior"}))
