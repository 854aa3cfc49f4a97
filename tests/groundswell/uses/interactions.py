"""Invented interactions: clicks that follow from known effects, and from how variants differ besides."""

import numpy as np

from groundswell.uses.click_model import Variant

LEVELS = {
    "graphic": ("banana", "carrot", "cat", "frog", "penguin", "pig", "pizza", "red apple"),
    "motion": ("bouncing", "moving left", "moving right", "spinning"),
    "background": ("blue", "green", "red", "yellow"),
    "pace": ("quickly", "slowly"),
}
EFFECTS = {
    "cat": 0.6,
    "penguin": 0.4,
    "carrot": -0.5,
    "pig": -0.2,
    "bouncing": 0.35,
    "moving left": -0.25,
    "yellow": 0.3,
    "red": -0.3,
    "quickly": 0.1,
    "slowly": -0.1,
}
"""True log odds; 0 for levels that are not named."""
BASE = -3.0


def simulate(num: int, *, seed: int, spread: float = 0.2, shown: int = 600) -> list[Variant]:
    """Draws variants and their clicks."""
    dice = np.random.default_rng(seed)
    every = [
        dict(zip(LEVELS, values, strict=True))
        for values in np.stack(np.meshgrid(*LEVELS.values(), indexing="ij"), axis=-1).reshape(-1, len(LEVELS)).tolist()
    ]
    found = []
    for place in sorted(dice.permutation(len(every))[:num].tolist()):
        eta = BASE + sum(EFFECTS.get(level, 0.0) for level in every[place].values()) + spread * dice.normal()
        count = int(dice.integers(shown // 2, shown * 3 // 2))
        found.append(Variant(levels=every[place], shown=count, clicked=int(dice.binomial(count, 1 / (1 + np.exp(-eta))))))
    return found


def shuffled(variants: list[Variant], *, seed: int) -> list[Variant]:
    """Deals the clicks and showings to other variants: attributes say nothing about them any more."""
    order = np.random.default_rng(seed).permutation(len(variants)).tolist()
    return [
        Variant(levels=one.levels, shown=variants[other].shown, clicked=variants[other].clicked)
        for one, other in zip(variants, order, strict=True)
    ]
