"""Writes the files of a model package, all but its signature, from the outputs of the steps before.

The same inputs always give the same bytes: no file holds a time, a run, a host, a duration or a path.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from governance import package_layout as layout
from governance.digest import file_digests
from governance.errors import BadRecordError, IntegrityError, RefusedError
from governance.mlbom import ml_bom
from governance.model_card import model_card
from governance.model_records import ModelRecords

_PICTURES = (".png", ".jpg")


@dataclass(frozen=True, kw_only=True)
class PackageSources:
    """The folders that a package is made from, and what is known of them.

    Attributes:
        model: Output of train_dit, or of finetune_dit, which holds an adapter and what it was fine-tuned from besides.
        codec: The codec.
        dataset: The training data.
        validation: Output of validate_data.
        evaluation: Output of evaluate.
        digests: Their tree digests by name, with ``latents``.
        num_items: Items of the dataset by split.
        licences: Items of the dataset by licence.
        code_digests: Digests of the code by what it did, such as the step's name.
    """

    model: Path
    codec: Path
    dataset: Path
    validation: Path
    evaluation: Path
    digests: Mapping[str, str]
    num_items: Mapping[str, int]
    licences: Mapping[str, int]
    code_digests: Mapping[str, str] = field(default_factory=dict)


def build_package(out: Path, sources: PackageSources, *, name: str) -> str:
    """Writes a package into an empty folder and returns its root digest.

    Args:
        out: An existing, empty folder.
        sources: What it is made from.
        name: The model's name, for its card and its ML-BOM.

    Raises:
        IntegrityError: The sources do not belong together, or weights are no safetensors.
        RefusedError: The data did not pass validation.
        BadRecordError: A record is missing or malformed.
    """
    model = read_json(sources.model / layout.CONFIG)
    dataset = read_json(sources.dataset / "dataset.json")
    validation = read_json(sources.validation / "report.json")
    evaluation = read_json(sources.evaluation / "report.json")
    _check_sources(sources, model, validation)
    _copy_files(out, sources)
    base = read_base(sources.model)
    config = package_config(sources, model, dataset, base)
    _write(out / layout.CONFIG, _json(config))
    records = ModelRecords(
        name=name,
        config=config,
        dataset=dataset,
        num_items=sources.num_items,
        licences=sources.licences,
        validation=validation,
        evaluation=evaluation,
        pictures=tuple(path for path in file_digests(out) if layout.is_picture(path)),
        parameters={path: layout.num_parameters(out / path) for path in layout.safetensors_among(file_digests(out))},
    )
    try:
        _write(out / layout.MODEL_CARD, model_card(records))
        _write(out / layout.ML_BOM, _json(ml_bom(records, file_digests(out))))
    except KeyError as error:
        raise BadRecordError(f"model/config.json or dataset.json lacks {error}") from error
    layout.check_names(file_digests(out))
    return layout.package_root_digest(out)


def read_base(model: Path) -> dict[str, Any] | None:
    """Returns what a model was fine-tuned from, None where it was trained from the beginning.

    Raises:
        BadRecordError: The record cannot be read or lacks something, or stands there without an adapter.
    """
    if not (model / layout.BASE_RECORD).exists() and not (model / layout.ADAPTER_FOLDER).exists():
        return None
    base = read_json(model / layout.BASE_RECORD)
    named = [base.get(name) for name in ("name", "root_digest", "weights_digest")]
    if not all(isinstance(one, str) and one for one in named) or type(base.get("version")) is not int:
        raise BadRecordError(f"model/{layout.BASE_RECORD} does not name the base", hint="fine-tune the model again")
    return base


def package_config(
    sources: PackageSources, model: Mapping[str, Any], dataset: Mapping[str, Any], base: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Returns the package's ``config.json``: the trained model's own, with what it was made from and by."""
    added = {
        "package_format": layout.FORMAT,
        "codec": {"digest": sources.digests["codec"], "config": read_json(sources.codec / "config.json")},
        "training_data": {
            "name": dataset.get("name", ""),
            **{f"{name}_digest": sources.digests[name] for name in ("dataset", "latents", "validation", "evaluation")},
            "num_items": dict(sources.num_items),
            "licences": dict(sources.licences),
        },
        "code": dict(sources.code_digests),
        **({"base": dict(base)} if base is not None else {}),
    }
    clash = sorted(set(added) & set(model))
    if clash:
        raise BadRecordError(f"model/config.json already has {', '.join(clash)}, which the package adds")
    return {**model, **added}


def read_json(path: Path) -> dict[str, Any]:
    """Returns the object in a JSON file.

    Raises:
        BadRecordError: The file is missing, no JSON, or holds something else than an object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadRecordError(f"{path.parent.name}/{path.name} cannot be read: {type(error).__name__}") from error
    if not isinstance(value, dict):
        raise BadRecordError(f"{path.parent.name}/{path.name} holds no JSON object")
    return value


def _check_sources(sources: PackageSources, model: Mapping[str, Any], validation: Mapping[str, Any]) -> None:
    claims = (
        ("the model", "dataset", model.get("dataset_digest")),
        ("the model", "codec", model.get("codec_digest")),
        ("the validation report", "dataset", validation.get("dataset_digest")),
    )
    for who, what, claimed in claims:
        if claimed != sources.digests[what]:
            raise IntegrityError(
                f"{who} was made from {what} {str(claimed)[:12]}, not from {sources.digests[what][:12]}",
                hint="run the pipeline from its first step",
            )
    if validation.get("success") is not True:
        raise RefusedError("the training data did not pass validation", hint="look at the validation report")


def _copy_files(out: Path, sources: PackageSources) -> None:
    pictures = {
        f"evaluation/{path.name}": path
        for path in sorted(sources.evaluation.iterdir())
        if path.suffix in _PICTURES and path.is_file()
    }
    wanted = {
        layout.WEIGHTS: sources.model / layout.WEIGHTS,
        layout.CODEC_CONFIG: sources.codec / "config.json",
        layout.CODEC_WEIGHTS: sources.codec / "codec.safetensors",
        layout.EVALUATION_REPORT: sources.evaluation / "report.json",
        **({name: sources.model / name for name in layout.ADAPTER} if read_base(sources.model) is not None else {}),
        **pictures,
    }
    for name, path in wanted.items():
        if path.is_symlink() or not path.is_file():
            raise BadRecordError(f"a model package needs {path.parent.name}/{path.name}, which is missing or a link")
        (out / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(path, out / name)


def _write(path: Path, text: str) -> None:
    path.write_bytes(text.encode())


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
