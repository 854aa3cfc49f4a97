"""How often chance alone would make a picture without a mark look like one with it.

To who does not know the key, its phases are uniform and independent, whatever the picture is. For a picture fixed and the key
drawn, the score at one placement and shift is a weighted sum of cosines of uniform angles over its standard deviation: mean 0,
variance 1, and ``P(score >= z) <= exp(-z^2 / 2)`` for any picture, as ``I_0(t) <= exp(t^2 / 4)`` (Chernoff). With hundreds of
waves it is a Gaussian to the precision that matters, and the largest of the scores at placements and shifts that were fixed
beforehand is bounded by their number (Bonferroni); they overlap, so that the true rate is lower. A maximum that is climbed to has
no such number, so nothing is climbed for the score. No model of pictures has a part in this, so none can be wrong. What is asked
for is a key that had no part in making the picture.
"""

import math

from model_core.watermark.carriers import TILE
from model_core.watermark.payload_code import CRC_BITS, PAYLOAD_BYTES


def gaussian_tail(z: float) -> float:
    """Returns the probability that a standard Gaussian exceeds z."""
    return 0.5 * math.erfc(z / math.sqrt(2))


def false_positive_probability(score: float, num_placements: int) -> float:
    """Returns how likely the best of all placements and shifts reaches a score in media without this key's mark."""
    return min(1.0, num_placements * TILE**2 * gaussian_tail(score))


def score_threshold(probability: float, num_placements: int) -> float:
    """Returns the score whose false-positive probability is the one given."""
    low, high = 0.0, 40.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if false_positive_probability(middle, num_placements) <= probability else (middle, high)
    return high


def wrong_payload_probability(agreement: float) -> float:
    """Returns how likely a decoder that was given noise would have found some valid id that agrees with it so well.

    Args:
        agreement: Score of the payload's signs against what was received, of variance 1 for noise.
    """
    return min(2.0**-CRC_BITS, 2.0 ** (8 * PAYLOAD_BYTES) * gaussian_tail(agreement))
