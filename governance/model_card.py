"""The model card: what a person should know before using a model, every figure of it from a record."""

from collections.abc import Mapping, Sequence
from typing import Any

from governance import package_layout as layout
from governance.mlbom import INTENDED_USE, LIMITS, MITIGATION, RISK
from governance.model_records import Figure, ModelRecords, bases_of, figures, origin_of, plain_markdown, samples_of, show_number

_MEANINGS = {
    "kid": "Kernel Inception Distance to held-out pictures, on EfficientNet-Lite0 features; lower is better",
    "fd_effnet_lite0": "Fréchet distance on EfficientNet-Lite0 features (not FID); lower is better",
    "category_accuracy": "share of samples that a probe trained on real pictures puts in the right category; higher is better",
    "precision": "share of samples within the range of real pictures' features (improved precision); higher is better",
    "recall": "share of real pictures within the range of samples' features (improved recall); higher is better",
    "density": "how densely real pictures lie around samples; about 1 for real pictures",
    "coverage": "share of real pictures with a sample near them; higher is better",
    "motion_direction": "share of clips that move where their caption says, by optical flow; higher is better",
    "caption_retrieval": "share of captions that find their own clip among others by a probe; higher is better",
    "temporal_consistency": "how alike neighbouring looks at a clip are; as real clips is best",
    "pixel_flicker": "how much pixels change from frame to frame; as real clips is best",
    "utility_ratio": "what a probe taught by samples is worth on real pictures, as a share of one taught by as many real ones",
    "utility_tstr": "share of held-out real pictures that a probe taught by samples names rightly; higher is better",
    "utility_trts": "share of samples that a probe taught by as many real pictures names rightly; higher is better",
    "utility_trtr": "share of held-out real pictures that this probe names rightly: as good as it gets",
    "memorised_share": "share of samples that are suspiciously close to one training picture; lower is better",
    "memorisation_ratio_median": "distance to the nearest training picture over that to a held-out one; well below `real` is bad",
}
_NOT_FOR = (
    "Pictures of people, identity documents, medical or safety-relevant use.",
    "Any use in which a viewer could take a generated picture for a photograph or for the work of a named author.",
)


NOT_RECORDED = "What it was trained on is not known to groundswell: ask its origin."


def model_card(records: ModelRecords) -> str:
    """Returns the card as Markdown.

    Raises:
        BadRecordError: The evaluation report has no usable metrics.
    """
    origin = origin_of(records.config)
    sections = (
        _introduction(records),
        _section("Intended use", [INTENDED_USE, "", "Not for:", "", *(f"- {line}" for line in _NOT_FOR)]),
        *([_section("Fine-tuned from", _base(records))] if bases_of(records.config) else []),
        *([_section("Where it comes from", _origin(origin))] if origin is not None else []),
        _section("Training data", [NOT_RECORDED, ""] if origin is not None else _data(records)),
        _section("How it was made", _making(records)),
        _section("Evaluation", ["It was not evaluated here.", ""] if origin is not None else _evaluation(records)),
        _section("Limits and risks", [*(f"- {line}" for line in LIMITS), f"- {RISK} {MITIGATION}"]),
        _section("How to verify", _verification()),
    )
    return "\n".join(sections)


def _introduction(records: ModelRecords) -> str:
    config = records.config
    labels = config["conditioning"].get("labels") or []
    asked = [f"one of {len(labels)} categories"] if labels else []
    if config["conditioning"].get("text_encoder"):
        asked.append("a caption in English")
    wish = " or ".join(asked) or "noise alone"
    weights = {name: count for name, count in records.parameters.items() if name in layout.SAFETENSORS}
    return "\n".join(
        [
            f"# {plain_markdown(records.name)}",
            "",
            f"A latent diffusion transformer that generates {samples_of(config)}, from {wish}.",
            f"It has {show_number(sum(weights.values()))} parameters: "
            + ", ".join(f"{show_number(count)} in `{name}`" for name, count in sorted(weights.items()))
            + ".",
            "",
        ]
    )


def _data(records: ModelRecords) -> list[str]:
    dataset, validation = records.dataset, records.validation
    total = sum(records.num_items.values())
    lines = [
        f"Dataset **{plain_markdown(dataset['name'])}**: {show_number(total)} items ("
        + ", ".join(f"{show_number(count)} {plain_markdown(split)}" for split, count in sorted(records.num_items.items()))
        + f"), digest `{records.config['training_data']['dataset_digest']}`.",
        *(["This is what the fine-tuning learnt from."] if bases_of(records.config) else []),
        "",
        "Only the split `train` was used for training; the split `holdout` for evaluation.",
        "",
        *_table(
            ("licence", "items"),
            [(plain_markdown(name or "not stated"), show_number(n)) for name, n in sorted(records.licences.items())],
        ),
        "",
    ]
    if attribution := dataset.get("attribution"):
        lines += [f"Attribution: {plain_markdown(attribution)}", ""]
    labels = records.config["conditioning"].get("labels") or []
    if labels:
        lines += ["Categories: " + ", ".join(plain_markdown(label) for label in labels) + ".", ""]
    verdict = "passed" if validation.get("success") else "did not pass"
    expectations = validation.get("expectations")
    count = f" (expectations checked: {len(expectations)})" if isinstance(expectations, list) else ""
    lines.append(f"The data {verdict} validation{count} before training.")
    return lines


def _base(records: ModelRecords) -> list[str]:
    """Says what the model was fine-tuned from, and what that had learnt from."""
    nearest, *further = bases_of(records.config)
    adapter = records.config.get("training", {}).get("adapter", {})
    layers = ", ".join(adapter.get("targets") or ()) or "attention and MLP of every block"
    num_learnt = show_number(records.parameters.get(layout.ADAPTER_WEIGHTS, 0))
    lines = [
        f"**{_version(nearest)}**, root digest `{nearest['root_digest']}`, by low-rank adapters of rank {adapter.get('rank')}",
        f"and alpha {adapter.get('alpha')} on {plain_markdown(layers)}: {num_learnt} numbers in `{layout.ADAPTER_WEIGHTS}`.",
        f"`{layout.WEIGHTS}` holds the base's weights with the adapters merged.",
        "",
        *(f"The base was itself fine-tuned from {_version(base)}, root digest `{base['root_digest']}`." for base in further),
        *([""] if further else []),
        "What the base had learnt from has a part in what this model makes:",
        "",
    ]
    return lines + [_data_of_base(base) for base in (nearest, *further)]


def _origin(origin: Mapping[str, Any]) -> list[str]:
    """Says where an imported model was got from, as whoever imported it said, and what was given."""
    return [
        "It was trained elsewhere, and imported from a published checkpoint.",
        "",
        *_table(
            ("what", "as whoever imported it says"),
            [
                ("origin", plain_markdown(origin["stated"])),
                ("licence", plain_markdown(origin["licence"])),
                ("layout", plain_markdown(origin["layout"])),
            ],
        ),
        "",
        *_table(("file", "SHA-256"), [(plain_markdown(name), digest) for name, digest in sorted(origin["files"].items())]),
    ]


def _data_of_base(base: Mapping[str, Any]) -> str:
    if (origin := origin_of(base)) is not None:
        return (
            f"- {_version(base)}: imported from {plain_markdown(origin['stated'])}, licence {plain_markdown(origin['licence'])}. "
            f"{NOT_RECORDED}"
        )
    data = base.get("training_data") or {}
    items = show_number(sum((data.get("num_items") or {}).values()))
    counts = sorted((data.get("licences") or {}).items())
    licences = ", ".join(f"{plain_markdown(name or 'not stated')} ({show_number(count)})" for name, count in counts)
    return (
        f"- {_version(base)}: dataset **{plain_markdown(data.get('name') or 'not named')}**, {items} items, "
        f"digest `{data.get('dataset_digest', 'unknown')}`; licences: {licences or 'not stated'}."
    )


def _version(base: Mapping[str, Any]) -> str:
    return plain_markdown(f"{base['name']}/{base['version']}")


def _making(records: ModelRecords) -> list[str]:
    config = records.config
    training = config.get("training", {})
    rows: list[tuple[str, str]] = [
        ("objective", str(config["objective"])),
        ("latent shape (channels, frames, height, width)", " x ".join(map(str, config["latent_shape"]))),
        *((("frames that these latent frames code", str(config["num_frames"])),) if config.get("num_frames") else ()),
        *((f"architecture: {key}", _setting(value)) for key, value in sorted(config["architecture"].items())),
        *((f"training: {key}", _setting(value)) for key, value in sorted(training.items())),
        *((f"sampling: {key}", _setting(value)) for key, value in sorted(config.get("sampling", {}).items())),
        ("codec digest", str(config["codec_digest"])),
    ]
    if encoder := config["conditioning"].get("text_encoder"):
        rows.append(("text encoder (frozen, not in this package)", f"{encoder['name']}, digest {encoder['digest']}"))
    rows += [(f"code: {name}", digest) for name, digest in sorted(config.get("code", {}).items())]
    return _table(("what", "value"), [(plain_markdown(name), plain_markdown(value)) for name, value in rows])


def _setting(value: Any) -> str:
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, list):
        return " x ".join(map(_setting, value)) if value else "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_setting(item)}" for key, item in sorted(value.items()))
    return str(value)


def _evaluation(records: ModelRecords) -> list[str]:
    found = figures(records.evaluation)
    rows = [(plain_markdown(f.name), show_number(f.value), _interval(f), _references(f)) for f in found]
    lines = [
        f"Measured on {_count(records.evaluation, 'num_samples')} samples for the conditions of the holdout, which has",
        f"{_count(records.evaluation, 'num_holdout')} pictures. Intervals are 95 %.",
        "Beside a figure stands what real pictures (`real`), noise (`noise`) or one category",
        "for every request (`chance`) would reach.",
        "",
        *_table(("figure", "value", "interval", "to compare with"), rows),
        "",
    ]
    meanings = [f"- `{f.name}`: {_MEANINGS[f.name]}." for f in found if f.name in _MEANINGS]
    if meanings:
        lines += [*meanings, ""]
    if features := records.evaluation.get("features"):
        licence = features.get("weights_licence") or "not stated"
        lines += [f"Features: {plain_markdown(features.get('name', ''))}; licence of its weights: {plain_markdown(licence)}.", ""]
    for picture in records.pictures:
        lines += [f"![{plain_markdown(picture)}]({picture})", ""]
    lines.append("The whole report is in `evaluation/report.json`.")
    return lines


def _count(evaluation: Mapping[str, Any], name: str) -> str:
    value = evaluation.get(name)
    return show_number(value) if isinstance(value, int) else "an unknown number of"


def _interval(figure: Figure) -> str:
    if figure.low is None or figure.high is None:
        return "none given"
    return f"{show_number(figure.low)} to {show_number(figure.high)}"


def _references(figure: Figure) -> str:
    return ", ".join(f"{plain_markdown(name)} {show_number(value)}" for name, value in figure.references.items())


def _verification() -> list[str]:
    return [
        "The root digest is over the lines of `sha256sum` for every file but `model.sig`, sorted by name as bytes:",
        "",
        "```",
        "find . -type f ! -path ./model.sig -printf '%P\\n' | LC_ALL=C sort | xargs -d '\\n' sha256sum | sha256sum",
        "```",
        "",
        "It must equal the root digest in the model registry. The signature is OpenSSF Model Signing; with the public key of",
        "whoever published the model:",
        "",
        "```",
        "model_signing verify key . --signature model.sig --public_key package-signing.pem",
        "```",
    ]


def _section(title: str, lines: list[str]) -> str:
    return "\n".join([f"## {title}", "", *lines, ""])


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(f"| {' | '.join(row)} |" for row in rows)]
