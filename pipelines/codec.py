"""The codec pipeline: raw data to a frozen codec."""

from kfp import dsl
from kfp.dsl import Dataset

from components.train_codec.component import train_codec
from components.validate_data.component import validate_data


@dsl.pipeline(name="groundswell-codec", description="validate_data -> train_codec")
def codec(home: str, run_id: str, params: str, dataset: str) -> None:
    """Validates a dataset and trains a codec on it.

    Args:
        home: The home's folder.
        run_id: The run's id, a UUID.
        params: JSON: each step's configuration by the step's name.
        dataset: Where the dataset's folder is.
    """
    data = dsl.importer(artifact_uri=dataset, artifact_class=Dataset, reimport=False).set_display_name("dataset")
    shared = {"home": home, "run_id": run_id, "params": params}
    validated = validate_data(**shared, dataset=data.output).set_caching_options(False)
    train_codec(**shared, dataset=data.output, validation=validated.outputs["validation"]).set_caching_options(False)
