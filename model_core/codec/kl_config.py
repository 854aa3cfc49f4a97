"""The shape of a `KLAutoencoder`, as plain values; importing this imports no tensors."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from model_core.codec.config import FORMAT, MAX_BLOCKS, MAX_WIDTH, LatentConfig, check_format, plain_values
from model_core.errors import BadModelError

AUTOENCODER_KL = "autoencoder_kl"
_MAX_LEVELS = 6


@dataclass(frozen=True, kw_only=True)
class KLAutoencoderConfig(LatentConfig):
    """Architecture of the KL-VAE of latent diffusion (Rombach 2021, arXiv 2112.10752, appendix G) and its latents' statistics.

    Attributes:
        latent_channels: Channels of a latent.
        block_out_channels: Channels at each level, full resolution first, each level half the size of the one before.
        layers_per_block: Residual blocks of the encoder at each level; the decoder has one more.
        norm_num_groups: Groups of every group norm.
        mid_block_add_attention: Whether positions attend to each other at the latents' resolution.
        use_quant_conv: Whether a 1x1 convolution follows the encoder.
        use_post_quant_conv: Whether a 1x1 convolution precedes the decoder.
        latent_mean: Mean of each latent channel, empty until known.
        latent_std: Standard deviation of each latent channel, empty until known.

    Raises:
        BadModelError: The values do not describe a codec.
    """

    latent_channels: int = 4
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    norm_num_groups: int = 32
    mid_block_add_attention: bool = True
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True

    def __post_init__(self) -> None:
        """Refuses values that do not fit together."""
        super().__post_init__()
        widths = self.block_out_channels
        if not 2 <= len(widths) <= _MAX_LEVELS or not all(1 <= width <= MAX_WIDTH for width in widths):
            raise BadModelError(
                f"codec: block_out_channels is {list(widths)}",
                hint=f"give 2 to {_MAX_LEVELS} levels of at most {MAX_WIDTH} channels",
            )
        if not 1 <= self.layers_per_block <= MAX_BLOCKS:
            raise BadModelError(f"codec: layers_per_block is {self.layers_per_block}", hint=f"choose 1 to {MAX_BLOCKS}")
        if self.norm_num_groups < 1 or any(width % self.norm_num_groups for width in widths):
            raise BadModelError(
                f"codec: norm_num_groups {self.norm_num_groups} does not divide block_out_channels {list(widths)}"
            )

    @property
    def factor(self) -> int:
        """Pixels per latent position, along height and along width."""
        return 1 << (len(self.block_out_channels) - 1)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON; `from_dict` reverses it."""
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {"format": FORMAT, "architecture": AUTOENCODER_KL, **values}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "KLAutoencoderConfig":
        """Reads what `to_dict` wrote.

        Raises:
            BadModelError: Another format or architecture, an unknown or missing key, or a value of a wrong type.
        """
        check_format(values, AUTOENCODER_KL)
        given = {name: value for name, value in values.items() if name not in {"format", "architecture"}}
        return cls(**plain_values(given, fields(cls), optional=frozenset()))
