"""All that changes while a transformer is trained: weights, their average, the optimiser's moments, the losses.

Measured on one core with 7.6 M weights, the update after a backward pass is 1 % of a step (norm 1.5 ms, AdamW 6.5, average 2.6
of 1,280). Flat buffers would save 3 ms of it, and gradients would take a pass more to be collected in one; so each tensor is its
own.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from model_core.diffusion.condition import Condition
from model_core.diffusion.objective import Objective
from model_core.training.adaptation import Adaptation
from model_core.training.batch import Batch
from model_core.training.config import TrainingConfig
from model_core.training.data_order import random_generator
from model_core.training.distributed import Distributed, distribute, divided_like, micro_batches, own_part, whole
from model_core.training.ema import ema_decay_at, update_ema
from model_core.training.learning_rate import learning_rate_at
from model_core.training.precision import ResolvedPrecision, autocast
from model_core.transformer.config import TransformerConfig
from model_core.transformer.dit import DiT
from model_core.transformer.weights import restore_tensors

_CPU = torch.device("cpu")
_ALONE = Distributed()
_NORM_EPS = 1e-6
_SURELY_SMALL = 1 - 1e-5  # below this share of the greatest norm clipping multiplies by exactly one


class TrainingState:
    """A model in training.

    Attributes:
        model: The network being trained.
        ema: Averaged weights by name of each trained parameter.
        losses: Loss of every step, NaN for steps not done.
        step: Steps done.

    Args:
        config: Hyperparameters.
        architecture: The network.
        device: Where it is trained.
        precision: Of matmuls.
        distributed: This process's place among others.
        adaptation: What to start from and which adapters to learn alone; all weights are drawn, and learnt, if not given.
    """

    def __init__(
        self,
        config: TrainingConfig,
        architecture: TransformerConfig,
        *,
        device: torch.device = _CPU,
        precision: ResolvedPrecision = "float32",
        distributed: Distributed = _ALONE,
        adaptation: Adaptation | None = None,
    ) -> None:
        self.config = config
        self.device = device
        self.distributed = distributed
        self._precision = precision
        if adaptation is None:
            self.model = DiT(architecture, generator=random_generator(config.seed, "weights"))
        else:
            self.model = adaptation.network(config.seed)
        self.model.to(device)
        self.model.set_activation_checkpointing(config.activation_checkpointing)
        if config.compile:
            for block in self.model.blocks:
                block.compile()
        self._network = distribute(self.model, distributed, device)
        self._parameters = {name: parameter for name, parameter in self.model.named_parameters() if parameter.requires_grad}
        self.ema = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        self.losses = torch.full((config.num_steps,), torch.nan, dtype=torch.float64)
        self.step = 0
        self._optimizer = _optimizer(config, self._parameters)

    def predict(self, x_t: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        """Returns the network's prediction in float32."""
        with autocast(self._precision, self.device):
            prediction: Tensor = self._network(
                x_t,
                timestep.to(self.device),
                condition.labels,
                condition.text,
                condition.text_mask,
                condition.text_states,
                condition.text_states_mask,
            )
        return prediction.float()

    def backward(self, batch: Batch, objective: Objective) -> Tensor:
        """Computes the gradients of a step from this process's items, part by part, and returns the loss over all processes.

        The loss is a mean over items, so each part counts by its share of the step's items, and sums over parts and processes are
        what the whole step at once would give.
        """
        self._optimizer.zero_grad(set_to_none=True)
        world_size, total = self.distributed.world_size, torch.zeros((), device=self.device)
        parts = micro_batches(len(batch), self.config.accumulate_steps)
        for place, which in enumerate(parts):
            part = batch if len(parts) == 1 else batch.part(which)
            share = len(part) / batch.num_in_step
            with self._gradients_exchanged(last=place == len(parts) - 1):
                loss = objective.loss(
                    partial(self.predict, condition=part.condition), part.x_0, part.noise, part.time, part.counted
                )
                # Processes' gradients are averaged, not summed.
                (loss * (share * world_size)).backward()  # type: ignore[no-untyped-call]  # torch's own
            total += loss.detach() * share
        return self.distributed.total(total)

    def gradients(self) -> Iterator[tuple[str, Tensor]]:
        """Yields what lies in this process of each gradient there is, by parameter name."""
        for name, parameter in self._parameters.items():
            if parameter.grad is not None:
                yield name, own_part(parameter.grad)

    def gradient_norm(self) -> Tensor:
        """Returns the norm of all gradients together."""
        found = [parameter.grad for parameter in self._parameters.values() if parameter.grad is not None]
        return whole(torch.nn.utils.get_total_norm(found))

    def apply(self, loss: float, gradient_norm: float) -> None:
        """Takes one optimiser step with the gradients at hand, scaled down to the greatest norm allowed, and counts it."""
        self._clip(gradient_norm)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate_at(self.step, self.config)
        self._optimizer.step()
        with torch.no_grad():
            ema, weights = map(own_part, self.ema.values()), map(own_part, self._parameters.values())
            update_ema(list(ema), list(weights), ema_decay_at(self.step, self.config.ema_decay))
        self.losses[self.step] = loss
        self.step += 1

    def tensors(self) -> Mapping[str, Tensor]:
        """Returns every tensor that changes, by name; they are the state's own, not copies, and may be divided."""
        found: dict[str, Tensor] = {"losses": self.losses}
        for name, parameter in self._parameters.items():
            found[f"model.{name}"] = parameter.detach()
            found[f"ema.{name}"] = self.ema[name]
            for key, value in self._optimizer.state[parameter].items():
                found[f"optimizer.{name}.{key}"] = value
        return found

    def snapshot(self) -> dict[str, Tensor]:
        """Returns whole copies of `tensors` in main memory, in the main process; the others help and return nothing."""
        copies = {}
        for name, tensor in self.tensors().items():
            every = whole(tensor)
            if self.distributed.is_main:
                copies[name] = every.detach().to("cpu", copy=True)
        return copies

    def restore(self, found: Mapping[str, Tensor], step: int, *, source: Path) -> None:
        """Takes over whole tensors as `snapshot` made them.

        Raises:
            BadModelError: They are of another model.
        """
        into = self.tensors()
        restore_tensors(into, divided_like(found, into), source=source)
        self.step = step

    @property
    def num_parameters(self) -> int:
        """Number of trained numbers."""
        return sum(parameter.numel() for parameter in self._parameters.values())

    def averaged_weights(self) -> dict[str, Tensor]:
        """Returns the averaged weights, whole, in main memory."""
        return {name: whole(tensor).cpu() for name, tensor in self.ema.items()}

    def close(self) -> None:
        """Drops DDP's hold on the processes' transport, which hangs when it outlives their meeting."""
        self._network = self.model

    def _clip(self, gradient_norm: float) -> None:
        """Scales gradients by ``max_norm / norm`` where that is below one (Pascanu 2012, arXiv 1211.5063)."""
        greatest = self.config.max_grad_norm
        if gradient_norm > greatest * _SURELY_SMALL:
            factor = torch.clamp(greatest / (torch.tensor(gradient_norm, dtype=torch.float32) + _NORM_EPS), max=1.0)
            torch._foreach_mul_([gradient for _, gradient in self.gradients()], factor.to(self.device))

    def _gradients_exchanged(self, *, last: bool) -> AbstractContextManager[None]:
        """Returns a context in which DDP adds gradients up for itself until the last part of a step."""
        if isinstance(self._network, DistributedDataParallel) and not last:
            return self._network.no_sync()
        return nullcontext()


def _optimizer(config: TrainingConfig, parameters: Mapping[str, torch.nn.Parameter]) -> torch.optim.AdamW:
    """Returns AdamW (Loshchilov & Hutter 2017, arXiv 1711.05101) whose moments exist from the start, to be restored in place."""
    matrices = [parameter for parameter in parameters.values() if parameter.ndim > 1]
    vectors = [parameter for parameter in parameters.values() if parameter.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        lr=config.learning_rate,
        betas=(0.9, config.adam_beta2),
        fused=True,
    )
    for parameter in parameters.values():
        optimizer.state[parameter] = {
            "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
    return optimizer
