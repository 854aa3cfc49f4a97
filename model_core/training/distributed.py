"""Training by several processes: each computes the gradients of its share of every batch.

Which rows and random numbers a step has depends on (seed, step) alone, so any number of processes computes the same step. DDP
keeps the whole model in every process (Li 2020, arXiv 2006.15704); FSDP2 keeps a slice of weights, gradients, averages and
moments in each and gathers a part's weights while it is computed (Zhao 2023, arXiv 2304.11277).
"""

import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, TypeGuard

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from model_core.errors import BadModelError, ModelCoreError
from model_core.transformer.attention import CrossAttention
from model_core.transformer.dit import DiT

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor  # imported where a model is divided: half as much again as torch

StrategyName = Literal["ddp", "fsdp"]


class WorkerLostError(ModelCoreError):
    """Another process of the run is gone, or does something else."""

    exit_code = 6


@dataclass(frozen=True, kw_only=True)
class Distributed:
    """A process's place among those that train together.

    Attributes:
        rank: Its number, from 0.
        world_size: How many there are.
        strategy: Whether every process holds the whole model (`ddp`) or a slice of it (`fsdp`).
        local_rank: Its number on its machine, by which processes take GPUs in turn; `rank` where all are on one.

    Raises:
        BadModelError: The numbers make no sense.
    """

    rank: int = 0
    world_size: int = 1
    strategy: StrategyName = "ddp"
    local_rank: int | None = None

    def __post_init__(self) -> None:
        """Refuses places that do not exist."""
        if not 0 <= self.rank < self.world_size:
            raise BadModelError(f"process {self.rank} of {self.world_size} does not exist", hint="ranks count from 0")
        if self.strategy not in {"ddp", "fsdp"}:
            raise BadModelError(f"no way to distribute is called {self.strategy!r}", hint="choose ddp or fsdp")

    @property
    def place(self) -> int:
        """This process's number on its machine."""
        return self.rank if self.local_rank is None else self.local_rank

    @property
    def is_main(self) -> bool:
        """Whether this process writes what the run leaves."""
        return self.rank == 0

    @property
    def is_sharded(self) -> bool:
        """Whether a process holds only a slice of the model."""
        return self.world_size > 1 and self.strategy == "fsdp"

    def share(self, num_items: int) -> slice:
        """Returns this process's items of a batch: neighbours, as many as the others have or one more."""
        return _part(num_items, self.rank, self.world_size)

    def total(self, value: Tensor) -> Tensor:
        """Returns the sum of a tensor over all processes."""
        if self.world_size > 1:
            dist.all_reduce(value)
        return value

    def agreed(self, decision: bool, device: torch.device) -> bool:
        """Returns the first process's decision to all."""
        if self.world_size == 1:
            return decision
        sent = torch.tensor(int(decision), device=device)
        dist.broadcast(sent, src=0)
        return bool(sent)

    def require_same(self, value: int, what: str, device: torch.device) -> None:
        """Refuses to go on where the processes differ.

        Raises:
            WorkerLostError: They have different values.
        """
        if self.world_size == 1:
            return
        extremes = torch.tensor([value, -value], device=device)
        dist.all_reduce(extremes, op=dist.ReduceOp.MAX)
        if int(extremes[0]) != -int(extremes[1]):
            raise WorkerLostError(
                f"the processes of this run differ in {what}: {-int(extremes[1])} to {int(extremes[0])}",
                hint="give all of them the same scratch folder and data",
            )


def micro_batches(num_items: int, count: int) -> list[slice]:
    """Returns so many parts of a process's items, of sizes that differ by one at most."""
    return [_part(num_items, place, count) for place in range(count)]


@contextmanager
def joined_processes(
    device: torch.device,
    *,
    strategy: StrategyName = "ddp",
    rank: int = -1,
    world_size: int = -1,
    init_method: str = "env://",
    timeout_s: float = 600.0,
) -> Iterator[Distributed]:
    """Joins the other processes of a run for as long as the context lasts: by gloo on the CPU, by NCCL on GPUs.

    Args:
        device: Where this process computes.
        strategy: How the model is divided.
        rank: This process's number; torchrun tells torch if not given.
        world_size: How many processes there are; likewise.
        init_method: Where they meet, such as ``file:///...`` or ``tcp://127.0.0.1:PORT``; likewise.
        timeout_s: Seconds after which a process that does not answer counts as lost.

    Raises:
        WorkerLostError: They do not meet in time.
    """
    try:
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            init_method=init_method,
            rank=rank,
            world_size=world_size,
            timeout=timedelta(seconds=timeout_s),
        )
    except (RuntimeError, ValueError) as error:
        # torch names groups by a count that goes on; in the next meeting this process would wait under another name than others.
        dist.distributed_c10d._world.group_count = 0  # noqa: SLF001 - only a group that came to be is taken back by torch
        raise WorkerLostError(
            f"the processes of this run did not meet: {_first_line(error)}", hint="start it with torchrun, or as one process"
        ) from error
    try:
        with warnings.catch_warnings():  # of outputs that are views: they are not changed in place here
            warnings.filterwarnings("ignore", message="FSDP2-wrapped module")
            yield _place(strategy)
    finally:
        dist.destroy_process_group()


def met_processes(strategy: StrategyName) -> Distributed | None:
    """Returns this process's place among those that it has met, in a block of `joined_processes`; None where it is alone.

    Args:
        strategy: How the model is divided.
    """
    return _place(strategy) if dist.is_initialized() else None


def _place(strategy: StrategyName) -> Distributed:
    rank = dist.get_rank()
    local_rank = dist.get_node_local_rank(fallback_rank=rank)  # torchrun tells
    return Distributed(rank=rank, world_size=dist.get_world_size(), strategy=strategy, local_rank=local_rank)


@contextmanager
def lost_workers_named(distributed: Distributed) -> Iterator[None]:
    """Turns what the other processes' end causes here into one line.

    Raises:
        WorkerLostError: A process could not be reached.
    """
    try:
        yield
    except (RuntimeError, SystemError) as error:
        if distributed.world_size == 1 or isinstance(error, torch.OutOfMemoryError) or not _is_of_transport(error):
            raise
        traceback.clear_frames(error.__traceback__)  # they hold the transport, which hangs when it outlives the meeting
        raise WorkerLostError(
            f"process {distributed.rank} lost another of the {distributed.world_size} processes of this run",
            hint="look at what the others said; the run goes on from its last checkpoint when started again",
        ) from error


def distribute(model: DiT, distributed: Distributed, device: torch.device) -> nn.Module:
    """Returns the module to call in place of the model; under FSDP the model's parameters become slices."""
    if distributed.world_size == 1:
        return model
    if distributed.strategy == "fsdp":
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(device.type, (distributed.world_size,))
        for block in model.blocks:
            for unit in _units(block):
                fully_shard(unit, mesh=mesh)
        fully_shard(model, mesh=mesh)
        return model
    return DistributedDataParallel(
        model,
        device_ids=[device.index] if device.type == "cuda" else None,
        gradient_as_bucket_view=True,
        find_unused_parameters=model.config.attention == "factorised",  # attention over time has nothing to do on pictures
    )


def whole(tensor: Tensor) -> Tensor:
    """Returns all of a tensor that may be divided among processes; then all of them have to call this."""
    return tensor.full_tensor() if _is_divided(tensor) else tensor


def own_part(tensor: Tensor) -> Tensor:
    """Returns the part of a tensor that lies in this process."""
    return tensor.to_local() if _is_divided(tensor) else tensor


def divided_like(found: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns whole tensors divided as others of the same names are; each process cuts out its own part."""
    cut = dict(found)
    for name, tensor in found.items():
        target = like.get(name)
        if target is not None and _is_divided(target) and target.shape == tensor.shape:
            from torch.distributed.tensor import distribute_tensor

            where = target.device_mesh, target.placements
            cut[name] = distribute_tensor(tensor.to(target.device), *where, src_data_rank=None)
    return cut


def _is_divided(tensor: Tensor) -> TypeGuard["DTensor"]:
    return hasattr(tensor, "full_tensor")


def _units(block: nn.Module) -> Iterator[nn.Module]:
    """Yields the parts of a block that gather their weights together, inner ones first.

    They are smaller than a block because a block's modulation and its keys and values of a caption are computed before the blocks
    are; what has no unit, such as offsets of a shared modulation, is gathered with the embedders.
    """
    if isinstance(block.cross_attn, CrossAttention):
        yield block.cross_attn.kv
    for part in (block.adaLN_modulation, block.skip, block.attn, block.temporal_attn, block.cross_attn, block.mlp):
        if isinstance(part, nn.Module):
            yield part


def _part(num_items: int, place: int, count: int) -> slice:
    return slice(num_items * place // count, num_items * (place + 1) // count)


def _is_of_transport(error: BaseException) -> bool:
    """Returns whether the transport between processes raised this; gloo's errors have no type of their own."""
    text = str(error).lower()
    return isinstance(error, dist.DistError) or any(mark in text for mark in ("gloo", "nccl", "connection", "process group"))


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]
