"""A linear probe: which category does a picture show, judged from its features?

Trained on real training pictures, it is the independent eye that says whether a sample shows the category it was asked for.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from model_core.errors import BadDataError

_INVERSE_REGULARISATION = 0.01
_MAX_ITERATIONS = 2000
_MIN_DEVIATION = 1e-6


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Multinomial logistic regression on standardised features.

    Attributes:
        mean: Mean of each feature over the training pictures.
        deviation: Standard deviation of each feature over the training pictures.
        weight: One row a class.
        bias: One number a class.
        classes: The label index that each row of `weight` stands for.
    """

    mean: Float[np.ndarray, " dim"]
    deviation: Float[np.ndarray, " dim"]
    weight: Float[np.ndarray, "classes dim"]
    bias: Float[np.ndarray, " classes"]
    classes: Int[np.ndarray, " classes"]

    def predict(self, features: Float[np.ndarray, "n dim"]) -> Int[np.ndarray, " n"]:
        """Returns the most probable label index of each picture."""
        standardised = (features.astype(np.float64) - self.mean) / self.deviation
        return np.asarray(self.classes[np.argmax(standardised @ self.weight.T + self.bias, axis=1)])


def distinct_labels(labels: Int[np.ndarray, " n"]) -> Int[np.ndarray, " classes"]:
    """Returns the different label indices of training pictures, sorted; -1 stands for no label.

    Raises:
        BadDataError: There are fewer than two, so that there is nothing to tell apart.
    """
    classes = np.unique(labels[labels >= 0])
    if len(classes) < 2:
        raise BadDataError(
            f"category accuracy needs at least two labels among the training pictures, not {len(classes)}",
            hint="switch it off with evaluate.category_accuracy=false",
        )
    return np.asarray(classes)


def train_probe(features: Float[np.ndarray, "n dim"], labels: Int[np.ndarray, " n"]) -> Probe:
    """Fits the probe, deterministically.

    Args:
        features: Features of real training pictures.
        labels: Their label indices.

    Raises:
        BadDataError: There are fewer than two different labels to tell apart.
    """
    from sklearn.linear_model import LogisticRegression

    classes = distinct_labels(labels)
    features64 = features.astype(np.float64)
    mean, deviation = features64.mean(axis=0), np.maximum(features64.std(axis=0), _MIN_DEVIATION)
    regression = LogisticRegression(C=_INVERSE_REGULARISATION, max_iter=_MAX_ITERATIONS)
    regression.fit((features64 - mean) / deviation, labels)
    weight, bias = np.asarray(regression.coef_), np.asarray(regression.intercept_)
    if len(classes) == 2:  # scikit-learn keeps one row for two classes
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return Probe(mean=mean, deviation=deviation, weight=weight, bias=bias, classes=classes)


def chance_accuracy(labels: Int[np.ndarray, " n"]) -> float:
    """Returns the share of the commonest label: the most that a model scores which draws one category whatever it is asked."""
    _, counts = np.unique(labels, return_counts=True)
    return float(counts.max() / counts.sum())


def confusion_counts(
    asked: Int[np.ndarray, " n"], judged: Int[np.ndarray, " n"], *, num_labels: int
) -> Int[np.ndarray, "num_labels num_labels"]:
    """Counts pictures by the label asked for (row) and the label that the probe sees (column)."""
    counts = np.zeros((num_labels, num_labels), dtype=np.int64)
    np.add.at(counts, (asked, judged), 1)
    return counts
