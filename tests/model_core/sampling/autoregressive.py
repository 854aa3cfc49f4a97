"""The optimal network for gaussian clips whose frames follow by ``x_f = rho x_{f-1} + sqrt(1 - rho^2) e``, in closed form.

Every latent position is a sequence of its own, so one clip holds thousands of them.
"""

import torch

from model_core.transformer.config import TransformerConfig
from model_core.transformer.dit import DiT
from model_core.transformer.model_config import ModelConfig
from model_core.transformer.modulations import Modulations, ModulationTable
from tests.model_core.toy_latents import model_config

RHO = 0.8
CHANNELS, WINDOW, SIDE = 4, 8, 32
CONFIG = TransformerConfig(
    in_channels=CHANNELS, patch_size=(1, 2, 2), hidden_size=8, depth=1, num_heads=1, num_labels=2, text_dim=6
)


def covariance(count: int) -> torch.Tensor:
    """Covariance of so many neighbouring frames: ``rho^|i - j|``."""
    places = torch.arange(count, dtype=torch.float64)
    return RHO ** (places[:, None] - places[None]).abs()


def ar_model_config(**changes) -> ModelConfig:
    values = {
        "architecture": CONFIG.to_dict(),
        "latent_shape": (CHANNELS, WINDOW, SIDE, SIDE),
        "image_size": 2 * SIDE,
        "fps": 8.0,
        "training": {"frame_times": "context"},
    }
    return model_config(num_steps=24).model_copy(update={**values, **changes})


class OptimalNetwork(DiT):
    """Predicts ``E[noise - x_0 | x_t]`` of rectified flow, each frame at its own time; conditions say nothing of the data."""

    def __init__(self) -> None:
        super().__init__(CONFIG)
        self.requires_grad_(False)
        self.asked: list[torch.Tensor] = []  # the times of each call's first clip

    def modulation_table(self, timesteps, condition):
        rows = timesteps.view(-1, 1, 1).expand(-1, len(condition), -1).flatten(0, 1)  # [steps b, 1]
        return ModulationTable(num_samples=len(condition), modulations=Modulations(blocks=(), final=rows))

    def denoise(self, x_t, modulations):
        t = modulations.final[0].reshape(-1).to(torch.float64).expand(x_t.shape[2]) / 1000
        self.asked.append(t)
        signal, sigma = torch.diag(1 - t), torch.diag(t)
        prior = covariance(len(t))
        inverse = torch.linalg.inv(signal @ prior @ signal + sigma @ sigma + 1e-9 * torch.eye(len(t), dtype=torch.float64))
        velocity = sigma @ inverse - prior @ signal @ inverse  # E[noise | x_t] - E[x_0 | x_t], linear in x_t
        return torch.einsum("ij,bcjhw->bcihw", velocity.to(x_t), x_t)
