"""The fine-tuning pipeline: a registered model and a few more pictures to a registered model."""

from kfp import dsl
from kfp.dsl import Dataset, Model

from components.encode_latents.component import encode_latents
from components.evaluate.component import evaluate
from components.finetune_dit.component import finetune_dit
from components.register_model.component import register_model
from components.validate_data.component import validate_data


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
    data = dsl.importer(artifact_uri=dataset, artifact_class=Dataset, reimport=False).set_display_name("dataset")
    frozen_codec = dsl.importer(artifact_uri=codec, artifact_class=Model, reimport=False).set_display_name("codec")
    package = dsl.importer(artifact_uri=base, artifact_class=Model, reimport=False).set_display_name("base")
    shared = {"home": home, "run_id": run_id, "params": params}
    validated = validate_data(**shared, dataset=data.output).set_caching_options(False)
    encoded = encode_latents(
        **shared, dataset=data.output, validation=validated.outputs["validation"], codec=frozen_codec.output
    ).set_caching_options(False)
    adapted = finetune_dit(**shared, latents=encoded.outputs["latents"], base=package.output).set_caching_options(False)
    evaluated = evaluate(
        **shared,
        model=adapted.outputs["model"],
        codec=frozen_codec.output,
        latents=encoded.outputs["latents"],
        dataset=data.output,
    ).set_caching_options(False)
    register_model(
        **shared,
        model=adapted.outputs["model"],
        codec=frozen_codec.output,
        latents=encoded.outputs["latents"],
        dataset=data.output,
        validation=validated.outputs["validation"],
        evaluation=evaluated.outputs["evaluation"],
    ).set_caching_options(False)
