"""The ML-BOM of a model package: a CycloneDX 1.6 document with a model card, as plain JSON.

The same package always gives the same document: it has no timestamp, and its serial number follows from the digests of the files.
"""

import hashlib
import re
import uuid
from collections.abc import Mapping
from typing import Any

from governance import package_layout as layout
from governance.model_records import Figure, ModelRecords, bases_of, figures, origin_of, samples_of

INTENDED_USE = "Generating labelled, traceable pictures in the style of its training data, for review by a person before use."
LIMITS = (
    "It knows only the categories and the style of its training data, and only the resolution that it was trained at.",
    "Captions are understood through a small English sentence encoder; negations, counts and spatial relations are weak.",
    "A picture that resembles a training item closely is possible; the memorisation figures say how often it was seen.",
)
_ADDRESS = re.compile(r"https?://[\x21-\x7e]{1,480}")
RISK = "Generated pictures can be taken for originals, or repeat the gaps and imbalances of the training data."
MITIGATION = "Every picture's digest, model and data are on record, so that a published picture can be traced and labelled."


def ml_bom(records: ModelRecords, file_digests: Mapping[str, str]) -> dict[str, Any]:
    """Returns the CycloneDX document of a package.

    Args:
        records: What is on record about the model.
        file_digests: SHA-256 by path of the package's other files.

    Raises:
        BadRecordError: The evaluation report has no usable metrics.
    """
    identity = _digest_of(file_digests)
    is_imported = origin_of(records.config) is not None
    data = [] if is_imported else [_dataset(records, records.config["training_data"]["dataset_digest"])]
    behind = [*data, *_data_of_bases(records.config)]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": uuid.UUID(bytes=bytes.fromhex(identity)[:16], version=5).urn,
        "version": 1,
        "metadata": {"component": _model(records, file_digests, identity)},
        "components": [
            *behind,
            *_text_encoder(records),
            *_files(file_digests),
            *_libraries(records.config.get("libraries", {})),
        ],
        "dependencies": [{"ref": "model", "dependsOn": [one["bom-ref"] for one in behind]}],
    }


def _digest_of(file_digests: Mapping[str, str]) -> str:
    lines = (f"{digest}  {name}\n" for name, digest in sorted(file_digests.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _model(records: ModelRecords, file_digests: Mapping[str, str], identity: str) -> dict[str, Any]:
    config = records.config
    return {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": records.name,
        "version": identity[:12],
        "description": f"Latent diffusion transformer with codec, {config['objective']} objective.",
        "hashes": [_sha256(file_digests[layout.WEIGHTS])],
        **_pedigree(config),
        **_origin(config),
        "modelCard": _model_card(records),
        "properties": _properties(
            {
                "format": config["format"],
                "seed": config.get("training", {}).get("seed", ""),
                "codec_digest": config["codec_digest"],
                **{f"code:{name}": digest for name, digest in config.get("code", {}).items()},
                **{
                    f"training_data:{name}": value
                    for name, value in config.get("training_data", {}).items()
                    if name.endswith("_digest")
                },
                **_facts_of_origin(config),
            }
        ),
    }


def _model_card(records: ModelRecords) -> dict[str, Any]:
    reads_captions = bool(records.config["conditioning"].get("text_encoder"))
    measured = [] if origin_of(records.config) is not None else figures(records.evaluation)
    return {
        "modelParameters": {
            "approach": {"type": "supervised"},
            "task": "image generation from a label or a caption",
            "architectureFamily": "diffusion transformer",
            "modelArchitecture": f"DiT ({records.config['format']})",
            **({} if origin_of(records.config) is not None else {"datasets": [{"ref": "training-data"}]}),
            "inputs": [{"format": "category label"}, *([{"format": "caption, text"}] if reads_captions else [])],
            "outputs": [{"format": f"{samples_of(records.config, plural=False)}, RGB"}],
        },
        "quantitativeAnalysis": {
            "performanceMetrics": [metric for figure in measured for metric in _metrics(figure)],
        },
        "considerations": {
            "users": ["data scientists", "ops teams", "business colleagues, through generated pictures"],
            "useCases": [INTENDED_USE],
            "technicalLimitations": list(LIMITS),
            "ethicalConsiderations": [{"name": RISK, "mitigationStrategy": MITIGATION}],
        },
    }


def _metrics(figure: Figure) -> list[dict[str, Any]]:
    measured: dict[str, Any] = {"type": figure.name, "value": repr(figure.value)}
    if figure.low is not None and figure.high is not None:
        measured["confidenceInterval"] = {"lowerBound": repr(figure.low), "upperBound": repr(figure.high)}
    references = [{"type": figure.name, "slice": name, "value": repr(value)} for name, value in figure.references.items()]
    return [measured, *references]


def _dataset(records: ModelRecords, digest: str) -> dict[str, Any]:
    counts = ", ".join(f"{count} {split}" for split, count in sorted(records.num_items.items()))
    component: dict[str, Any] = {
        "type": "data",
        "bom-ref": "training-data",
        "name": str(records.dataset["name"]),
        "version": digest[:12],
        "description": f"Training data: {counts} items.",
        "data": [
            {
                "type": "dataset",
                "name": str(records.dataset["name"]),
                "contents": {"properties": _properties({"tree_digest": digest, **_prefixed("licence", records.licences)})},
            }
        ],
    }
    if attribution := str(records.dataset.get("attribution", "")):
        component["copyright"] = attribution
    if records.licences:
        # As names, because a dataset may state a licence that SPDX does not list.
        component["licenses"] = [{"license": {"name": licence}} for licence in sorted(records.licences) if licence]
    return component


def _origin(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the licence of an imported model, and where it was got from, as whoever imported it said."""
    origin = origin_of(config)
    if origin is None:
        return {}
    found: dict[str, Any] = {"licenses": [{"license": {"name": str(origin["licence"])}}]}
    if _ADDRESS.fullmatch(str(origin["stated"])):
        found["externalReferences"] = [{"type": "distribution", "url": str(origin["stated"])}]
    return found


def _facts_of_origin(config: Mapping[str, Any]) -> dict[str, Any]:
    origin = origin_of(config)
    if origin is None:
        return {}
    files = {f"imported_file:{name}": digest for name, digest in origin["files"].items()}
    return {"origin": origin["stated"], "layout": origin["layout"], "training_data": origin["training_data"], **files}


def _pedigree(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what the model was fine-tuned from, as CycloneDX has it: its ancestors, the nearest first."""
    bases = bases_of(config)
    if not bases:
        return {}
    ancestors = [
        {
            "type": "machine-learning-model",
            "bom-ref": f"base-{place}",
            "name": str(base["name"]),
            "version": str(base["version"]),
            "hashes": [_sha256(base["weights_digest"])],
            **_origin(base),
            "properties": _properties({"root_digest": base["root_digest"], **_facts_of_origin(base)}),
        }
        for place, base in enumerate(bases, start=1)
    ]
    note = f"Fine-tuned from {bases[0]['name']}/{bases[0]['version']} by low-rank adapters, which are merged into the weights."
    return {"pedigree": {"ancestors": ancestors, "notes": note}}


def _data_of_bases(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns a component for the training data of each base."""
    found = []
    for place, base in enumerate(bases_of(config), start=1):
        data = base.get("training_data") or {}
        if not (digest := str(data.get("dataset_digest", ""))):
            continue
        licences = data.get("licences") or {}
        facts = {"tree_digest": digest, "of": f"{base['name']}/{base['version']}", **_prefixed("licence", licences)}
        name = str(data.get("name") or "not named")
        found.append(
            {
                "type": "data",
                "bom-ref": f"base-{place}-training-data",
                "name": name,
                "version": digest[:12],
                "description": f"Training data of {base['name']}/{base['version']}, which the model was fine-tuned from.",
                "data": [{"type": "dataset", "name": name, "contents": {"properties": _properties(facts)}}],
                **({"licenses": [{"license": {"name": one}} for one in sorted(licences) if one]} if any(licences) else {}),
            }
        )
    return found


def _text_encoder(records: ModelRecords) -> list[dict[str, Any]]:
    encoder = records.config["conditioning"].get("text_encoder")
    if not encoder:
        return []
    return [
        {
            "type": "machine-learning-model",
            "bom-ref": "text-encoder",
            "name": str(encoder["name"]),
            "hashes": [_sha256(encoder["digest"])],
            "description": "Frozen text encoder; its weights are not in this package.",
        }
    ]


def _files(file_digests: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        {"type": "file", "bom-ref": f"file:{name}", "name": name, "hashes": [_sha256(digest)]}
        for name, digest in sorted(file_digests.items())
    ]


def _libraries(versions: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        {
            "type": "library",
            "bom-ref": f"library:{name}",
            "name": name,
            "version": version,
            "purl": f"pkg:pypi/{name}@{version.replace('+', '%2B')}",
        }
        for name, version in sorted(versions.items())
    ]


def _sha256(digest: str) -> dict[str, str]:
    return {"alg": "SHA-256", "content": digest}


def _prefixed(prefix: str, counts: Mapping[str, int]) -> dict[str, int]:
    return {f"{prefix}:{name}": count for name, count in counts.items() if name}


def _properties(values: Mapping[str, Any]) -> list[dict[str, str]]:
    return [{"name": f"groundswell:{name}", "value": str(value)} for name, value in sorted(values.items())]
