"""The training pipeline: raw data to a registered model."""

from kfp import dsl
from kfp.dsl import Dataset, Model

from components.encode_latents.component import encode_latents
from components.evaluate.component import evaluate
from components.register_model.component import register_model
from components.train_dit.component import train_dit
from components.validate_data.component import validate_data


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
    data = dsl.importer(artifact_uri=dataset, artifact_class=Dataset, reimport=False).set_display_name("dataset")
    frozen_codec = dsl.importer(artifact_uri=codec, artifact_class=Model, reimport=False).set_display_name("codec")
    shared = {"home": home, "run_id": run_id, "params": params}
    validated = validate_data(**shared, dataset=data.output).set_caching_options(False)
    encoded = encode_latents(
        **shared, dataset=data.output, validation=validated.outputs["validation"], codec=frozen_codec.output
    ).set_caching_options(False)
    trained = train_dit(**shared, latents=encoded.outputs["latents"]).set_caching_options(False)
    evaluated = evaluate(
        **shared,
        model=trained.outputs["model"],
        codec=frozen_codec.output,
        latents=encoded.outputs["latents"],
        dataset=data.output,
    ).set_caching_options(False)
    register_model(
        **shared,
        model=trained.outputs["model"],
        codec=frozen_codec.output,
        latents=encoded.outputs["latents"],
        dataset=data.output,
        validation=validated.outputs["validation"],
        evaluation=evaluated.outputs["evaluation"],
    ).set_caching_options(False)
