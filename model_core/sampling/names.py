"""Names of samplers and what each can sample; importing this imports no tensors."""

from typing import Final, Literal

SamplerName = Literal["ddpm", "ddim", "euler", "heun", "dpm_solver_pp", "unipc"]
Spacing = Literal["leading", "trailing", "linspace"]

_FOR_FLOW: Final[tuple[SamplerName, ...]] = ("euler", "heun", "dpm_solver_pp", "unipc")
_FOR_SCHEDULES: Final[tuple[SamplerName, ...]] = ("ddim", "ddpm", "dpm_solver_pp", "unipc")


def fitting_samplers(objective: str) -> tuple[SamplerName, ...]:
    """Returns the samplers that can follow an objective's path, the default first.

    Euler and Heun integrate a velocity over time, so they are for rectified flow; DDPM and DDIM walk a noise schedule's steps.
    DPM-Solver++ and UniPC need nothing but an estimate of x_0.
    """
    return _FOR_FLOW if objective == "rectified_flow" else _FOR_SCHEDULES
