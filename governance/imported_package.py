"""Writes what a package of an imported checkpoint says of itself: what is known of it, and that its training data are not."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from governance import package_layout as layout
from governance.digest import file_digests
from governance.errors import BadRecordError
from governance.mlbom import ml_bom
from governance.model_card import model_card
from governance.model_records import ModelRecords
from governance.package_contents import read_json

NOT_KNOWN: Final = "not known to groundswell; as stated by the origin"
NOT_EVALUATED: Final[Mapping[str, Any]] = {"format": "groundswell-evaluation/1", "metrics": {}, "evaluated": False}
"""``evaluation/report.json`` of a model that was imported and not evaluated."""


def build_imported_package(folder: Path, *, name: str, origin: Mapping[str, Any], code_digests: Mapping[str, str]) -> str:
    """Completes a folder that holds configuration, weights, codec and report to a package, and returns its root digest.

    The same checkpoint, said to be from the same origin, gives the same bytes.

    Args:
        folder: The package, but for its model card and ML-BOM.
        name: The model's name.
        origin: Where it was got from (``stated``), ``licence``, ``layout``, SHA-256 by name of the ``files`` that were given.
        code_digests: Digests of the code that imported it, by step.

    Raises:
        BadRecordError: The configuration lacks something.
        IntegrityError: The folder is not exactly a package, or weights are no safetensors.
    """
    model = read_json(folder / layout.CONFIG)
    config = {
        **model,
        "package_format": layout.FORMAT,
        "codec": {"digest": model["codec_digest"], "config": read_json(folder / layout.CODEC_CONFIG)},
        "origin": dict(origin),
        "code": dict(code_digests),
    }
    _write(folder / layout.CONFIG, _json(config))
    records = ModelRecords(
        name=name,
        config=config,
        dataset={},
        num_items={},
        licences={},
        validation={},
        evaluation=NOT_EVALUATED,
        parameters={path: layout.num_parameters(folder / path) for path in layout.SAFETENSORS},
    )
    try:
        _write(folder / layout.MODEL_CARD, model_card(records))
        _write(folder / layout.ML_BOM, _json(ml_bom(records, file_digests(folder))))
    except KeyError as error:
        raise BadRecordError(f"the imported model's config.json lacks {error}") from error
    layout.check_names(file_digests(folder))
    return layout.package_root_digest(folder)


def _write(path: Path, text: str) -> None:
    path.write_bytes(text.encode())


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
