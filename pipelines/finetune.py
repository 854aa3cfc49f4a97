"""The fine-tuning pipeline: a registered model and a few more pictures to a registered model."""

from kfp import dsl
from kfp.dsl import Dataset, Model

from components.evaluate.component import evaluate
from components.finetune_dit.component import finetune_dit
from components.register_model.component import register_model
from components.validate_data.component import validate_data
from pipelines.encoding import encoded
from pipelines.shaping import ending, imported, shaped


@dsl.pipeline(
    name="groundswell-finetune", description="validate_data -> encode_latents -> finetune_dit -> evaluate -> register_model"
)
def finetune(home: str, run_id: str, params: str, dataset: str, codec: str, base: str) -> None:
    """Validates and encodes a dataset, fine-tunes a registered model on it, evaluates and registers the result.

    Args:
        home: The home's folder.
        run_id: The run's id, a UUID.
        params: JSON: each step's configuration by the step's name.
        dataset: Where the dataset's folder is.
        codec: Where the folder of the base's codec is.
        base: Where the base's package is.
    """
    shared = {"home": home, "run_id": run_id, "params": params}
    with ending(home, run_id):
        data = imported(dataset, Dataset, "dataset")
        frozen_codec = imported(codec, Model, "codec")
        package = imported(base, Model, "base")
        validated = shaped(validate_data(**shared, dataset=data.output), "validate_data")
        validation = validated.outputs["validation"]
        given = {"codec": frozen_codec.output, "dataset": data.output}
        latents = encoded(shared, given, validation)
        adapted = shaped(finetune_dit(**shared, latents=latents, base=package.output), "finetune_dit")
        model = adapted.outputs["model"]
        evaluated = shaped(evaluate(**shared, **given, model=model, latents=latents), "evaluate")
        evaluation = evaluated.outputs["evaluation"]
        shaped(
            register_model(**shared, **given, model=model, latents=latents, validation=validation, evaluation=evaluation),
            "register_model",
        )
