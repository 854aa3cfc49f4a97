"""What a network is trained for: path, prediction, times and loss under one name.

Shape legend: x_0 and noise are [batch channels frames height width], t is [batch], or [batch frames] where frames have times of
their own.
"""

from dataclasses import dataclass
from typing import get_args

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from model_core.diffusion.bound import LATENTS, step_term
from model_core.diffusion.broadcast import per_sample
from model_core.diffusion.loss_weights import min_snr_weights
from model_core.diffusion.losses import Denoiser, simple_loss
from model_core.diffusion.names import ObjectiveName, ScheduleName, TimeSamplingName
from model_core.diffusion.parameterisation import FLOW_TIME_SCALE, PredictionName, target
from model_core.diffusion.reverse import Gaussian, learned_log_variance, reverse_mean, split_learned
from model_core.diffusion.schedules import NoiseSchedule
from model_core.diffusion.schedules import noise_schedule as make_noise_schedule
from model_core.diffusion.timesteps import logit_normal_steps, logit_normal_times, uniform_steps, uniform_times
from model_core.errors import BadModelError

VLB_WEIGHT = 0.001
"""lambda of the hybrid loss (Nichol & Dhariwal 2021, arXiv 2102.09672, eq. 16)."""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What a network is trained for; `make_objective` makes one from plain values.

    Attributes:
        name: Path and prediction.
        schedule: The noise schedule; None exactly for rectified flow.
        learn_variance: Whether the reverse process' variance is learnt too, by the hybrid loss; the network then returns twice
            the channels: the prediction, then the variance's interpolation.
        min_snr_gamma: The ceiling of min-SNR weighting; None for equal weights.

    Raises:
        BadModelError: The values do not go together.
    """

    name: ObjectiveName
    schedule: NoiseSchedule | None = None
    learn_variance: bool = False
    min_snr_gamma: float | None = None

    def __post_init__(self) -> None:
        """Refuses values that do not go together."""
        if self.name not in get_args(ObjectiveName):
            raise BadModelError(f"no objective is called {self.name!r}", hint=f"there are {', '.join(get_args(ObjectiveName))}")
        if (self.schedule is None) != (self.name == "rectified_flow"):
            raise BadModelError(
                f"the {self.name} objective " + ("needs a noise schedule" if self.schedule is None else "has no noise schedule")
            )
        if self.learn_variance and self.schedule is None:
            raise BadModelError(
                "rectified flow has no variance to learn",
                hint="choose the epsilon, x0 or v objective, or leave learn_variance out",
            )
        if self.min_snr_gamma is not None and not 0 < self.min_snr_gamma < float("inf"):
            raise BadModelError(f"min_snr_gamma is {self.min_snr_gamma}", hint="choose a positive number; 5 is usual")
        if self.name == "epsilon" and self.schedule is not None and float(self.schedule.alpha_bars[-1]) == 0:
            raise BadModelError(
                "the epsilon objective cannot have zero terminal SNR: pure noise says nothing about the data",
                hint="choose the v or x0 objective",
            )

    @property
    def prediction(self) -> PredictionName:
        """What the network predicts."""
        return "velocity" if self.name == "rectified_flow" else self.name

    def draw_times(
        self, batch_size: int, generator: torch.Generator, sampling: TimeSamplingName, mean: float = 0.0, std: float = 1.0
    ) -> Shaped[Tensor, "batch"]:
        """Draws the times of a batch: float times in [0, 1] for rectified flow, else int64 steps 0 to T - 1.

        Args:
            batch_size: How many.
            generator: Source of randomness.
            sampling: ``uniform``, or ``logit_normal``: more from the middle (Esser 2024, arXiv 2403.03206, eq. 19).
            mean: Mean of the logit, where it is normal.
            std: Standard deviation of the logit, where it is normal.

        Raises:
            BadModelError: An unknown sampling.
        """
        if sampling not in get_args(TimeSamplingName):
            raise BadModelError(
                f"no time sampling is called {sampling!r}", hint=f"there are {', '.join(get_args(TimeSamplingName))}"
            )
        if self.schedule is None:
            if sampling == "uniform":
                return uniform_times(batch_size, generator)
            return logit_normal_times(batch_size, generator, mean=mean, std=std)
        if sampling == "uniform":
            return uniform_steps(batch_size, self.schedule.num_timesteps, generator)
        return logit_normal_steps(batch_size, self.schedule.num_timesteps, generator, mean=mean, std=std)

    def time_at(self, share: Float[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
        """Returns the times at shares of all time, from 0 (data) to below 1 (noise), as `draw_times` would draw them."""
        return share if self.schedule is None else (self.schedule.num_timesteps * share).long()

    def coefficients(self, t: Shaped[Tensor, "batch *frames"], like: Float[Tensor, "batch ..."]) -> tuple[Tensor, Tensor]:
        """Returns signal and sigma of ``x_t = signal x_0 + sigma noise`` at times t, shaped to go with ``like``.

        Raises:
            ValueError: Steps that are no integers or times that are, or some out of range.
        """
        if t.is_floating_point() != (self.schedule is None):
            raise ValueError(
                f"the {self.name} objective has {'float times' if self.schedule is None else 'integer steps'}, not {t.dtype}"
            )
        if self.schedule is not None:
            return self.schedule.at(t, self.schedule.signals, like), self.schedule.at(t, self.schedule.sigmas, like)
        if not bool(((t >= 0) & (t <= 1)).all()):
            raise ValueError("a time of rectified flow is not within 0 to 1")
        time = per_sample(t, like)
        return 1 - time, time

    def network_time(self, t: Shaped[Tensor, "batch *frames"]) -> Float[Tensor, "batch *frames"]:
        """Returns times as the network sees them: steps as they are, rectified flow's on the scale of 0 to 1,000."""
        return FLOW_TIME_SCALE * t if self.schedule is None else t.to(torch.float32)

    def loss(
        self,
        predict: Denoiser,
        x_0: Float[Tensor, "batch channels frames height width"],
        noise: Float[Tensor, "batch channels frames height width"],
        t: Shaped[Tensor, "batch *frames"],
        counted: Bool[Tensor, "batch frames"] | None = None,
    ) -> Float[Tensor, ""]:
        """Returns the training loss of a batch.

        The mean squared error of the prediction (P4; Ho 2020, eq. 14; Liu 2022), weighted where min-SNR is asked for. Where the
        variance is learnt, 0.001 times the bound of P3 is added, in which the mean is held (Nichol & Dhariwal 2021, eq. 16). The
        bound's estimate, T times the term of one step, is unbiased for uniformly drawn steps.

        Args:
            predict: The network under the batch's condition.
            x_0: Clean latents.
            noise: Standard normal.
            t: Times as `draw_times` draws them, one a clip or one a frame.
            counted: False for frames whose error adds nothing, to a mean that is over all frames still: parts of a batch then add
                up to the whole whatever each has of such frames. All count if not given.

        Raises:
            BadModelError: The network's output has another shape than the objective's.
            ValueError: Shapes differ, a time is of the wrong kind or out of range, or frames have times of their own where the
                variance is learnt.
        """
        if noise.shape != x_0.shape or t.shape not in {x_0.shape[:1], x_0.shape[:3:2]}:
            raise ValueError(f"shapes differ: x_0 {list(x_0.shape)}, noise {list(noise.shape)}, t {list(t.shape)}")
        if self.learn_variance and (t.ndim > 1 or counted is not None):
            raise ValueError("the bound by which variances are learnt knows one time a sample, not one a frame")
        signal, sigma = self.coefficients(t, x_0)
        x_t = signal * x_0 + sigma * noise
        output = predict(x_t, self.network_time(t).to(x_t.device))
        if self.learn_variance:
            output, interpolation = split_learned(output, x_t)
        elif output.shape != x_0.shape:
            raise BadModelError(
                f"the network returned {list(output.shape)}, expected {list(x_0.shape)}",
                hint="learn_variance of the transformer and of the objective must agree",
            )
        weights = None
        if self.min_snr_gamma is not None:
            weights = min_snr_weights(self.prediction, signal, sigma, gamma=self.min_snr_gamma)
        if counted is not None:
            weights = per_sample(counted.to(x_0), x_0) * (1.0 if weights is None else weights)
        simple = simple_loss(output, target(self.prediction, x_0, noise, signal, sigma), weights)
        if self.schedule is None or not self.learn_variance:
            return simple
        reverse = Gaussian(
            mean=reverse_mean(self.prediction, output.detach(), x_t, t, self.schedule),
            log_variance=learned_log_variance(interpolation, t, self.schedule),
        )
        bound = self.schedule.num_timesteps * step_term(reverse, x_0, x_t, t, self.schedule, LATENTS).mean()
        return simple + VLB_WEIGHT * bound


def make_objective(
    name: ObjectiveName,
    *,
    noise_schedule: ScheduleName = "linear",
    num_timesteps: int = 1000,
    zero_terminal_snr: bool = False,
    learn_variance: bool = False,
    min_snr_gamma: float | None = None,
) -> Objective:
    """Returns an objective from plain values; rectified flow reads nothing about the schedule: its path ends in pure noise.

    Args:
        name: Path and prediction.
        noise_schedule: How fast the signal goes.
        num_timesteps: Steps T of the schedule.
        zero_terminal_snr: Rescale the schedule so that its last step is pure noise (Lin 2023, arXiv 2305.08891).
        learn_variance: Whether the reverse process' variance is learnt.
        min_snr_gamma: The ceiling of min-SNR weighting (Hang 2023, arXiv 2303.09556); None for equal weights.

    Raises:
        BadModelError: An unknown name, or values that do not go together.
    """
    schedule = None
    if name != "rectified_flow":
        try:
            schedule = make_noise_schedule(noise_schedule, num_timesteps, zero_terminal_snr)
        except ValueError as error:
            raise BadModelError(str(error)) from error
    return Objective(name=name, schedule=schedule, learn_variance=learn_variance, min_snr_gamma=min_snr_gamma)
