"""The shape of a codec, as plain values; importing this imports no tensors."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import Field, asdict, dataclass, fields
from typing import Any, Literal, get_args, get_origin

from model_core.errors import BadModelError

FORMAT = "groundswell-codec/1"
COMPACT = "compact"
MAX_WIDTH = 1024
MAX_BLOCKS = 16
_MAX_INTEGER = 1 << 53
_LARGEST = 1e30  # within what float32 holds

PosteriorName = Literal["gaussian", "deterministic"]


@dataclass(frozen=True, kw_only=True)
class LatentConfig:
    """What the configuration of every codec says: its latents' channels, factor and statistics.

    Attributes:
        latent_channels: Channels of a latent.
        latent_mean: Mean of each latent channel on the training split, empty until measured.
        latent_std: Standard deviation of each latent channel on the training split, empty until measured.

    Raises:
        BadModelError: The values do not describe latents.
    """

    latent_channels: int
    latent_mean: tuple[float, ...] = ()
    latent_std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Refuses values that do not fit together."""
        if not 1 <= self.latent_channels <= MAX_WIDTH:
            raise BadModelError(f"codec: latent_channels is {self.latent_channels}", hint=f"choose 1 to {MAX_WIDTH}")
        if len(self.latent_mean) != len(self.latent_std) or len(self.latent_mean) not in {0, self.latent_channels}:
            raise BadModelError(f"codec: latent_mean and latent_std need {self.latent_channels} values each, or none")
        finite = all(abs(mean) < _LARGEST for mean in self.latent_mean)
        if not finite or not all(1 / _LARGEST < std < _LARGEST for std in self.latent_std):
            raise BadModelError("codec: latent_mean must be finite and latent_std positive")

    @property
    def factor(self) -> int:
        """Pixels per latent position, along height and along width."""
        raise NotImplementedError

    @property
    def temporal_factor(self) -> int:
        """Frames per latent frame."""
        return 1

    def latent_frames(self, frames: int) -> int:
        """Returns how many latent frames a clip has: the first of them may code fewer frames than the others."""
        return -(-frames // self.temporal_factor)

    def latent_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Returns (channels, latent frames, height, width) of a clip's latents.

        Raises:
            BadModelError: There is no frame, or a side is not a multiple of the downscaling factor.
        """
        if frames < 1:
            raise BadModelError(f"a clip of {frames} frames cannot be encoded", hint="a picture is a clip of one frame")
        if height < 1 or width < 1 or height % self.factor or width % self.factor:
            raise BadModelError(
                f"a picture of {width}x{height} cannot be encoded by a codec that divides by {self.factor}",
                hint=f"use sizes that are multiples of {self.factor}",
            )
        return (self.latent_channels, self.latent_frames(frames), height // self.factor, width // self.factor)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class CodecConfig(LatentConfig):
    """Architecture of a compact KL-VAE codec and the statistics of its latents.

    Levels run from full resolution to the latents' resolution, each half the size of the one before, so there are
    ``log2(downscale) + 1`` of them.

    Attributes:
        latent_channels: Channels of a latent.
        downscale: Pixels per latent position, along height and along width (f4 is 4).
        encoder_widths: Channels of the encoder at each level.
        encoder_blocks: Residual blocks of the encoder at each level.
        decoder_widths: Channels of the decoder at each level.
        decoder_blocks: Residual blocks of the decoder at each level.
        posterior: Whether the encoder gives mean and log variance of a gaussian, or a point (an autoencoder without a KL term).
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
    posterior: PosteriorName = "gaussian"

    def __post_init__(self) -> None:
        """Refuses values that do not fit together."""
        super().__post_init__()
        if self.downscale not in {2, 4, 8, 16, 32}:
            raise BadModelError(f"codec: downscale is {self.downscale}", hint="choose 2, 4, 8, 16 or 32")
        for name in ("encoder_widths", "decoder_widths", "encoder_blocks", "decoder_blocks"):
            values, blocks = getattr(self, name), name.endswith("blocks")
            if len(values) != self.num_levels:
                raise BadModelError(f"codec: {name} has {len(values)} levels, downscale {self.downscale} needs {self.num_levels}")
            if not all((0 if blocks else 1) <= value <= (MAX_BLOCKS if blocks else MAX_WIDTH) for value in values):
                raise BadModelError(f"codec: {name} is out of range: {list(values)}")
        if self.posterior not in get_args(PosteriorName):
            raise BadModelError(f"codec: posterior is {self.posterior!r}", hint=f"choose {' or '.join(get_args(PosteriorName))}")

    @property
    def factor(self) -> int:
        """Pixels per latent position, along height and along width."""
        return self.downscale

    @property
    def num_levels(self) -> int:
        """Number of resolutions, the full one included."""
        return self.downscale.bit_length()

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON; `from_dict` reverses it. What is as ever, architecture and posterior, is left out."""
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        if self.posterior == "gaussian":
            del values["posterior"]
        return {"format": FORMAT, **values}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "CodecConfig":
        """Reads what `to_dict` wrote.

        Raises:
            BadModelError: Another format or architecture, an unknown or missing key, or a value of a wrong type.
        """
        check_format(values, COMPACT)
        given = {name: value for name, value in values.items() if name not in {"format", "architecture"}}
        return cls(**plain_values(given, fields(cls), optional={"posterior"}))


def architecture_of(values: Mapping[str, Any]) -> Any:
    """Returns the architecture that a codec's config.json names; files that name none are of the compact one."""
    return values.get("architecture", COMPACT)


def check_format(values: Mapping[str, Any], architecture: str) -> None:
    """Refuses a config.json of another format or architecture.

    Raises:
        BadModelError: It is one.
    """
    if values.get("format") != FORMAT:
        raise BadModelError(f"codec config.json: format is {values.get('format')!r}, expected {FORMAT!r}")
    if architecture_of(values) != architecture:
        raise BadModelError(f"codec config.json: architecture is {architecture_of(values)!r}, expected {architecture!r}")


def plain_values(given: Mapping[str, Any], expected: Sequence[Field[Any]], *, optional: AbstractSet[str]) -> dict[str, Any]:
    """Returns the values of a config.json as a dataclass takes them, lists as tuples.

    Args:
        given: The object that was read.
        expected: The dataclass's fields.
        optional: Names that may be missing.

    Raises:
        BadModelError: An unknown or missing key, or a value of a wrong type.
    """
    kinds = {field.name: field.type for field in expected}
    if odd := sorted((set(given) ^ set(kinds)) - (set(optional) - set(given))):
        raise BadModelError(f"codec config.json: unknown or missing keys: {', '.join(odd)}")
    for name, value in given.items():
        if not _fits(value, kinds[name]):
            raise BadModelError(f"codec config.json: {name} has a value of a wrong type: {value!r}")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}


def _fits(value: object, kind: object) -> bool:
    """Whether a value read from JSON is of the type that a field's annotation names."""
    if get_origin(kind) is tuple:
        real = get_args(kind)[0] is float
        return isinstance(value, list) and all(_is_integer(item) or (real and isinstance(item, float)) for item in value)
    if kind is bool:
        return isinstance(value, bool)
    return _is_integer(value) if kind is int else isinstance(value, str)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _MAX_INTEGER
