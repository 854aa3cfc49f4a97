"""Trains the classifier that judges Fashion-MNIST pictures: ``python -m benchmarks.fashion_classifier --data FOLDER``.

It is trained once and kept with the benchmarks, since a distance compares under one classifier only. Beside its files goes
``card.json``: its digest, what it was trained on, its accuracy on the test split, and the distance of real pictures to real ones.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.command import machine, positive, read_json, run_command, write_json
from benchmarks.fashion import CLASSIFIER, Judge, Pictures, read_pictures
from model_core.data.importers.fashion_mnist import LABELS
from model_core.errors import BadDataError
from model_core.evaluation.classifier import Classifier, accuracy, load_classifier, save_classifier, train_classifier

CARD_NAME = "card.json"
_FLOOR_PICTURES = (1000, 2000, 5000)
_ACCURACY_TOLERANCE = 0.002  # another machine rounds otherwise, and a few verdicts may turn


def parse(arguments: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fashion_classifier", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with the four IDX files")
    parser.add_argument("--out", type=Path, default=CLASSIFIER)
    parser.add_argument("--steps", type=positive, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=positive, default=1)
    parser.add_argument("--min-accuracy", type=float, default=0.91, help="a classifier below this is not kept")
    parser.add_argument(
        "--check", action="store_true", help="train nothing; judge the classifier in --out again, and say whether"
    )
    return parser.parse_args(arguments)


def make(options: argparse.Namespace) -> None:
    """Trains, judges and saves it.

    Raises:
        BadDataError: The data are damaged, or the accuracy is too low.
    """
    torch.set_num_threads(options.threads)
    train, test = read_pictures(options.data, "train"), read_pictures(options.data, "t10k")
    began = time.perf_counter()
    classifier = train_classifier(
        train.images,
        train.labels,
        num_classes=len(LABELS),
        seed=options.seed,
        num_steps=options.steps,
        on_step=lambda step, loss: print(f"{step} loss {loss:.3f}", file=sys.stderr) if step % 100 == 0 else None,
    )
    seconds = time.perf_counter() - began
    card = describe(classifier, train, test)
    print(f"accuracy on {len(test):,} test pictures: {card['test_accuracy']:.4f}")
    if card["test_accuracy"] < options.min_accuracy:
        raise BadDataError(
            f"the classifier's accuracy on the test split is {card['test_accuracy']:.4f}, below {options.min_accuracy}",
            hint="train longer with --steps",
        )
    save_classifier(classifier, options.out)
    made = {"seed": options.seed, "num_steps": options.steps, "training_s": round(seconds, 1), "machine": machine()}
    write_json(options.out / CARD_NAME, {**card, "made": made})
    print(f"{classifier.digest}  {options.out}")


def check(options: argparse.Namespace) -> None:
    """Judges the classifier that is there and compares with its card.

    Raises:
        BadDataError: The card says something else.
        BadModelError: The classifier is missing or damaged.
    """
    torch.set_num_threads(options.threads)
    train, test = read_pictures(options.data, "train"), read_pictures(options.data, "t10k")
    found = describe(load_classifier(options.out), train, test)
    card = read_json(options.out / CARD_NAME)
    for name in ("digest", "train_digest", "test_digest"):
        if card.get(name) != found[name]:
            raise BadDataError(f"{options.out / CARD_NAME} has another {name}", hint="train the classifier again")
    if abs(card.get("test_accuracy", 0.0) - found["test_accuracy"]) > _ACCURACY_TOLERANCE:
        raise BadDataError(
            f"the classifier's accuracy is {found['test_accuracy']:.4f}, its card says {card.get('test_accuracy')}",
            hint="train the classifier again",
        )
    print(f"{found['digest']}  as its card says: accuracy {found['test_accuracy']:.4f}")


def describe(classifier: Classifier, train: Pictures, test: Pictures) -> dict[str, Any]:
    """Returns what a classifier is and what it says of real pictures and of noise."""
    judge = Judge(classifier, test)
    counts = sorted({min(count, len(judge.held_out)) for count in _FLOOR_PICTURES})
    return {
        "digest": classifier.digest,
        "num_parameters": sum(parameter.numel() for parameter in classifier.parameters()),
        "train_digest": train.digest,
        "test_digest": test.digest,
        "test_accuracy": accuracy(classifier.predict(test.images), test.labels),
        "bounds_by_num_pictures": {str(count): judge.bounds(count, train=train) for count in counts},
    }


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    return run_command(lambda: check(options) if options.check else make(options))


if __name__ == "__main__":
    raise SystemExit(main())
