"""The Kubeflow shell of validate_data: wiring, and one call of the runtime."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output

from components.images import image


@dsl.component(base_image=image("validate_data"), install_kfp_package=False)
def validate_data(
    home: str,
    run_id: str,
    params: str,
    dataset: Input[Dataset],
    validation: Output[Artifact],
    data_docs: Output[Artifact],
) -> None:
    """Runs the step validate_data through the runtime; the arguments are those of `components.kubeflow.run_component`."""
    from components.kubeflow import run_component

    run_component(
        "validate_data",
        home=home,
        run_id=run_id,
        params=params,
        inputs={"dataset": dataset},
        outputs={"validation": validation, "data_docs": data_docs},
    )
