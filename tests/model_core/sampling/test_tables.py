import pytest
import torch

from model_core.sampling import tables
from model_core.sampling.tables import TabledNetwork
from tests.model_core.sampling.model import condition, latents, transformer

TIMESTEPS = [1000 * (1 - step / 7) for step in range(7)]


@pytest.mark.parametrize("max_rows", [1, 9, 128])
def test_a_tabled_network_predicts_what_the_network_predicts(max_rows, monkeypatch):
    monkeypatch.setattr(tables, "MAX_ROWS", max_rows)
    model, asked, x_t = transformer(), condition(), latents()
    network = TabledNetwork(model, TIMESTEPS)
    for timestep in [*TIMESTEPS, TIMESTEPS[2], 123.0]:
        for one in (asked, asked.null(2)):
            time = torch.full((3,), timestep)
            torch.testing.assert_close(network.predict(x_t, time, one), model.predict(x_t, time, one), atol=1e-5, rtol=1e-5)


def test_one_table_serves_every_step_and_another_condition_gets_its_own():
    model, made = transformer(), []
    make = model.modulation_table
    model.modulation_table = lambda timesteps, asked: made.append(len(timesteps)) or make(timesteps, asked)
    network, one, other = TabledNetwork(model, TIMESTEPS), condition(), condition()
    for timestep in TIMESTEPS:
        network.predict(latents(), torch.full((3,), timestep), one)
    assert made == [7]
    network.predict(latents(), torch.full((3,), TIMESTEPS[0]), other)
    assert made == [7, 7]
