"""What tells captions of one dataset apart, at one scale: their embeddings' principal components, each of unit variance.

Captions that are built alike lie close together for a sentence encoder: "a cat moving left" and "a cat moving right" differ by a
few per cent of their length. Whitened, each such difference counts as much as the largest one.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

MAX_DIRECTIONS = 256
_LEAST_SHARE = 1e-4


@dataclass(frozen=True, kw_only=True)
class Whitening:
    """A map to uncorrelated numbers of unit variance.

    Attributes:
        mean: Mean of the embeddings.
        directions: Maps centred embeddings to the numbers, largest variance first.
    """

    mean: Float[np.ndarray, " dim"]
    directions: Float[np.ndarray, "dim k"]

    def __call__(self, embeddings: Float[np.ndarray, "n dim"]) -> Float[np.ndarray, "n k"]:
        """Returns embeddings whitened."""
        whitened: np.ndarray = (embeddings - self.mean) @ self.directions
        return whitened


def fit_whitening(embeddings: Float[np.ndarray, "n dim"], *, max_directions: int = MAX_DIRECTIONS) -> Whitening:
    """Fits the map in float64, deterministically.

    Directions with less than a ten-thousandth of the largest variance are left out: they hold rounding.

    Args:
        embeddings: At least one row.
        max_directions: How many numbers to map to at most.
    """
    rows = embeddings.astype(np.float64)
    mean = rows.mean(axis=0)
    _, singular, directions = np.linalg.svd(rows - mean, full_matrices=False)
    variance = singular**2 / len(rows)
    kept = min(max_directions, int((variance > _LEAST_SHARE * max(variance.max(), np.finfo(np.float64).tiny)).sum()))
    chosen = directions[:kept]
    signs = np.sign(chosen[np.arange(kept), np.abs(chosen).argmax(axis=1)])  # a sign that does not depend on the solver
    return Whitening(mean=mean, directions=(chosen * signs[:, None]).T / np.sqrt(variance[:kept]))
