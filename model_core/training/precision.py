"""In which precision a run's matmuls are."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Literal

import torch

from model_core.device import DeviceName
from model_core.training.config import PrecisionName

__all__ = ["DeviceName", "ResolvedPrecision", "autocast", "matmul_dtype", "resolve_precision"]

ResolvedPrecision = Literal["float32", "bfloat16"]

_BFLOAT16_UNITS = ("amx_bf16", "avx512_bf16")


def resolve_precision(
    name: PrecisionName, device: torch.device, *, cpu_capabilities: Mapping[str, Any] | None = None
) -> ResolvedPrecision:
    """Returns the precision of matmuls: for `auto` bfloat16 where the hardware multiplies it natively, else float32.

    A CPU with AVX2 alone emulates bfloat16 and is some fifty times slower with it.

    Args:
        name: What was asked for.
        device: Where the run computes.
        cpu_capabilities: What the processor can do by name; asked of torch if not given.
    """
    if name != "auto":
        return name
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        found = torch.cpu.get_capabilities() if cpu_capabilities is None else cpu_capabilities
        native = any(bool(found.get(unit)) for unit in _BFLOAT16_UNITS)
    return "bfloat16" if native else "float32"


def matmul_dtype(precision: ResolvedPrecision) -> torch.dtype:
    """Returns the type of numbers that matmuls take."""
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def autocast(precision: ResolvedPrecision, device: torch.device) -> AbstractContextManager[None]:
    """Returns a context in which matmuls have this precision (Micikevicius 2017, arXiv 1710.03740); weights stay float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")
