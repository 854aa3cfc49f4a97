"""How the DiT paper's published program trains and samples, as a peer to measure against; written from the papers.

Peebles & Xie 2022 (arXiv 2212.09748, §4): AdamW at a constant rate of 1e-4 without weight decay, an average of the weights with
decay 0.9999, noise prediction with learned variances on the linear schedule, the loss of Nichol & Dhariwal 2021
(arXiv 2102.09672, eq. 15 and 16). As published, gradients are not clipped, the average is updated by a loop over the parameters,
and coefficients are looked up from float64 arrays at each step.

Shape legend: x_0, noise, x_t are [batch channels height width]; a network's output has twice the channels.
"""

import math
from collections.abc import Callable
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor, nn

LEARNING_RATE = 1e-4
EMA_DECAY = 0.9999
LABEL_DROPOUT = 0.1
NUM_TIMESTEPS = 1000
_PIXEL_BIN = 1.0 / 255.0

Network = Callable[[Tensor, Tensor, Tensor], Tensor]
"""``(x_t, t, labels) -> noise and variance interpolation``."""


class GaussianDiffusion:
    """The linear schedule's coefficients, and the hybrid loss and the DDIM step that use them."""

    def __init__(self, num_timesteps: int = NUM_TIMESTEPS) -> None:
        betas = np.linspace(1000 / num_timesteps * 1e-4, 1000 / num_timesteps * 0.02, num_timesteps, dtype=np.float64)
        self.num_timesteps = num_timesteps
        self.alpha_bars = np.cumprod(1 - betas)
        previous = np.append(1.0, self.alpha_bars[:-1])
        self.log_betas = np.log(betas)
        posterior = betas * (1 - previous) / (1 - self.alpha_bars)
        self.log_posterior_variances = np.log(np.append(posterior[1], posterior[1:]))  # the first is 0, so the second stands in
        self.x_0_weights = betas * np.sqrt(previous) / (1 - self.alpha_bars)
        self.x_t_weights = (1 - previous) * np.sqrt(1 - betas) / (1 - self.alpha_bars)

    def hybrid_loss(self, network: Network, x_0: Tensor, noise: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """Returns ``L_simple + L_vlb`` of a step each (Nichol & Dhariwal 2021, eq. 16 with one term of T and weight 1/1000)."""
        signal, sigma = _at(np.sqrt(self.alpha_bars), t, x_0), _at(np.sqrt(1 - self.alpha_bars), t, x_0)
        x_t = signal * x_0 + sigma * noise
        predicted, interpolation = network(x_t, t, labels).chunk(2, dim=1)
        simple = (noise - predicted).square().mean(dim=(1, 2, 3))
        return (simple + self._bound(predicted.detach(), interpolation, x_0, x_t, t)).mean()

    def _bound(self, predicted: Tensor, interpolation: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Returns the bound's term at t in bits a dimension, whose gradient reaches the variances alone."""
        signal, sigma = _at(np.sqrt(self.alpha_bars), t, x_0), _at(np.sqrt(1 - self.alpha_bars), t, x_0)
        share = (interpolation + 1) / 2
        log_variance = share * _at(self.log_betas, t, x_0) + (1 - share) * _at(self.log_posterior_variances, t, x_0)
        mean = self._posterior_mean((x_t - sigma * predicted) / signal, x_t, t)
        true_mean, true_log_variance = self._posterior_mean(x_0, x_t, t), _at(self.log_posterior_variances, t, x_0)
        difference = (true_mean - mean).square() * torch.exp(-log_variance)
        kl = 0.5 * (log_variance - true_log_variance - 1 + torch.exp(true_log_variance - log_variance) + difference)
        likelihood = _discretised_log_likelihood(x_0, mean, 0.5 * log_variance)
        nats = torch.where(t == 0, -likelihood.mean(dim=(1, 2, 3)), kl.mean(dim=(1, 2, 3)))
        return nats / math.log(2)

    def _posterior_mean(self, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return _at(self.x_0_weights, t, x_t) * x_0 + _at(self.x_t_weights, t, x_t) * x_t

    def ddim_step(self, predicted: Tensor, x_t: Tensor, t: int, previous: int) -> Tensor:
        """Returns ``x_previous`` without added noise (Song 2020, arXiv 2010.02502, eq. 12); a negative step is the data's end."""
        alpha_bar = float(self.alpha_bars[t])
        before = float(self.alpha_bars[previous]) if previous >= 0 else 1.0
        x_0 = (x_t - math.sqrt(1 - alpha_bar) * predicted) / math.sqrt(alpha_bar)
        return math.sqrt(before) * x_0 + math.sqrt(1 - before) * predicted


def _at(values: np.ndarray, t: Tensor, like: Tensor) -> Tensor:
    """Returns a value a sample, as [batch 1 1 1]."""
    return torch.from_numpy(values).to(like.device)[t].float().view(-1, 1, 1, 1)


def _discretised_log_likelihood(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Returns the log probability of 8-bit data in [-1, 1] under a gaussian (Ho 2020, arXiv 2006.11239, eq. 13)."""
    inverse = torch.exp(-log_scale)
    above = _normal_cdf((x - mean + _PIXEL_BIN) * inverse)
    below = _normal_cdf((x - mean - _PIXEL_BIN) * inverse)
    inside = (above - below).clamp_min(1e-12).log()
    lowest, highest = above.clamp_min(1e-12).log(), (1 - below).clamp_min(1e-12).log()
    return torch.where(x < -0.999, lowest, torch.where(x > 0.999, highest, inside))


def _normal_cdf(x: Tensor) -> Tensor:
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


@torch.no_grad()
def update_ema(ema: nn.Module, model: nn.Module, decay: float = EMA_DECAY) -> None:
    """Moves the averaged parameters towards the trained ones, one parameter after the other."""
    averaged = dict(ema.named_parameters())
    for name, parameter in model.named_parameters():
        averaged[name].mul_(decay).add_(parameter.data, alpha=1 - decay)


class ReferenceTrainer:
    """The training step as published.

    Args:
        model: A network of the signature `Network`.
        num_labels: Labels known; one more index stands for no label.
    """

    def __init__(self, model: nn.Module, *, num_labels: int) -> None:
        self.model = model
        self.ema = deepcopy(model).requires_grad_(requires_grad=False)
        self.diffusion = GaussianDiffusion()
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0)
        self._num_labels = num_labels

    def step(self, x_0: Tensor, labels: Tensor) -> float:
        """Takes one step and returns its loss."""
        t = torch.randint(self.diffusion.num_timesteps, (len(x_0),), device=x_0.device)
        dropped = torch.rand(len(labels), device=labels.device) < LABEL_DROPOUT
        labels = torch.where(dropped, self._num_labels, labels)
        loss = self.diffusion.hybrid_loss(self.model, x_0, torch.randn_like(x_0), t, labels)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        self.optimizer.step()
        update_ema(self.ema, self.model)
        return float(loss.detach())
