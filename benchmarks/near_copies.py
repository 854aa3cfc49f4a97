"""How many near-copies of training items are found: `python -m benchmarks.near_copies DATASET [--others DATASET]`.

Training items are changed a little, as if a model had repeated them, and held against the index as `generate` holds its samples.
Honest pictures are held against it, too: those of the other half of the holdout, when one half alone has calibrated the rule, and
pictures of another dataset, of which the model has seen none.
"""

import argparse
import io
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.command import markdown_table, run_command, write_json
from components.evaluate.looks import looked_at
from model_core.data.dataset import Dataset
from model_core.evaluation.features import FeatureExtractor, open_extractor
from model_core.evaluation.training_index import Items, TrainingIndex

RESULT = Path(__file__).parent / "results" / "near-copies.json"
_HALVES = 30
_JPEG_QUALITY, _NOISE_LEVELS = 80, 8


def _one_level(image: np.ndarray) -> np.ndarray:
    return np.where(image < 255, image + 1, 254).astype(np.uint8)


def _jpeg(image: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return np.asarray(Image.open(io.BytesIO(buffer.getvalue())).convert("RGB"))


def _shift(image: np.ndarray) -> np.ndarray:
    return np.concatenate([image[:, :1], image[:, :-1]], axis=1)


def _mirror(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image[:, ::-1])


def _noise(image: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, _NOISE_LEVELS, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


CHANGES: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "copied": lambda image: image,
    "recoloured by one level": _one_level,
    f"JPEG, quality {_JPEG_QUALITY}": _jpeg,
    "shifted by one pixel": _shift,
    "mirrored": _mirror,
    f"noise of {_NOISE_LEVELS} levels": _noise,
}


def measure(options: argparse.Namespace) -> None:
    """Measures, prints a table and writes the result."""
    dataset = Dataset.open(options.dataset)
    rng = np.random.default_rng(options.seed)
    with tempfile.TemporaryDirectory() as cache:
        extractor = open_extractor(options.weights or Path(cache))
        train, holdout = (dataset.clips(dataset.rows(split)) for split in ("train", "holdout"))
        items = {"train": _items(train, extractor), "holdout": _items(holdout, extractor)}
        index = _index(items["train"], items["holdout"])
        chosen = np.sort(rng.choice(len(train), size=min(options.num_planted, len(train)), replace=False))
        result: dict[str, Any] = {"num_train": len(train), "num_holdout": len(holdout), "planted": {}, "honest": {}}
        for name, change in CHANGES.items():
            planted = np.stack([np.stack([change(frame) for frame in train[place]]) for place in chosen])
            result["planted"][name] = _count(index, _items(planted, extractor))
        result["honest"]["holdout, other half"] = _halves(items["train"], items["holdout"], rng)
        if options.others:
            others = Dataset.open(options.others)
            rows = sorted(rng.choice(len(others.columns["sha256"]), size=options.num_others, replace=False).tolist())
            result["honest"]["pictures of other categories"] = _count(index, _items(others.clips(rows), extractor))
        index.save(Path(cache) / "index")
        result["index_bytes"] = (Path(cache) / "index").stat().st_size
        result["seconds_a_sample"] = _seconds(index, extractor, train[:16])
    write_json(options.result, result)
    shown = [
        (f"{kind}: {name}", f"{found['withheld']:g}", f"{found['num']:g}")
        for kind in ("planted", "honest")
        for name, found in result[kind].items()
    ]
    print(markdown_table(("", "withheld", "of"), shown))
    print(f"{result['index_bytes'] / 1e6:.1f} MB, {1000 * result['seconds_a_sample']:.0f} ms a sample")


def _items(clips: np.ndarray, extractor: FeatureExtractor) -> Items:
    frames = looked_at(clips)
    features = extractor.extract(frames)
    features = features.reshape(len(clips), -1, features.shape[-1]).mean(axis=1)
    return Items.of(frames.reshape(len(clips), -1, *frames.shape[1:]), features)


def _index(train: Items, holdout: Items) -> TrainingIndex:
    return TrainingIndex.build(
        train, holdout, sha256=["0" * 64] * len(train), extractor="", input_size=0, num_in_training=len(train)
    )


def _count(index: TrainingIndex, items: Items) -> dict[str, float]:
    return {"withheld": sum(one.is_near_copy for one in index.compare(items)), "num": len(items)}


def _part(items: Items, places: np.ndarray) -> Items:
    return Items(features=items.features[places], thumbnails=items.thumbnails[places])


def _halves(train: Items, holdout: Items, rng: np.random.Generator) -> dict[str, float]:
    """Counts over many ways to halve the holdout; every picture is judged by a rule that it had no part in."""
    counts = {"withheld": 0.0, "num": 0.0}
    for _ in range(_HALVES):
        order = rng.permutation(len(holdout))
        first, second = order[: len(order) // 2], order[len(order) // 2 :]
        found = _count(_index(train, _part(holdout, first)), _part(holdout, second))
        counts = {name: counts[name] + found[name] for name in counts}
    return counts


def _seconds(index: TrainingIndex, extractor: FeatureExtractor, clips: np.ndarray) -> float:
    began = time.process_time()
    index.compare(_items(clips, extractor))
    return (time.process_time() - began) / len(clips)


def parse(arguments: list[str]) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.near_copies", description=__doc__)
    parser.add_argument("dataset", type=Path, help="the training data")
    parser.add_argument("--others", type=Path, help="a dataset that the model has seen nothing of")
    parser.add_argument("--num-planted", type=int, default=200)
    parser.add_argument("--num-others", type=int, default=400)
    parser.add_argument("--weights", type=Path, help="folder in which the extractor's weights are kept")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--result", type=Path, default=RESULT)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    return run_command(lambda: measure(options))


if __name__ == "__main__":
    raise SystemExit(main())
