"""What `train_codec` can be told; its defaults are the training of the codec that ships with the project."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from model_core.device import DeviceName


class Config(BaseModel):
    """How a codec is built and trained.

    Attributes:
        architecture: `compact`; `autoencoder_kl`, that of latent diffusion's public KL-VAEs; or `causal_3d`, which learns from
            clips and compresses in time, too.
        latent_channels: Channels of a latent.
        downscale: Pixels per latent position along a side (f4 is 4), of a compact or a causal codec.
        temporal_downscale: Frames per latent frame of a `causal_3d`, 2 or 4.
        encoder_widths: Channels of the encoder from full resolution to the latents' resolution.
        encoder_blocks: Residual blocks of the encoder at each of these resolutions.
        decoder_widths: Channels of the decoder, in the same order.
        decoder_blocks: Residual blocks of the decoder, in the same order.
        posterior: Whether a compact or a causal encoder gives a gaussian or a point; a point has no KL divergence, so kl_weight
            must be 0.
        block_out_channels: Channels of an `autoencoder_kl` from full resolution to the latents', halving at each but the last.
        layers_per_block: Its residual blocks at each resolution of the encoder; the decoder has one more.
        norm_num_groups: Groups of its group norms.
        num_steps: Batches to train on.
        batch_size: Crops in a batch.
        crop_size: Side of a crop in pixels.
        crop_frames: Frames of a crop where a `causal_3d` learns from clips; all where there are fewer.
        divisors: The scales to train and measure at: the dataset's pictures, each side divided by these.
        learning_rate: The highest rate.
        warmup_steps: Steps over which the rate rises.
        ema_decay: Decay of the moving average of weights.
        latent_noise: Largest standard deviation of noise on latents in training, in standard deviations of the latents.
        l1_weight: Weight of the mean absolute error.
        mse_weight: Weight of the mean squared error.
        gradient_weight: Weight of the error of differences between neighbouring pixels.
        kl_weight: Weight of the KL divergence.
        kl_unit: What the divergence is counted in: nats a number of the `latent`, or of the picture (`pixel`), as in latent
            diffusion, whose weight is then 1e-6.
        perceptual_weight: Weight of the distance in the features of EfficientNet-Lite0; 0 is without.
        adversarial_weight: Weight of a patch discriminator's judgement, beside its adaptive weight; 0 is without.
        adversarial_start: The first step in which the discriminator takes part, counted from 0.
        discriminator_width: Channels of its first layer.
        discriminator_layers: Its layers that halve the resolution.
        discriminator_learning_rate: Its rate.
        device: `cpu`, `cuda`, or `auto` for a GPU where there is one.
        checkpoint_every: Steps between checkpoints.
        seed: Decides weights, batches and noise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    architecture: Literal["compact", "autoencoder_kl", "causal_3d"] = "compact"
    latent_channels: int = Field(default=8, ge=1)
    downscale: int = 4
    temporal_downscale: int = 4
    encoder_widths: tuple[int, ...] = (16, 48, 96)
    encoder_blocks: tuple[int, ...] = (0, 1, 1)
    decoder_widths: tuple[int, ...] = (16, 64, 128)
    decoder_blocks: tuple[int, ...] = (0, 2, 2)
    posterior: Literal["gaussian", "deterministic"] = "gaussian"
    block_out_channels: tuple[int, ...] = (64, 128, 256)
    layers_per_block: int = Field(default=2, ge=1)
    norm_num_groups: int = Field(default=32, ge=1)
    num_steps: int = Field(default=3000, ge=1)
    batch_size: int = Field(default=16, ge=1)
    crop_size: int = Field(default=32, ge=8)
    crop_frames: int = Field(default=16, ge=1)
    divisors: tuple[int, ...] = Field(default=(1, 2), min_length=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    warmup_steps: int = Field(default=100, ge=0)
    ema_decay: float = Field(default=0.998, ge=0, lt=1)
    latent_noise: float = Field(default=0.3, ge=0)
    l1_weight: float = Field(default=1.0, ge=0)
    mse_weight: float = Field(default=2.0, ge=0)
    gradient_weight: float = Field(default=0.5, ge=0)
    kl_weight: float = Field(default=1e-3, ge=0)
    kl_unit: Literal["latent", "pixel"] = "latent"
    perceptual_weight: float = Field(default=0.0, ge=0)
    adversarial_weight: float = Field(default=0.0, ge=0)
    adversarial_start: int = Field(default=1500, ge=0)
    discriminator_width: int = Field(default=32, ge=1)
    discriminator_layers: int = Field(default=2, ge=1)
    discriminator_learning_rate: float = Field(default=2e-4, gt=0)
    device: DeviceName = "auto"
    checkpoint_every: int = Field(default=500, ge=1)
    seed: int = Field(default=0, ge=0)
