"""One small training run, made once for all tests that look at it, and copies of its home for those that harm it."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from infra.home import Home
from infra.runs import get_steps
from infra.settings import Settings
from tests.model_core.data.toy import lines, picture_folder
from tests.pipelines.calling import Called, run_training

NUM_PICTURES = 36


def copy_home(home: Path, target: Path) -> None:
    """Copies a home that nothing is running in; its database may be open."""
    shutil.copytree(home, target, ignore=shutil.ignore_patterns("groundswell.db", "groundswell.db-*"))
    with closing(sqlite3.connect(home / "groundswell.db")) as source, closing(sqlite3.connect(target / "groundswell.db")) as copy:
        source.backup(copy)


@dataclass(frozen=True)
class Trained:
    """A home in which the training pipeline has run once."""

    home: Home
    settings: list[str]
    called: Called

    @property
    def document(self) -> Any:
        """What the command printed."""
        return self.called.document

    @property
    def run_id(self) -> str:
        return str(self.document["run_id"])

    def copy(self, folder: Path, *, without: tuple[str, ...] = ()) -> Path:
        """Copies the home; the work of the steps named is left out, so that they have to be done again."""
        copy_home(self.home.path, folder)
        with self.home.database.read() as connection:
            fingerprints = {step.step: step.fingerprint for step in get_steps(connection, self.run_id)}
        for step in without:
            shutil.rmtree(folder / "work" / fingerprints[step])
        return folder


@pytest.fixture(scope="session")
def tiny_codec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A codec that was never trained: random weights, which encode and decode as any others do."""
    from model_core.codec.autoencoder import build_codec
    from model_core.codec.config import CodecConfig
    from model_core.codec.io import save_codec

    folder = tmp_path_factory.mktemp("codec")
    config = CodecConfig(
        latent_channels=4,
        encoder_widths=(4, 8, 8),
        encoder_blocks=(0, 0, 1),
        decoder_widths=(4, 8, 8),
        decoder_blocks=(0, 0, 1),
        latent_mean=(0.0,) * 4,
        latent_std=(1.0,) * 4,
    )
    save_codec(build_codec(config, seed=0), folder)
    return folder


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of labelled pictures."""
    return picture_folder(tmp_path_factory.mktemp("source") / "pictures", lines(NUM_PICTURES))


@pytest.fixture(scope="session")
def training_settings(source: Path, tiny_codec: Path) -> list[str]:
    """Settings of a run that takes as little as it can; training still takes long enough to be killed."""
    return [
        f"data.source={source}",
        "data.size=16",
        "data.categories=[cat, dog]",
        f"codec={tiny_codec}",
        "train_dit.num_steps=400",
        "train_dit.batch_size=8",
        "train_dit.hidden_size=16",
        "train_dit.depth=1",
        "train_dit.num_heads=2",
        "train_dit.warmup_steps=5",
        "train_dit.checkpoint_every_steps=20",
        "train_dit.sampling_num_steps=2",
        "evaluate.num_samples=8",
        "evaluate.feature_size=32",
        "evaluate.num_resamples=100",
    ]


@pytest.fixture(scope="session")
def trained(home_template: Path, training_settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The run."""
    folder = tmp_path_factory.mktemp("trained") / "home"
    copy_home(home_template, folder)
    called = run_training(folder, training_settings)
    assert called.exit_code == 0, called.stdout + called.stderr
    return Trained(home=Home.open(Settings.load(folder)), settings=training_settings, called=called)


@pytest.fixture
def copied(trained: Trained, tmp_path: Path) -> Callable[..., Path]:
    """Copies the home of the run, for a test that changes it."""

    def copy(*, without: tuple[str, ...] = ()) -> Path:
        return trained.copy(tmp_path / "home", without=without)

    return copy
