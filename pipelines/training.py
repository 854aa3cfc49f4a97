"""The training pipeline: raw data to a registered model."""

from kfp import dsl
from kfp.dsl import Dataset, Model

from components.evaluate.component import evaluate
from components.register_model.component import register_model
from components.train_dit.component import train_dit
from components.validate_data.component import validate_data
from pipelines.encoding import encoded
from pipelines.shaping import ending, imported, shaped


@dsl.pipeline(
    name="groundswell-training", description="validate_data -> encode_latents -> train_dit -> evaluate -> register_model"
)
def training(home: str, run_id: str, params: str, dataset: str, codec: str) -> None:
    """Validates and encodes a dataset, trains a diffusion transformer on it, evaluates and registers it.

    Args:
        home: The home's folder.
        run_id: The run's id, a UUID.
        params: JSON: each step's configuration by the step's name.
        dataset: Where the dataset's folder is.
        codec: Where the frozen codec's folder is.
    """
    shared = {"home": home, "run_id": run_id, "params": params}
    with ending(home, run_id):
        data = imported(dataset, Dataset, "dataset")
        frozen_codec = imported(codec, Model, "codec")
        validated = shaped(validate_data(**shared, dataset=data.output), "validate_data")
        validation = validated.outputs["validation"]
        given = {"codec": frozen_codec.output, "dataset": data.output}
        latents = encoded(shared, given, validation)
        trained = shaped(train_dit(**shared, latents=latents), "train_dit")
        model = trained.outputs["model"]
        evaluated = shaped(evaluate(**shared, **given, model=model, latents=latents), "evaluate")
        evaluation = evaluated.outputs["evaluation"]
        shaped(
            register_model(**shared, **given, model=model, latents=latents, validation=validation, evaluation=evaluation),
            "register_model",
        )
