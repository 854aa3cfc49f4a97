import dataclasses
import json
import subprocess
import sys

import pytest

from model_core.errors import BadModelError
from model_core.transformer.model_config import (
    ModelConfig,
    NoiseScheduleId,
    SamplingDefaults,
    read_model_config,
    write_model_config,
)
from tests.model_core.toy_latents import ARCHITECTURE, model_config

SCHEDULE = NoiseScheduleId(name="cosine", num_timesteps=20)


def _sampling(**options):
    return SamplingDefaults(num_steps=4, guidance_scale=1.0, **options)


def _config(**changes):
    return model_config().model_copy(update=changes)


def test_a_config_written_before_there_were_samplers_and_other_objectives_is_read(tmp_path):
    write_model_config(model_config(objective="epsilon"), tmp_path)
    path = tmp_path / "config.json"
    values = json.loads(path.read_text())
    del values["sampling"]["sampler"], values["noise_schedule"]["zero_terminal_snr"]
    path.write_text(json.dumps(values))
    found = read_model_config(tmp_path)
    assert found == model_config(objective="epsilon")
    assert found.sampling.sampler is None
    assert not found.noise_schedule.zero_terminal_snr


OPTIONS = {"guidance_interval": (0.2, 0.8), "guidance_rescale": 0.7, "time_shift": 3.0, "cache_interval": 2}


def test_options_of_sampling_are_written_where_they_were_chosen_and_read_again(tmp_path):
    config = _config(sampling=SamplingDefaults(num_steps=4, guidance_scale=2.0, **OPTIONS))
    write_model_config(config, tmp_path)
    assert read_model_config(tmp_path) == config
    config.transformer()


def test_a_model_without_options_of_sampling_has_the_bytes_from_before_there_were_any(tmp_path):
    write_model_config(model_config(), tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["sampling"] == {"num_steps": 3, "guidance_scale": 2.0, "sampler": None}


@pytest.mark.parametrize("objective", ["x0", "v"])
def test_what_is_written_is_read(tmp_path, objective):
    config = _config(
        objective=objective,
        noise_schedule=NoiseScheduleId(name="scaled_linear", num_timesteps=50, zero_terminal_snr=True),
        sampling=SamplingDefaults(num_steps=10, guidance_scale=2.5, sampler="unipc"),
    )
    write_model_config(config, tmp_path)
    assert read_model_config(tmp_path) == config
    assert config.transformer() == ARCHITECTURE


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "epsilon"}, "epsilon objective needs a noise_schedule"),
        ({"objective": "x0"}, "x0 objective needs a noise_schedule"),
        ({"objective": "v"}, "v objective needs a noise_schedule"),
        ({"sampling": SamplingDefaults(num_steps=4, guidance_scale=1.0, sampler="ddpm")}, "ddpm cannot sample rectified_flow"),
        (
            {
                "objective": "v",
                "noise_schedule": SCHEDULE,
                "sampling": SamplingDefaults(num_steps=4, guidance_scale=1.0, sampler="heun"),
            },
            "heun cannot sample v",
        ),
        (
            {"objective": "epsilon", "noise_schedule": SCHEDULE.model_copy(update={"zero_terminal_snr": True})},
            "epsilon objective cannot have zero terminal SNR",
        ),
        (
            {"objective": "x0", "noise_schedule": SCHEDULE, "sampling": SamplingDefaults(num_steps=21, guidance_scale=1.0)},
            "sampling takes 21 steps, the noise schedule has 20",
        ),
        (
            {"objective": "v", "noise_schedule": SCHEDULE, "sampling": _sampling(time_shift=3.0)},
            "a time shift is for rectified flow, this model's objective is v",
        ),
        ({"sampling": _sampling(eta=0.5)}, "eta is 0.5, which the sampler euler does not read"),
        (
            {"objective": "v", "noise_schedule": SCHEDULE, "sampling": _sampling(ddpm_variance="large")},
            "ddpm_variance is large, which the sampler ddim does not read",
        ),
        ({"architecture": dataclasses.replace(ARCHITECTURE, learn_variance=True).to_dict()}, "no variance to learn"),
    ],
)
def test_an_objective_that_does_not_fit_the_rest_is_refused(changes, message):
    with pytest.raises(BadModelError, match=message):
        _config(**changes).transformer()


def test_as_many_steps_as_the_schedule_has_and_any_number_of_rectified_flow_can_be_sampled():
    for changes in (
        {"objective": "v", "noise_schedule": SCHEDULE, "sampling": SamplingDefaults(num_steps=20, guidance_scale=1.0)},
        {
            "noise_schedule": SCHEDULE,
            "sampling": SamplingDefaults(num_steps=21, guidance_scale=1.0),
        },  # ignored
    ):
        assert _config(**changes).transformer() == ARCHITECTURE


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("objective", "gan"),
        ("sampling", {"num_steps": 4, "guidance_scale": 1.0, "sampler": "plms"}),
        ("sampling", {"num_steps": 0, "guidance_scale": 1.0}),
        ("sampling", {"num_steps": 4, "guidance_scale": float("nan")}),
        ("sampling", {"num_steps": 4, "guidance_scale": float("inf")}),
        ("sampling", {"num_steps": 4, "guidance_scale": 1.0, "guidance_interval": [0.8, 0.2]}),
        ("sampling", {"num_steps": 4, "guidance_scale": 1.0, "cache_interval": 0}),
        ("noise_schedule", {"name": "square", "num_timesteps": 20}),
        ("noise_schedule", {"name": "linear", "num_timesteps": 0}),
    ],
)
def test_unknown_names_and_impossible_numbers_are_refused(tmp_path, where, value):
    write_model_config(model_config(), tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), where: value}))
    with pytest.raises(BadModelError, match=where):
        read_model_config(tmp_path)


def test_importing_it_imports_no_tensors():
    code = f"import sys; import {ModelConfig.__module__}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
