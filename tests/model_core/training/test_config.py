import pytest

from model_core.errors import BadModelError
from model_core.training.config import TrainingConfig


@pytest.mark.parametrize(
    "change",
    [
        {"num_steps": 0},
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"drop_all": 1.5},
        {"learning_rate": float("nan")},
        {"accumulate_steps": 0},
        {"accumulate_steps": 33},
        {"warmup_steps": -1},
        {"decay": "exponential"},
        {"decay_fraction": 1.1},
        {"objective": "score"},
        {"precision": "float16"},
        {"noise_schedule": "quadratic"},
        {"time_sampling": "beta"},
        {"frame_times": "forced"},
        {"context_probability": 1.1},
        {"min_snr_gamma": 0.0},
        {"min_snr_gamma": float("nan")},
        {"time_mean": float("nan")},
        {"time_std": float("inf")},
        {"weight_decay": float("inf")},
        {"adam_beta2": float("nan")},
        {"text_noise": -1.0},
        {"learn_variance": True},
        {"zero_terminal_snr": True},
    ],
)
def test_values_that_make_no_sense_are_refused(change):
    with pytest.raises(BadModelError, match=next(iter(change))) as caught:
        TrainingConfig(**change)
    assert caught.value.hint
    assert "\n" not in caught.value.diagnosis


def test_times_of_frames_do_not_go_with_a_learnt_variance():
    with pytest.raises(BadModelError, match="learn_variance learns knows one time a clip"):
        TrainingConfig(objective="epsilon", learn_variance=True, frame_times="context")


def test_what_does_not_change_the_weights_is_no_hyperparameter():
    default = TrainingConfig().hyperparameters()
    assert TrainingConfig(checkpoint_every_steps=7, checkpoint_every_s=1.0).hyperparameters() == default
    assert TrainingConfig(activation_checkpointing=True).hyperparameters() == default
    for change in ({"seed": 7}, {"accumulate_steps": 2}, {"precision": "bfloat16"}, {"compile": True}):
        assert TrainingConfig(**change).hyperparameters() != default


def test_each_objective_has_its_own_way_of_drawing_times():
    assert TrainingConfig().time_distribution == "logit_normal"
    assert TrainingConfig(objective="v").time_distribution == "uniform"
    assert TrainingConfig(objective="v", time_sampling="logit_normal").time_distribution == "logit_normal"
