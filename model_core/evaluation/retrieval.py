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

from model_core.conditioning.whitening import Whitening, fit_whitening

POOL: Final = 100
_ALPHAS: Final = (1e2, 1e3, 1e4, 1e5)
_TINY: Final = 1e-9


@dataclass(frozen=True, kw_only=True)
class RetrievalProbe:
    """Maps what is seen to whitened captions.

    Attributes:
        seen_mean: Mean of each feature over the training clips.
        seen_scale: One over each feature's standard deviation.
        weight: The regression.
        whiten: Of captions' embeddings.
    """

    seen_mean: Float[np.ndarray, " dim"]
    seen_scale: Float[np.ndarray, " dim"]
    weight: Float[np.ndarray, "dim directions"]
    whiten: Whitening

    def similarity(self, seen: Float[np.ndarray, "n dim"], text: Float[np.ndarray, "m text"]) -> Float[np.ndarray, "m n"]:
        """Returns the cosine of every caption with every sample."""
        predicted = ((seen - self.seen_mean) * self.seen_scale) @ self.weight
        cosine: np.ndarray = _unit(self.whiten(text)) @ _unit(predicted).T
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
    whiten = fit_whitening(text)
    ridge = RidgeCV(alphas=_ALPHAS, fit_intercept=False).fit((seen - seen_mean) * seen_scale, whiten(text))
    weight = np.asarray(ridge.coef_, dtype=np.float64).reshape(whiten.directions.shape[1], -1).T
    return RetrievalProbe(seen_mean=seen_mean, seen_scale=seen_scale, weight=weight, whiten=whiten)


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
