"""Names by which configurations choose a diffusion process; importing this imports no tensors."""

from typing import Literal

ObjectiveName = Literal["rectified_flow", "epsilon", "x0", "v"]
"""What is learnt: the velocity of rectified flow's straight path, or noise, data or v on a noise schedule's path."""

ScheduleName = Literal["linear", "cosine", "scaled_linear", "sigmoid"]
"""How fast a noise schedule destroys the signal."""

TimeSamplingName = Literal["uniform", "logit_normal"]
"""How often each time is trained on."""

FrameTimesName = Literal["shared", "context", "independent"]
"""Whether the frames of a clip are trained at one time, the first of them nearly clean as context, or each at its own time."""
