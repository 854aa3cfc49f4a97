"""The pipelines by name, and their steps in order, without importing kfp."""

PIPELINES: dict[str, tuple[str, ...]] = {
    "training": ("validate_data", "encode_latents", "train_dit", "evaluate", "register_model"),
    "codec": ("validate_data", "train_codec"),
    "finetune": ("validate_data", "encode_latents", "finetune_dit", "evaluate", "register_model"),
}
