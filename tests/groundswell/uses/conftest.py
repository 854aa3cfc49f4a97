"""The commands of the uses as somebody calls them, and one small model of clips that they all use."""

import io
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from pathlib import Path

import pytest

from groundswell.uses.command import run
from tests.groundswell.conftest import Called
from tests.pipelines.calling import run_training
from tests.pipelines.conftest import copy_home, tiny_codec

__all__ = ["tiny_codec"]

ROOT = Path(__file__).parents[3]
GUIDES = ROOT / "docs" / "guides"
Use = Callable[..., Called]


@pytest.fixture(scope="session")
def use() -> Use:
    """Calls a use in this process: its name, then its arguments."""

    def call(name: str, *arguments: object) -> Called:
        stdout, stderr = io.StringIO(), io.StringIO()
        command = import_module(f"groundswell.uses.{name}").command
        with redirect_stdout(stdout), redirect_stderr(stderr):
            exit_code = run(command, name, [str(argument) for argument in arguments])
        return Called(exit_code, stdout.getvalue(), stderr.getvalue())

    return call


@pytest.fixture(scope="session")
def clip_home(home_template: Path, tiny_codec: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with `guide-clips/1`, a model of clips that was trained for a moment."""
    home = tmp_path_factory.mktemp("uses") / "home"
    copy_home(home_template, home)
    settings = [
        *("data.source=moving-openmoji", "data.categories=[food, animals]", "data.graphics=[banana, cat, pizza, frog]"),
        *("data.takes=2", "data.size=16", "data.frames=8", "data.fps=4", f"codec={tiny_codec}"),
        *("encode_latents.caption_tokens=true", "train_dit.text_conditioning=cross_attention"),
        *("train_dit.num_steps=4", "train_dit.batch_size=4", "train_dit.patch_size=[2, 2, 2]", "train_dit.warmup_steps=1"),
        *("train_dit.hidden_size=16", "train_dit.depth=1", "train_dit.num_heads=2", "train_dit.sampling_num_steps=2"),
        *("evaluate.num_samples=8", "evaluate.feature_size=32", "evaluate.num_resamples=100"),
        "register_model.name=guide-clips",
    ]
    called = run_training(home, settings)
    assert called.exit_code == 0, called.stdout + called.stderr
    return home
