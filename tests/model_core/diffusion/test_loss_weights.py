import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model_core.diffusion.loss_weights import min_snr_weights
from model_core.diffusion.parameterisation import to_x0
from model_core.diffusion.schedules import noise_schedule

PREDICTIONS = ["epsilon", "x0", "v", "velocity"]


def _weights(prediction, signal, sigma, gamma=5.0):
    return min_snr_weights(prediction, torch.as_tensor(signal).double(), torch.as_tensor(sigma).double(), gamma=gamma)


@pytest.mark.parametrize(
    ("prediction", "closed_form"),
    [
        ("epsilon", lambda snr, least: least / snr),
        ("x0", lambda snr, least: least),
        ("v", lambda snr, least: least / (snr + 1)),
        ("velocity", lambda snr, least: least / (snr.sqrt() + 1) ** 2),
    ],
)
@pytest.mark.parametrize("gamma", [1.0, 5.0])
def test_weights_are_the_closed_forms(prediction, closed_form, gamma):
    schedule = noise_schedule("linear")
    snr = schedule.alpha_bars / (1 - schedule.alpha_bars)
    expected = closed_form(snr, snr.clamp(max=gamma))
    torch.testing.assert_close(_weights(prediction, schedule.signals, schedule.sigmas, gamma), expected)


def test_weights_of_the_noise_are_those_of_diffusers_snr():
    from diffusers import DDPMScheduler

    t = torch.arange(0, 1000, 37)
    alpha_bar = DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear").alphas_cumprod[t]
    snr = alpha_bar / (1 - alpha_bar)
    schedule = noise_schedule("linear")
    ours = _weights("epsilon", schedule.signals[t], schedule.sigmas[t]).float()
    torch.testing.assert_close(ours, snr.clamp(max=5) / snr, atol=1e-5, rtol=1e-4)


@given(
    prediction=st.sampled_from(PREDICTIONS),
    signal=st.floats(0.05, 3),
    sigma=st.floats(0.05, 3),
    gamma=st.floats(0.1, 20),
    error=st.floats(0.1, 3),
)
def test_a_weighted_error_is_min_snr_times_the_error_of_the_data_on_any_path(prediction, signal, sigma, gamma, error):
    x_t = torch.randn(1, 1, 1, 1, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    output = torch.ones_like(x_t)
    of_data = to_x0(prediction, output + error, x_t, signal, sigma) - to_x0(prediction, output, x_t, signal, sigma)
    expected = min(signal**2 / sigma**2, gamma) * float(of_data) ** 2
    assert float(_weights(prediction, signal, sigma, gamma)) * error**2 == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("prediction", "clean", "noise"), [("epsilon", 0, 1), ("x0", 5, 0), ("v", 0, 0), ("velocity", 0, 0)])
def test_both_ends_of_a_path_have_finite_weights(prediction, clean, noise):
    assert _weights(prediction, [1.0, 0.0], [0.0, 1.0]).tolist() == [clean, noise]


def test_an_unknown_prediction_is_refused(unchecked):
    with pytest.raises(ValueError, match="'score'"):
        _weights("score", [1.0], [1.0])
