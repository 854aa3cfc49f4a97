"""What an evaluation refuses to judge."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from components.evaluate.config import Config
from governance.digest import tree_digest
from governance.errors import IntegrityError
from model_core.errors import BadDataError, BadModelError
from tests.components.evaluated_world import CONFIG, evaluated_world, evaluation_weights

weights = pytest.fixture(scope="module")(evaluation_weights)
world = pytest.fixture(evaluated_world)


def test_dataset_without_holdout_is_refused(world):
    world.redo_dataset(num_holdout=0)
    with pytest.raises(BadDataError, match="no holdout rows"):
        world.run()


def test_too_small_a_holdout_is_refused(world):
    world.redo_dataset(num_holdout=3)
    with pytest.raises(BadDataError, match="at least 4 holdout"):
        world.run()
    assert not world.stand_in.calls


def test_one_label_is_refused_before_sampling_unless_switched_off(world):
    world.redo_dataset(labels=("hot",))
    with pytest.raises(BadDataError, match="two labels") as refused:
        world.run()
    assert "category_accuracy=false" in refused.value.hint
    assert not world.stand_in.calls
    metrics = world.run(CONFIG.model_copy(update={"category_accuracy": False}), output="unjudged").metrics
    assert "category_accuracy" not in metrics


def test_changed_dataset_is_refused(world):
    (world.root / "dataset" / "dataset.json").write_text((world.root / "dataset" / "dataset.json").read_text() + "\n")
    with pytest.raises(IntegrityError, match="trained on dataset"):
        world.run()


def test_latents_of_other_pictures_are_refused(world):
    pq.write_table(pa.table({"sha256": ["0" * 64] * 22}), world.root / "latents" / "index.parquet")
    with pytest.raises(IntegrityError, match="latents' holdout"):
        world.run()


def test_model_of_another_codec_is_refused(world):
    (world.root / "latents" / "config.json").write_text(
        json.dumps({"dataset_digest": tree_digest(world.root / "dataset"), "codec_digest": "d" * 64})
    )
    with pytest.raises(IntegrityError, match="another codec"):
        world.run()


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"sampling": null}'])
def test_unusable_model_config_is_refused(world, content):
    (world.root / "model" / "config.json").write_text(content)
    with pytest.raises(BadModelError, match=r"config\.json"):
        world.run()


def test_pictures_of_another_size_are_refused(world):
    world.stand_in.draw = lambda label, seed: np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(BadDataError, match="8x8"):
        world.run()


@pytest.mark.parametrize("wrong", [{"num_samples": 7}, {"seed": -1}, {"feature_size": 100}, {"num_sample": 9}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValidationError):
        Config(**wrong)
