"""The learning rate at a step: a linear warm-up, then a decay."""

import math

from model_core.training.config import TrainingConfig


def learning_rate_at(step: int, config: TrainingConfig) -> float:
    """Returns the rate for a step counted from 0.

    It rises as ``(step + 1) / warmup_steps`` and then falls from the peak to ``final_rate_fraction`` of it, along half a cosine
    (Loshchilov & Hutter 2016, arXiv 1608.03983, eq. 5) or a line; `constant` stays at the peak, and `wsd` stays there until the
    last ``decay_fraction`` of all steps and then falls along a line (warmup-stable-decay: Hu 2024, arXiv 2404.06395, §4).
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.decay == "constant":
        return config.learning_rate
    start = config.warmup_steps
    if config.decay == "wsd":
        start = max(start, round((1 - config.decay_fraction) * config.num_steps))
    progress = min(1.0, max(0, step - start) / max(1, config.num_steps - start))
    left = 0.5 * (1 + math.cos(math.pi * progress)) if config.decay == "cosine" else 1 - progress
    return config.learning_rate * (config.final_rate_fraction + (1 - config.final_rate_fraction) * left)
