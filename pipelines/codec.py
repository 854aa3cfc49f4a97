"""The codec pipeline: raw data to a frozen codec."""

from kfp import dsl
from kfp.dsl import Dataset

from components.train_codec.component import train_codec
from components.validate_data.component import validate_data
from pipelines.shaping import ending, imported, shaped


@dsl.pipeline(name="groundswell-codec", description="validate_data -> train_codec")
def codec(home: str, run_id: str, params: str, dataset: str) -> None:
    """Validates a dataset and trains a codec on it.

    Args:
        home: The home's folder.
        run_id: The run's id, a UUID.
        params: JSON: each step's configuration by the step's name.
        dataset: Where the dataset's folder is.
    """
    shared = {"home": home, "run_id": run_id, "params": params}
    with ending(home, run_id):
        data = imported(dataset, Dataset, "dataset")
        validated = shaped(validate_data(**shared, dataset=data.output), "validate_data")
        shaped(train_codec(**shared, dataset=data.output, validation=validated.outputs["validation"]), "train_codec")
