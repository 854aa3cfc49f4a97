"""Where a process computes; importing this imports no tensors."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from model_core.errors import BadModelError

if TYPE_CHECKING:
    import torch
    from torch import nn

DeviceName = Literal["auto", "cpu", "cuda"]


def select_device(name: DeviceName, *, index: int = 0) -> "torch.device":
    """Returns the device of a process.

    Args:
        name: `auto` for a GPU where there is one.
        index: Number of the process on its machine: processes take GPUs in turn.

    Raises:
        BadModelError: No such device here.
    """
    import torch

    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if name not in {"auto", "cuda"}:
        raise BadModelError(f"no device is called {name!r}", hint="choose auto, cpu or cuda")
    if not torch.cuda.is_available():
        raise BadModelError("device cuda: torch finds no CUDA GPU on this machine", hint="choose cpu, or auto")
    return torch.device("cuda", index % torch.cuda.device_count())


@contextmanager
def placed(device: "torch.device", *modules: "nn.Module") -> Iterator[None]:
    """Has modules on a device, and puts them back to where they were."""
    before = [next(module.parameters()).device for module in modules]
    try:
        for module in modules:
            module.to(device)
        yield
    finally:
        for module, home in zip(modules, before, strict=True):
            module.to(home)


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """Has convolutions on a GPU use all bits of float32, not TF32's eleven, and algorithms that give the same bits each time."""
    import torch

    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32, cudnn.deterministic
    try:
        cudnn.allow_tf32, cudnn.deterministic = False, True
        yield
    finally:
        cudnn.allow_tf32, cudnn.deterministic = before
