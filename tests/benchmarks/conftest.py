"""One thread for tiny tensors, a toy Fashion-MNIST and a classifier of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks.fashion import read_pictures
from model_core.evaluation.classifier import save_classifier, train_classifier
from tests.benchmarks.toy_fashion import write_fashion


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the four IDX files, tiny; never written to."""
    return write_fashion(tmp_path_factory.mktemp("fashion"))


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """A classifier's folder; never written to."""
    folder = tmp_path_factory.mktemp("classifier")
    train = read_pictures(data, "train")
    save_classifier(train_classifier(train.images, train.labels, num_classes=10, seed=0, num_steps=20, batch_size=32), folder)
    return folder
