import pytest

from model_core.errors import BadModelError
from model_core.training.config import TrainingConfig


@pytest.mark.parametrize(
    "change", [{"num_steps": 0}, {"batch_size": 0}, {"learning_rate": 0.0}, {"drop_all": 1.5}, {"learning_rate": float("nan")}]
)
def test_values_that_make_no_sense_are_refused(change):
    with pytest.raises(BadModelError, match=next(iter(change))):
        TrainingConfig(**change)


def test_when_checkpoints_are_written_is_no_hyperparameter():
    assert TrainingConfig(checkpoint_every_steps=7).hyperparameters() == TrainingConfig().hyperparameters()
    assert TrainingConfig(seed=7).hyperparameters() != TrainingConfig().hyperparameters()
