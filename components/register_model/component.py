"""The Kubeflow shell of register_model: wiring, and one call of the runtime."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Model, Output

from components.images import image


@dsl.component(base_image=image("register_model"), install_kfp_package=False)
def register_model(
    home: str,
    run_id: str,
    params: str,
    model: Input[Model],
    codec: Input[Model],
    latents: Input[Dataset],
    dataset: Input[Dataset],
    validation: Input[Artifact],
    evaluation: Input[Artifact],
    package: Output[Model],
) -> None:
    """Runs the step register_model through the runtime; the arguments are those of `components.kubeflow.run_component`."""
    from components.kubeflow import run_component

    run_component(
        "register_model",
        home=home,
        run_id=run_id,
        params=params,
        inputs={
            "model": model,
            "codec": codec,
            "latents": latents,
            "dataset": dataset,
            "validation": validation,
            "evaluation": evaluation,
        },
        outputs={"package": package},
    )
