"""Recipes of networks that train in milliseconds on the toy pictures."""

from benchmarks.quality_runs import Recipe

TINY = {"hidden_size": 16, "depth": 1, "num_heads": 2, "patch_size": (1, 4, 4)}
TOY_FLOW = Recipe(
    name="toy-flow",
    training={"batch_size": 8, "learning_rate": 1e-3, "warmup_steps": 1},
    architecture=TINY,
    num_sampling_steps=2,
    guidance_scale=1.5,
)
TOY_EPSILON = Recipe(
    name="toy-epsilon",
    training={"objective": "epsilon", "batch_size": 8, "warmup_steps": 0, "learn_variance": True},
    architecture={**TINY, "learn_variance": True},
    sampler="ddpm",
    num_sampling_steps=3,
)
TOY_RECIPES = {recipe.name: recipe for recipe in (TOY_FLOW, TOY_EPSILON)}
