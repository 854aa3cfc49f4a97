"""All that changes while a transformer is trained: weights, their average, the optimiser's moments, the losses."""

from collections.abc import Mapping

import torch
from torch import Tensor

from model_core.training.config import TrainingConfig
from model_core.training.data_order import random_generator
from model_core.training.ema import ema_decay_at, update_ema
from model_core.training.learning_rate import learning_rate_at
from model_core.transformer.config import TransformerConfig
from model_core.transformer.dit import DiT


class TrainingState:
    """A model in training.

    Attributes:
        model: The network being trained.
        ema: Averaged weights by parameter name.
        losses: Loss of every step, NaN for steps not done.
        step: Steps done.
    """

    def __init__(self, config: TrainingConfig, architecture: TransformerConfig) -> None:
        self.config = config
        self.model = DiT(architecture, generator=random_generator(config.seed, "weights"))
        self.ema = {name: parameter.detach().clone() for name, parameter in self.model.named_parameters()}
        self.losses = torch.full((config.num_steps,), torch.nan, dtype=torch.float64)
        self.step = 0
        self._parameters = dict(self.model.named_parameters())
        matrices = [p for p in self._parameters.values() if p.ndim > 1]
        vectors = [p for p in self._parameters.values() if p.ndim <= 1]
        self._optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
            lr=config.learning_rate,
            betas=(0.9, config.adam_beta2),
            fused=True,
        )
        for parameter in self._parameters.values():  # moments exist from the start, so that they can be restored in place
            self._optimizer.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }

    def gradient_norm(self) -> Tensor:
        """Clips the gradients to the greatest norm allowed and returns the norm that they had."""
        return torch.nn.utils.clip_grad_norm_(self._parameters.values(), self.config.max_grad_norm)

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        self._optimizer.zero_grad(set_to_none=True)

    def apply(self, loss: float) -> None:
        """Takes one optimiser step with the gradients at hand and counts it."""
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate_at(self.step, self.config)
        self._optimizer.step()
        update_ema(list(self.ema.values()), list(self._parameters.values()), ema_decay_at(self.step, self.config.ema_decay))
        self.losses[self.step] = loss
        self.step += 1

    def tensors(self) -> Mapping[str, Tensor]:
        """Returns every tensor that changes, by name; they are the state's own, not copies."""
        found: dict[str, Tensor] = {"losses": self.losses}
        for name, parameter in self._parameters.items():
            found[f"model.{name}"] = parameter.detach()
            found[f"ema.{name}"] = self.ema[name]
            for key, value in self._optimizer.state[parameter].items():
                found[f"optimizer.{name}.{key}"] = value
        return found
