"""A block's MLP, which transforms each token on its own.

Shape legend: b batch, n tokens, d hidden size.
"""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from model_core.transformer.config import TransformerConfig


class Mlp(nn.Module):
    """Two linear layers around a GELU."""

    def __init__(self, hidden_size: int, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(hidden_size, width)
        self.fc2 = nn.Linear(width, hidden_size)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Returns the tokens, each transformed on its own."""
        return self.fc2(functional.gelu(self.fc1(x), approximate="tanh"))  # type: ignore[no-any-return]  # modules return Any


class SwiGlu(nn.Module):
    """``fc2(silu(gate(x)) * fc1(x))`` (Shazeer 2020, arXiv 2002.05202)."""

    def __init__(self, hidden_size: int, width: int) -> None:
        super().__init__()
        self.gate = nn.Linear(hidden_size, width)
        self.fc1 = nn.Linear(hidden_size, width)
        self.fc2 = nn.Linear(width, hidden_size)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Returns the tokens, each transformed on its own."""
        return self.fc2(functional.silu(self.gate(x)) * self.fc1(x))  # type: ignore[no-any-return]  # as above


def make_mlp(config: TransformerConfig) -> nn.Module:
    """Returns the MLP that an architecture asks for."""
    return (SwiGlu if config.mlp == "swiglu" else Mlp)(config.hidden_size, config.mlp_width)
