"""Compiles a pipeline to the YAML that a Kubeflow cluster takes, and knows such a file again."""

import hashlib
import os
import re
from pathlib import Path

from governance.errors import IntegrityError
from infra.errors import BadSettingError
from pipelines.cluster import Cluster
from pipelines.graph import ENCODE_STEP, PIPELINES, load_pipeline
from pipelines.shaping import compiled_for, traced

_HEAD = re.compile(rb"# groundswell pipeline (?P<pipeline>[a-z]+), sha256 of all that follows: (?P<digest>[0-9a-f]{64})\n")
_MAX_BYTES = 16 << 20


def compile_pipeline(pipeline: str, out: Path, *, cluster: Cluster | None = None, in_parts: bool = False) -> None:
    """Writes a pipeline's IR YAML, with a first line by which `read_compiled` knows whether it was edited.

    Args:
        pipeline: ``training``, ``codec``, ``finetune`` or ``generation``.
        out: The file; replaced only by a complete one.
        cluster: What the steps get on the cluster; nothing in particular if not given.
        in_parts: Whether the dataset is encoded in parts, as many as the parameters of a run say.

    Raises:
        BadSettingError: There is no such pipeline, it encodes nothing, or the file's name does not end in ``.yaml``.
    """
    from kfp import compiler

    if pipeline not in PIPELINES:
        raise BadSettingError(f"there is no pipeline {pipeline!r}", hint=f"pipelines: {', '.join(PIPELINES)}")
    if in_parts and ENCODE_STEP not in PIPELINES[pipeline]:
        raise BadSettingError(f"the pipeline {pipeline} encodes no dataset", hint="leave out --encode-in-parts")
    if out.suffix not in {".yaml", ".yml"}:
        raise BadSettingError(f"{out} is no YAML file name", hint="write -o training.yaml")
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.stem}.partial{out.suffix}")
    try:
        loaded = load_pipeline(pipeline)
        with compiled_for(cluster):
            shaped = traced(loaded, in_parts=in_parts)
        compiler.Compiler().compile(shaped, str(partial))
        body = partial.read_bytes()
        head = f"# groundswell pipeline {pipeline}, sha256 of all that follows: {hashlib.sha256(body).hexdigest()}\n"
        partial.write_bytes(head.encode() + body)
        os.replace(partial, out)  # noqa: PTH105 - atomic on purpose
    finally:
        partial.unlink(missing_ok=True)


def read_compiled(path: Path) -> str:
    """Returns the name of the pipeline that a file was compiled from, if it is as it was compiled.

    Raises:
        BadSettingError: It cannot be read, or was not compiled by groundswell.
        IntegrityError: It was changed afterwards.
    """
    hint = f"groundswell compile PIPELINE -o {path}; what a cluster's steps get is set with --cluster, not in the file"
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise BadSettingError(f"{path} cannot be read: {error.strerror}", hint=hint) from error
    match = _HEAD.match(data)
    if match is None or len(data) > _MAX_BYTES or (pipeline := match["pipeline"].decode()) not in PIPELINES:
        raise BadSettingError(f"{path} is no pipeline that groundswell has compiled", hint=hint)
    if hashlib.sha256(data[match.end() :]).hexdigest() != match["digest"].decode():
        raise IntegrityError(f"{path} was changed after it was compiled", hint=hint)
    return pipeline
