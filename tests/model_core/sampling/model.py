"""A small transformer, awake in all its parts, and what it needs to sample."""

import torch

from model_core.diffusion.condition import Condition
from model_core.transformer.config import TransformerConfig
from model_core.transformer.dit import DiT
from model_core.transformer.model_config import ModelConfig, NoiseScheduleId, SamplingDefaults
from tests.model_core.toy_latents import ARCHITECTURE, SHAPE, TEXT_DIM
from tests.model_core.toy_latents import model_config as toy_model_config


def transformer(config: TransformerConfig = ARCHITECTURE) -> DiT:
    model = DiT(config, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model.eval().requires_grad_(False)


def model_config(
    objective="rectified_flow", *, sampler=None, num_timesteps=40, zero_terminal_snr=False, **options
) -> ModelConfig:
    schedule = NoiseScheduleId(name="linear", num_timesteps=num_timesteps, zero_terminal_snr=zero_terminal_snr)
    return toy_model_config().model_copy(
        update={
            "objective": objective,
            "noise_schedule": None if objective == "rectified_flow" else schedule,
            "sampling": SamplingDefaults(num_steps=4, guidance_scale=2.0, sampler=sampler),
            **options,
        }
    )


def condition(batch=3) -> Condition:
    text = torch.randn(batch, TEXT_DIM, generator=torch.Generator().manual_seed(2))
    return Condition(labels=torch.arange(batch) % 2, text=text, text_mask=torch.arange(batch) % 3 > 0)


def latents(seed=0, *, batch=3):
    return torch.randn(batch, *SHAPE, generator=torch.Generator().manual_seed(seed))
