"""Training by several processes of one machine: this one, and others that it starts and that end with it."""

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from model_core.data.latents import LatentDataset
from model_core.device import DeviceName, select_device
from model_core.errors import BadModelError, ModelCoreError
from model_core.training.adaptation import Adaptation
from model_core.training.config import TrainingConfig
from model_core.training.distributed import Distributed, StrategyName, WorkerLostError, joined_processes, met_processes
from model_core.training.loop import StepProgress, TrainingResult, train
from model_core.training.throughput import MatmulPeak
from model_core.transformer.config import TransformerConfig

_END_S = 30.0
_WORDS_S = 5.0  # that a process has for its last words once another has missed it


def train_in_processes(
    config: TrainingConfig,
    architecture: TransformerConfig,
    latents: Path,
    *,
    num_processes: int,
    strategy: StrategyName,
    scratch: Path,
    device: DeviceName,
    on_step: Callable[[StepProgress], None],
    matmul_peak: MatmulPeak | None = None,
    adaptation: Adaptation | None = None,
) -> TrainingResult:
    """Trains as `model_core.training.loop.train` does, in so many processes, to the same weights but for rounding.

    Every process takes a GPU of its own, or its share of the threads that this one has on the CPU. Where this process is one of
    several that have met, since a launcher such as torchrun has started them, it trains among these and starts none.

    Args:
        config: Hyperparameters.
        architecture: The network.
        latents: Folder of what to train on.
        num_processes: How many, this one among them.
        strategy: How the model is divided among them.
        scratch: Folder for checkpoints.
        device: Where to compute.
        on_step: Called after every step, in this process alone.
        matmul_peak: A function of a module, which each process calls for itself.
        adaptation: As of `train`.

    Raises:
        BadModelError: There are more processes than GPUs, or than pictures of a step.
        ModelCoreError: What `train` raises, here or in another process, which is named then.
    """
    here = _Share(config, architecture, latents, scratch, device, strategy, num_processes, matmul_peak, adaptation)
    met = met_processes(strategy)
    if met is not None or num_processes == 1:
        return here.train(on_step, met or Distributed())
    here.check()
    with TemporaryDirectory(dir=scratch, prefix="meeting-") as meeting, _workers(here, Path(meeting) / "file") as workers:
        try:
            return here.meet(0, Path(meeting) / "file", on_step)
        except WorkerLostError as error:
            raise _last_words(workers) or error from None


@dataclass(frozen=True)
class _Share:
    """What every process is told."""

    config: TrainingConfig
    architecture: TransformerConfig
    latents: Path
    scratch: Path
    device: DeviceName
    strategy: StrategyName
    num_processes: int
    matmul_peak: MatmulPeak | None
    adaptation: Adaptation | None

    def check(self) -> None:
        if self.num_processes * self.config.accumulate_steps > self.config.batch_size:
            raise BadModelError(
                f"{self.num_processes} processes and {self.config.accumulate_steps} parts of a step share batches of "
                f"{self.config.batch_size}",
                hint="take fewer processes or parts, or larger batches",
            )
        gpus = torch.cuda.device_count() if select_device(self.device).type == "cuda" else self.num_processes
        if self.num_processes > gpus:
            raise BadModelError(
                f"{self.num_processes} processes are to train on {gpus} GPUs", hint="take no more processes than GPUs"
            )

    def meet(self, rank: int, meeting: Path, on_step: Callable[[StepProgress], None] = lambda _: None) -> TrainingResult:
        threads = torch.get_num_threads()
        torch.set_num_threads(max(1, threads // self.num_processes))
        try:
            with joined_processes(
                select_device(self.device, index=rank),
                strategy=self.strategy,
                rank=rank,
                world_size=self.num_processes,
                init_method=meeting.as_uri(),
            ) as distributed:
                return self.train(on_step, distributed)
        finally:
            torch.set_num_threads(threads)

    def train(self, on_step: Callable[[StepProgress], None], distributed: Distributed) -> TrainingResult:
        return train(
            self.config,
            self.architecture,
            LatentDataset.open(self.latents),
            scratch=self.scratch,
            device=self.device,
            distributed=distributed,
            on_step=on_step,
            matmul_peak=self.matmul_peak,
            adaptation=self.adaptation,
        )


@dataclass(frozen=True)
class _Worker:
    rank: int
    process: BaseProcess
    words: Connection


@contextmanager
def _workers(share: _Share, meeting: Path) -> Iterator[list[_Worker]]:
    """Has the other processes run for as long as the context lasts."""
    spawning = multiprocessing.get_context("spawn")  # a process that was forked from one with threads or a GPU may hang
    workers = []
    try:
        for rank in range(1, share.num_processes):
            words, mouth = spawning.Pipe(duplex=False)
            process = spawning.Process(target=_work, args=(share, rank, meeting, torch.get_num_threads(), mouth), daemon=True)
            process.start()
            mouth.close()
            workers.append(_Worker(rank, process, words))
        yield workers
        for worker in workers:
            worker.process.join(_END_S)
    finally:
        for worker in workers:
            worker.process.kill()
            worker.process.join()
            worker.words.close()


def _work(share: _Share, rank: int, meeting: Path, num_threads: int, mouth: Connection) -> None:
    """Is another process: trains its share, and says why where it cannot."""
    torch.set_num_threads(num_threads)
    try:
        share.meet(rank, meeting)
    except WorkerLostError:
        pass  # not its own doing
    except ModelCoreError as error:
        mouth.send((error.diagnosis, error.hint, error.exit_code))
    except KeyboardInterrupt:
        pass  # the first process says so


def _last_words(workers: list[_Worker]) -> ModelCoreError | None:
    """Returns the error of a process that had one of its own."""
    for worker in workers:
        try:
            if worker.words.poll(_WORDS_S):
                diagnosis, hint, exit_code = worker.words.recv()
                error = ModelCoreError(f"process {worker.rank}: {diagnosis}", hint=hint)
                error.exit_code = exit_code
                return error
        except EOFError:
            continue  # killed, or lost another one itself
    return None
