"""A KL-regularised autoencoder between pixels and latents (Rombach 2021, arXiv 2112.10752, §3.1).

Shape legend: b batch, c latent channels, t frames, h w latent height and width, H W picture height and width,
f downscaling factor, n = b * t (frames are folded into the batch: each frame is coded on its own), k latent frames, which are
the frames but for a codec that compresses in time (`causal_autoencoder`).

Encoder and decoder are residual around a linear map of f x f patches: ``mean = patches @ W + net(x)``. The linear part can start
as a principal component analysis (`patch_pca`), so training begins at the best linear codec instead of at noise.
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from model_core.codec.config import CodecConfig, LatentConfig
from model_core.errors import BadDataError, BadModelError
from model_core.finite import first_not_finite

LOG_VARIANCE_RANGE = (-20.0, 10.0)
_CHANNELS_PER_GROUP = 16


def group_norm(channels: int) -> nn.GroupNorm:
    """Returns a group norm in groups of about 16 channels."""
    groups = max(1, channels // _CHANNELS_PER_GROUP)
    return nn.GroupNorm(groups if channels % groups == 0 else 1, channels)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around an identity; the second starts at zero, so the block starts as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = group_norm(channels), group_norm(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]  # a convolution made with a bias has one

    def forward(self, x: Float[Tensor, "n channels h w"]) -> Float[Tensor, "n channels h w"]:
        """Returns x plus its learned correction."""
        y = self.conv1(functional.silu(self.norm1(x)))
        correction: Tensor = self.conv2(functional.silu(self.norm2(y)))
        return x + correction


class Encoder(nn.Module):
    """Pixels to the parameters of the posterior."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        widths, factor = config.encoder_widths, config.downscale
        self.patch = nn.Conv2d(3, config.latent_channels, factor, stride=factor)
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 3, padding=1)]
        for level, (width, num_blocks) in enumerate(zip(widths, config.encoder_blocks, strict=True)):
            if level > 0:
                layers.append(nn.Conv2d(widths[level - 1], width, 3, stride=2, padding=1))
            layers.extend(ResidualBlock(width) for _ in range(num_blocks))
        self.net = nn.Sequential(*layers, group_norm(widths[-1]), nn.SiLU())
        self.deterministic = config.posterior == "deterministic"
        self.out = nn.Conv2d(widths[-1], (1 if self.deterministic else 2) * config.latent_channels, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]  # as above

    def forward(self, x: Float[Tensor, "n 3 H W"]) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "n c h w"] | None]:
        """Returns mean and log variance of the posterior; no log variance where the posterior is a point."""
        found: Tensor = self.out(self.net(x))  # [n 2c h w], or [n c h w] for a point
        if self.deterministic:
            return found + self.patch(x), None
        mean, log_variance = found.chunk(2, dim=1)  # each [n c h w]
        return mean + self.patch(x), log_variance.clamp(*LOG_VARIANCE_RANGE)


class Decoder(nn.Module):
    """Latents to pixels."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        widths, factor = config.decoder_widths, config.downscale
        self.patch = nn.ConvTranspose2d(config.latent_channels, 3, factor, stride=factor)
        layers: list[nn.Module] = [nn.Conv2d(config.latent_channels, widths[-1], 3, padding=1)]
        for level in reversed(range(config.num_levels)):
            layers.extend(ResidualBlock(widths[level]) for _ in range(config.decoder_blocks[level]))
            if level > 0:
                layers += [nn.Conv2d(widths[level], 4 * widths[level - 1], 1), nn.PixelShuffle(2)]
        self.net = nn.Sequential(*layers, group_norm(widths[0]), nn.SiLU())
        self.out = nn.Conv2d(widths[0], 3, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]  # as above

    def forward(self, z: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 3 H W"]:
        """Returns pixels, about [-1, 1]."""
        return self.patch(z) + self.out(self.net(z))  # type: ignore[no-any-return]  # modules return Any


@dataclass(frozen=True, kw_only=True)
class Posterior:
    """A diagonal gaussian over latents, or a point, before normalisation; of clips there is an axis of latent frames, k.

    Attributes:
        mean: Its mean, [n c *k h w].
        log_variance: The logarithm of its variance, [n c *k h w]; none for a point.
    """

    mean: Tensor
    log_variance: Tensor | None

    def mode(self) -> Float[Tensor, "n c *k h w"]:
        """Returns the most probable latents, which are the mean."""
        return self.mean

    def sample(self, generator: torch.Generator) -> Float[Tensor, "n c *k h w"]:
        """Draws by the reparameterisation trick (Kingma & Welling 2013, arXiv 1312.6114, §2.4); a point is its own sample.

        Args:
            generator: On the CPU.
        """
        if self.log_variance is None:
            return self.mean
        noise = torch.randn(self.mean.shape, generator=generator).to(self.mean)  # the same on every device
        return self.mean + torch.exp(0.5 * self.log_variance) * noise

    def kl(self) -> Float[Tensor, ""]:
        """Returns KL(posterior || N(0, I)) in nats, averaged over all numbers of the latents (ibid., appendix B).

        Raises:
            BadModelError: The posterior is a point, whose divergence is infinite.
        """
        return 0.5 * self._twice_kl().mean()

    def nats(self) -> Float[Tensor, "n"]:
        """Returns KL(posterior || N(0, I)) of each item in nats, summed over the numbers of its latents.

        Raises:
            BadModelError: The posterior is a point, whose divergence is infinite.
        """
        return 0.5 * self._twice_kl().flatten(1).sum(dim=1)

    def _twice_kl(self) -> Float[Tensor, "n c *k h w"]:
        if self.log_variance is None:
            raise BadModelError(
                "a deterministic codec has no KL divergence", hint='give the KL term no weight, or use posterior "gaussian"'
            )
        return self.mean.square() + self.log_variance.exp() - 1 - self.log_variance


class Codec(nn.Module):
    """Encodes clips to normalised latents and decodes them; a picture is a clip of one frame.

    This class has the compact architecture; a subclass brings another by its own `_make_networks`, `posterior` and `pixels`, and
    one that does not code frame by frame its own `_modes` and `_clips`, too.

    Args:
        config: Architecture and latent statistics; without statistics latents are left as the encoder makes them.
    """

    encoder: nn.Module
    decoder: nn.Module
    latent_mean: Tensor
    latent_std: Tensor
    memory_format: torch.memory_format = torch.channels_last

    def __init__(self, config: LatentConfig) -> None:
        super().__init__()
        self.config = config
        self._make_networks()
        shape = (config.latent_channels, 1, 1)
        mean = config.latent_mean or (0.0,) * config.latent_channels
        std = config.latent_std or (1.0,) * config.latent_channels
        self.register_buffer("latent_mean", torch.tensor(mean).view(shape), persistent=False)
        self.register_buffer("latent_std", torch.tensor(std).view(shape), persistent=False)
        self.to(memory_format=self.memory_format)  # type: ignore[call-overload]  # torch's stubs leave this form out

    def _make_networks(self) -> None:
        """Makes the networks that `config` describes."""
        if not isinstance(self.config, CodecConfig):
            raise TypeError(f"a compact codec needs a CodecConfig, not a {type(self.config).__name__}")
        self.encoder = Encoder(self.config)
        self.decoder = Decoder(self.config)

    @property
    def device(self) -> torch.device:
        """Where the codec computes, and takes what it codes."""
        return self.latent_mean.device

    @property
    def last_weight(self) -> nn.Parameter:
        """The weight of the decoder's last layer, where the gradients of losses are compared."""
        return self.decoder.get_parameter("out.weight")

    def posterior(self, frames: Float[Tensor, "n 3 H W"]) -> Posterior:
        """Returns the posterior of frames with values in [-1, 1]."""
        mean, log_variance = self.encoder(frames.contiguous(memory_format=torch.channels_last))
        return Posterior(mean=mean, log_variance=log_variance)

    def pixels(self, z: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 3 H W"]:
        """Returns what the decoder makes of latents that are not normalised: about [-1, 1], not clamped."""
        frames: Tensor = self.decoder(z)
        return frames

    def _modes(self, clips: Float[Tensor, "b 3 t H W"]) -> Float[Tensor, "b c k h w"]:
        """Returns the modes of clips' posteriors, not normalised."""
        modes = self.posterior(rearrange(clips, "b rgb t H W -> (b t) rgb H W")).mode()  # [n c h w]
        return rearrange(modes, "(b t) c h w -> b c t h w", b=clips.shape[0])

    def _clips(self, z: Float[Tensor, "b c k h w"]) -> Float[Tensor, "b 3 t H W"]:
        """Returns clips of latents that are not normalised, not clamped."""
        frames = self.pixels(rearrange(z, "b c k h w -> (b k) c h w").contiguous(memory_format=torch.channels_last))
        return rearrange(frames, "(b t) rgb H W -> b rgb t H W", b=z.shape[0])

    def encode(self, pixels: Float[Tensor, "b 3 t H W"]) -> Float[Tensor, "b c k h w"]:
        """Returns the normalised mode of the posterior ``(z - mean) / std`` of clips with values in [-1, 1].

        Raises:
            BadModelError: Not three channels, no frame, or a side that the factor does not divide.
            BadDataError: A pixel is not a finite number.
        """
        if pixels.ndim != 5 or pixels.shape[1] != 3:
            raise BadModelError(f"pixels have shape {list(pixels.shape)}, expected [batch, 3, frames, height, width]")
        self.config.latent_shape(pixels.shape[2], pixels.shape[3], pixels.shape[4])
        if not bool(pixels.isfinite().all()):
            raise BadDataError("a pixel to encode is not a finite number", hint="pixels are numbers in [-1, 1]")
        latents: Tensor = (self._modes(pixels) - self.latent_mean.unsqueeze(1)) / self.latent_std.unsqueeze(1)
        return latents.contiguous()

    def decode(self, latents: Float[Tensor, "b c k h w"], num_frames: int | None = None) -> Float[Tensor, "b 3 t H W"]:
        """Returns clips with values in [-1, 1] from normalised latents.

        Args:
            latents: What to decode.
            num_frames: Frames that the clips had, where the first latent frame codes fewer than the others; all are whole if not
                given.

        Raises:
            BadDataError: A latent is not a finite number.
            BadModelError: The latents have another number of dimensions or channels, or are not those of so many frames, or a
                pixel does not come out finite.
        """
        if latents.ndim != 5 or latents.shape[1] != self.config.latent_channels:
            raise BadModelError(
                f"latents have shape {list(latents.shape)}, expected [b, {self.config.latent_channels}, frames, height, width]"
            )
        if (place := first_not_finite(latents)) is not None:
            raise BadDataError(f"a latent to decode is not a finite number: clip {place} of {len(latents)}, counted from 0")
        whole = latents.shape[2] * self.config.temporal_factor
        num_frames = whole if num_frames is None else num_frames
        if self.config.latent_frames(num_frames) != latents.shape[2] or num_frames < 1:
            raise BadModelError(f"clips of {num_frames} frames have other latents than of {latents.shape[2]} frames")
        frames = self._clips(latents * self.latent_std.unsqueeze(1) + self.latent_mean.unsqueeze(1))
        if not bool(frames.isfinite().all()):
            raise BadModelError("the codec decodes finite latents to pixels that are not finite", hint="train the codec again")
        return frames[:, :, whole - num_frames :].clamp(-1, 1).contiguous()


def build_codec(config: LatentConfig, *, seed: int = 0) -> Codec:
    """Returns a codec whose first weights depend on the seed only; torch's global generator stays as it is."""
    from model_core.codec.causal_autoencoder import CausalCodec
    from model_core.codec.causal_config import CausalConfig
    from model_core.codec.kl_autoencoder import KLAutoencoder
    from model_core.codec.kl_config import KLAutoencoderConfig

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(config, CausalConfig):
            return CausalCodec(config)
        return KLAutoencoder(config) if isinstance(config, KLAutoencoderConfig) else Codec(config)
