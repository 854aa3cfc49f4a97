"""The steps: their names, and the kinds of artifact that they take and make."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel


@dataclass(frozen=True, kw_only=True)
class StepSpec:
    """One step.

    Attributes:
        name: The folder below ``components/``, and the step's name everywhere.
        inputs: Kinds by input name.
        outputs: Kinds by output name.
        optional: Inputs that may be missing.
        many: Inputs of which there are several, named with a number after a hyphen: ``made-0000``, ``made-0001`` and so on.
        contained: Whether it has an image of its own; a step without one is done in that of the step it is a share of, or where
            the command is given, on a file that lies there.
        share_of: The step that it does a share of, where there is one: it has that step's image, what it can be told is told to
            that step, and a person sees the two as one.
    """

    name: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    optional: frozenset[str] = frozenset()
    many: frozenset[str] = frozenset()
    contained: bool = True
    share_of: str = ""

    @property
    def module(self) -> str:
        """The module that holds ``run``."""
        return f"components.{self.name}.step"

    def kinds(self, given: Collection[str]) -> dict[str, str]:
        """Returns the kinds of a step's inputs by their names, those of which there are several each by its own.

        Args:
            given: The names of what is at hand.
        """
        found: dict[str, str] = {}
        for name, kind in self.inputs.items():
            if name in self.many:
                found |= dict.fromkeys(sorted(one for one in given if one.startswith(f"{name}-")), kind)
            elif name in given or name not in self.optional:
                found[name] = kind
        return found

    @property
    def whole(self) -> str:
        """The step that it does a share of, or else itself."""
        return self.share_of or self.name

    def config_class(self) -> "type[BaseModel]":
        """Returns the step's configuration class; cheap, since no ``config.py`` imports anything heavy."""
        found: Any = import_module(f"components.{self.name}.config").Config
        return found  # type: ignore[no-any-return]


_STEPS = (
    StepSpec(name="validate_data", inputs={"dataset": "dataset"}, outputs={"validation": "validation", "data_docs": "data_docs"}),
    StepSpec(name="train_codec", inputs={"dataset": "dataset", "validation": "validation"}, outputs={"codec": "codec"}),
    StepSpec(
        name="plan_encoding",
        inputs={"dataset": "dataset", "validation": "validation"},
        outputs={"plan": "encoding_plan"},
        contained=False,
        share_of="encode_latents",
    ),
    StepSpec(
        name="encode_part",
        inputs={"dataset": "dataset", "validation": "validation", "codec": "codec", "plan": "encoding_plan"},
        outputs={"encoded": "encoded_part"},
        contained=False,
        share_of="encode_latents",
    ),
    StepSpec(
        name="encode_latents",
        inputs={"dataset": "dataset", "validation": "validation", "codec": "codec", "encoded": "encoded_part"},
        outputs={"latents": "latents"},
        optional=frozenset({"encoded"}),
        many=frozenset({"encoded"}),
    ),
    StepSpec(name="train_dit", inputs={"latents": "latents"}, outputs={"model": "model"}),
    StepSpec(name="finetune_dit", inputs={"latents": "latents", "base": "package"}, outputs={"model": "model"}),
    StepSpec(
        name="evaluate",
        inputs={"model": "model", "codec": "codec", "latents": "latents", "dataset": "dataset"},
        outputs={"evaluation": "evaluation"},
    ),
    StepSpec(
        name="register_model",
        inputs={
            "model": "model",
            "codec": "codec",
            "latents": "latents",
            "dataset": "dataset",
            "validation": "validation",
            "evaluation": "evaluation",
        },
        outputs={"package": "package"},
    ),
    StepSpec(
        name="import_checkpoint",
        inputs={"checkpoint": "checkpoint", "codec": "codec"},
        outputs={"package": "package"},
        optional=frozenset({"codec"}),
        contained=False,
    ),
    StepSpec(
        name="generate_media",
        inputs={"package": "package", "request": "request", "evaluation": "evaluation"},
        outputs={"media": "media_set"},
        optional=frozenset({"evaluation"}),
    ),
    StepSpec(name="validate_requests", inputs={"table": "requests"}, outputs={"plan": "request_plan"}),
    StepSpec(
        name="generate_batch",
        inputs={"package": "package", "requests": "requests"},
        outputs={"made": "made_requests"},
    ),
    StepSpec(
        name="collect_results",
        inputs={"plan": "request_plan", "made": "made_requests"},
        outputs={"results": "results"},
        many=frozenset({"made"}),
    ),
)
STEPS: Mapping[str, StepSpec] = {spec.name: spec for spec in _STEPS}
