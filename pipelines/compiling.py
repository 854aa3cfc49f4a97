"""Compiles a pipeline to the YAML that a Kubeflow cluster takes."""

import os
from pathlib import Path

from infra.errors import BadSettingError
from pipelines.graph import PIPELINES, load_pipeline


def compile_pipeline(pipeline: str, out: Path) -> None:
    """Writes a pipeline's IR YAML.

    Args:
        pipeline: ``training``, ``codec``, ``finetune`` or ``generation``.
        out: The file; replaced only by a complete one.

    Raises:
        BadSettingError: There is no such pipeline, or the file's name does not end in ``.yaml``.
    """
    from kfp import compiler

    if pipeline not in PIPELINES:
        raise BadSettingError(f"there is no pipeline {pipeline!r}", hint=f"pipelines: {', '.join(PIPELINES)}")
    if out.suffix not in {".yaml", ".yml"}:
        raise BadSettingError(f"{out} is no YAML file name", hint="write -o training.yaml")
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.stem}.partial{out.suffix}")
    try:
        compiler.Compiler().compile(load_pipeline(pipeline), str(partial))
        os.replace(partial, out)  # noqa: PTH105 - atomic on purpose
    finally:
        partial.unlink(missing_ok=True)
