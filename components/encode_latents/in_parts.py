"""The Kubeflow shells of encoding in parts: what plans them, what encodes one, and what joins them. They share one image."""

from typing import List  # noqa: UP035 - kfp reads annotations of its own kind

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Model, Output

from components.images import image


@dsl.component(base_image=image("encode_latents"), install_kfp_package=False)
def plan_encoding(
    home: str,
    run_id: str,
    params: str,
    dataset: Input[Dataset],
    validation: Input[Artifact],
    plan: Output[Artifact],
) -> List[str]:  # noqa: UP006
    """Runs the step plan_encoding through the runtime, and returns the parts that it has divided the dataset into."""
    from components.kubeflow import begin_parts, run_component
    from components.plan_encoding.plan import part_numbers

    made = run_component(
        "plan_encoding",
        home=home,
        run_id=run_id,
        params=params,
        inputs={"dataset": dataset, "validation": validation},
        outputs={"plan": plan},
    )
    return begin_parts("encode_latents", part_numbers(str(made["plan"].path)), home=home, run_id=run_id)


@dsl.component(base_image=image("encode_latents"), install_kfp_package=False)
def encode_part(
    home: str,
    run_id: str,
    params: str,
    part: str,
    dataset: Input[Dataset],
    validation: Input[Artifact],
    codec: Input[Model],
    plan: Input[Artifact],
    encoded: Output[Artifact],
) -> None:
    """Runs the step encode_part through the runtime; the arguments are those of `components.kubeflow.run_component`."""
    from components.kubeflow import run_component

    run_component(
        "encode_part",
        home=home,
        run_id=run_id,
        params=params,
        part=part,
        inputs={"dataset": dataset, "validation": validation, "codec": codec, "plan": plan},
        outputs={"encoded": encoded},
    )


@dsl.component(base_image=image("encode_latents"), install_kfp_package=False)
def encode_latents(
    home: str,
    run_id: str,
    params: str,
    dataset: Input[Dataset],
    validation: Input[Artifact],
    codec: Input[Model],
    encoded: Input[List[Artifact]],  # noqa: UP006
    latents: Output[Dataset],
) -> None:
    """Runs the step encode_latents, which joins the parts, through the runtime; the arguments are those of `run_component`."""
    from components.kubeflow import run_component

    run_component(
        "encode_latents",
        home=home,
        run_id=run_id,
        params=params,
        inputs={
            "dataset": dataset,
            "validation": validation,
            "codec": codec,
            **{f"encoded-{number:04d}": part for number, part in enumerate(encoded)},
        },
        outputs={"latents": latents},
    )
