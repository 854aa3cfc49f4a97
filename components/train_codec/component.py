"""The Kubeflow shell of train_codec: wiring, and one call of the runtime."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Model, Output

from components.images import image


@dsl.component(base_image=image("train_codec"), install_kfp_package=False)
def train_codec(
    home: str,
    run_id: str,
    params: str,
    dataset: Input[Dataset],
    validation: Input[Artifact],
    codec: Output[Model],
) -> None:
    """Runs the step train_codec through the runtime; the arguments are those of `components.kubeflow.run_component`."""
    from components.kubeflow import run_component

    run_component(
        "train_codec",
        home=home,
        run_id=run_id,
        params=params,
        inputs={"dataset": dataset, "validation": validation},
        outputs={"codec": codec},
    )
