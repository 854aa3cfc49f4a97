"""What `encode_latents` can be told."""

from pydantic import BaseModel, ConfigDict, Field

from model_core.device import DeviceName


class Config(BaseModel):
    """How a dataset is encoded; nothing here changes a latent, but for a GPU's rounding.

    Attributes:
        batch_size: Pictures, or frames of clips, encoded at a time.
        shard_size: Items in a shard of latents; also how much is done between two points to resume from.
        device: `cpu`, `cuda`, or `auto` for a GPU where there is one.
        caption_tokens: Whether the states of captions' tokens are kept beside their pooled embeddings, for networks that attend
            to them (`train_dit.text_conditioning=cross_attention`).
        num_shown: Held-out pictures in `reconstructions.png`.
        parts: In how many parts a pipeline has the dataset encoded side by side, where it has as many shards; 1 for a single
            process. The latents are the same.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    batch_size: int = Field(default=32, ge=1)
    shard_size: int = Field(default=512, ge=1)
    device: DeviceName = "auto"
    caption_tokens: bool = False
    num_shown: int = Field(default=14, ge=1)
    parts: int = Field(default=1, ge=1, le=1000)
