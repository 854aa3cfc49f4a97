"""What low-rank adapters are put on, as plain values; importing this imports no tensors."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from model_core.errors import BadModelError

FORMAT: Final = "groundswell-adapter/1"
_MAX_RANK = 1024


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """Low-rank adapters on linear layers (Hu 2021, arXiv 2106.09685).

    Attributes:
        rank: Width of the bottleneck, r.
        alpha: What is added is scaled by ``alpha / rank``.
        targets: Layers by name or part of it: ``attn`` is every layer of attention, ``attn.qkv`` one of each block,
            ``blocks.0.mlp`` the first block's MLP. None for attention and MLP of every block.

    Raises:
        BadModelError: A value is out of range.
    """

    rank: int = 8
    alpha: float = 8.0
    targets: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Refuses values that make no sense."""
        if not 1 <= self.rank <= _MAX_RANK:
            raise BadModelError(f"adapter: rank is {self.rank}", hint=f"choose 1 to {_MAX_RANK}; 4 to 32 is usual")
        if not (math.isfinite(self.alpha) and self.alpha > 0):
            raise BadModelError(f"adapter: alpha is {self.alpha}", hint="choose a positive number; as large as the rank is usual")
        if self.targets is not None and not all(self.targets):
            raise BadModelError("adapter: no target is named", hint="leave targets out for attention and MLP of every block")

    @property
    def scale(self) -> float:
        """What the product of both matrices is multiplied with."""
        return self.alpha / self.rank

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON; `from_dict` reverses it."""
        return asdict(self) | {"targets": None if self.targets is None else list(self.targets)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "AdapterConfig":
        """Reads what `to_dict` wrote.

        Raises:
            BadModelError: A key is missing or unknown, or a value is of a wrong type or out of range.
        """
        rank, alpha, targets = (values.get(name) for name in ("rank", "alpha", "targets"))
        named = targets is None or (isinstance(targets, list) and all(isinstance(one, str) for one in targets))
        if set(values) != {"rank", "alpha", "targets"} or type(rank) is not int or type(alpha) not in {int, float} or not named:
            raise BadModelError("the adapter's configuration has keys missing or unknown, or a value of a wrong type")
        return cls(rank=rank, alpha=float(values["alpha"]), targets=None if targets is None else tuple(targets))
