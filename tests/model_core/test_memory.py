import pytest
import torch

from model_core.errors import BadModelError
from model_core.memory import memory_named

FULL = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    MemoryError(),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."
    ),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
]


@pytest.mark.parametrize("error", FULL, ids=["gpu", "python", "cpu", "cublas"])
def test_running_out_of_memory_is_one_line(error):
    with (
        pytest.raises(BadModelError, match=r"^a batch of 3 does not fit into memory$") as caught,
        memory_named("a batch of 3", hint="take 2"),
    ):
        raise error
    assert caught.value.hint == "take 2"
    assert caught.value.__cause__ is error


def test_memory_that_torch_cannot_have_is_named():
    with pytest.raises(BadModelError, match="does not fit"), memory_named("all of it", hint=""):
        torch.empty(1 << 60, dtype=torch.uint8)


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), ValueError("no"), KeyboardInterrupt()])
def test_other_errors_go_on_as_they_are(error):
    with pytest.raises(type(error)) as caught, memory_named("a batch of 3", hint=""):
        raise error
    assert caught.value is error
