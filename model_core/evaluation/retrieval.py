"""Does a caption find its own sample among others? A probe of how well samples follow their text.

A ridge regression, fitted on real training clips, predicts a caption's embedding from what is seen: features of frames, and how
they move. Embeddings are whitened first, so that "left" against "right" counts as much as what the caption is about. A caption
finds the sample whose prediction has the highest cosine with it. It is a probe, with a ceiling: read it beside the figure of real
clips.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float

POOL: Final = 100
_ALPHAS: Final = (1e2, 1e3, 1e4, 1e5)
_MAX_DIMENSIONS: Final = 256
_LEAST_SHARE: Final = 1e-4
_TINY: Final = 1e-9


@dataclass(frozen=True, kw_only=True)
class RetrievalProbe:
    """Maps what is seen to whitened captions.

    Attributes:
        seen_mean: Mean of each feature over the training clips.
        seen_scale: One over each feature's standard deviation.
        weight: The regression.
        text_mean: Mean of the embeddings.
        whiten: Maps centred embeddings to uncorrelated directions of unit variance.
    """

    seen_mean: Float[np.ndarray, " dim"]
    seen_scale: Float[np.ndarray, " dim"]
    weight: Float[np.ndarray, "dim directions"]
    text_mean: Float[np.ndarray, " text"]
    whiten: Float[np.ndarray, "text directions"]

    def similarity(self, seen: Float[np.ndarray, "n dim"], text: Float[np.ndarray, "m text"]) -> Float[np.ndarray, "m n"]:
        """Returns the cosine of every caption with every sample."""
        predicted = ((seen - self.seen_mean) * self.seen_scale) @ self.weight
        wanted = (text - self.text_mean) @ self.whiten
        cosine: np.ndarray = _unit(wanted) @ _unit(predicted).T
        return cosine


def train_retrieval(seen: Float[np.ndarray, "n dim"], text: Float[np.ndarray, "n text"]) -> RetrievalProbe:
    """Fits the probe, deterministically; how strongly it shrinks is chosen by leave-one-out error.

    Args:
        seen: What is seen of each training clip.
        text: The embedding of its caption.
    """
    from sklearn.linear_model import RidgeCV

    seen, text = seen.astype(np.float64), text.astype(np.float64)
    seen_mean, deviation = seen.mean(axis=0), seen.std(axis=0)
    seen_scale = np.where(deviation > _TINY, 1 / np.maximum(deviation, _TINY), 0.0)
    text_mean = text.mean(axis=0)
    _, singular, directions = np.linalg.svd(text - text_mean, full_matrices=False)
    variance = singular**2 / len(text)
    kept = min(_MAX_DIMENSIONS, int((variance > _LEAST_SHARE * variance.max()).sum()))
    whiten = directions[:kept].T / np.sqrt(variance[:kept])
    ridge = RidgeCV(alphas=_ALPHAS, fit_intercept=False).fit((seen - seen_mean) * seen_scale, (text - text_mean) @ whiten)
    weight = np.asarray(ridge.coef_, dtype=np.float64).reshape(kept, -1).T
    return RetrievalProbe(seen_mean=seen_mean, seen_scale=seen_scale, weight=weight, text_mean=text_mean, whiten=whiten)


def found_own(
    probe: RetrievalProbe,
    seen: Float[np.ndarray, "n dim"],
    text: Float[np.ndarray, "n text"],
    captions: Sequence[str],
    *,
    seed: int,
    pool: int = POOL,
) -> tuple[Float[np.ndarray, " m"], int]:
    """Returns for each caption that took part whether it finds its own sample first, and among how many.

    Samples of one caption are one: the first takes part. They are shuffled and dealt into pools of equal size; what does not
    fill one is left out.
    """
    _, first = np.unique(np.asarray(captions), return_index=True)
    order = np.random.default_rng(seed).permutation(np.sort(first))
    size = min(pool, len(order))
    hits = []
    for start in range(0, len(order) - size + 1, max(size, 1)):
        chosen = order[start : start + size]
        hits.append(probe.similarity(seen[chosen], text[chosen]).argmax(axis=1) == np.arange(size))
    return (np.concatenate(hits) if hits else np.zeros(0)).astype(np.float64), size


def _unit(vectors: np.ndarray) -> np.ndarray:
    scaled: np.ndarray = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), _TINY)
    return scaled
