import itertools

import pytest
import torch

from model_core.training import throughput
from model_core.training.throughput import measured_matmul_peak, throughput_of, widest_matmul
from model_core.transformer.flops import forward_flops
from tests.model_core.toy_latents import ARCHITECTURE, SHAPE, TRAINING

CPU = torch.device("cpu")


def test_a_step_is_three_forward_passes_of_the_whole_batch():
    found = throughput_of(TRAINING, ARCHITECTURE, SHAPE, peak_flops_per_s=1e6)
    assert (found.images_per_step, found.tokens_per_step) == (4, 16)
    assert found.flops_per_step == 3 * forward_flops(ARCHITECTURE, (1, 2, 2), 4)
    assert found.share_of_peak(0.5) == pytest.approx(0.5 * found.flops_per_step / 1e6)


def test_without_a_peak_there_is_no_share_of_it():
    assert throughput_of(TRAINING, ARCHITECTURE, SHAPE).share_of_peak(0.5) is None


def test_the_peak_is_that_of_the_fastest_product():
    # before, after; before, after; ...: products of 4, 1 and 2 seconds, within a duration of 7
    times = iter([0.0, 0.0, 4.0, 4.0, 5.0, 5.0, 7.0])
    assert measured_matmul_peak((8, 16, 32), CPU, torch.float32, duration_s=7.0, clock=lambda: next(times)) == 2 * 8 * 16 * 32


def test_products_between_two_looks_at_the_clock_are_counted_together(monkeypatch):
    monkeypatch.setitem(throughput._PRODUCTS_A_TIMING, "cpu", 3)
    multiplied = []
    monkeypatch.setattr(throughput, "_finish", lambda _: multiplied.append("|"))
    matmul = torch.matmul
    monkeypatch.setattr(torch, "matmul", lambda *operands, out: multiplied.append(".") or matmul(*operands, out=out))
    times = iter([0.0, 0.0, 4.0, 4.0, 7.0])
    found = measured_matmul_peak((8, 16, 32), CPU, torch.float32, duration_s=7.0, clock=lambda: next(times))
    assert found == pytest.approx(3 * 2 * 8 * 16 * 32 / 3.0)
    assert "".join(multiplied) == "|...|...|"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_multiplied_is_as_different_as_a_networks_numbers_and_takes_none_of_its_random_ones(monkeypatch, dtype):
    seen, matmul = [], torch.matmul
    monkeypatch.setattr(torch, "matmul", lambda *operands, out: seen.extend(operands) or matmul(*operands, out=out))
    state = torch.get_rng_state()
    measured_matmul_peak((64, 128, 32), CPU, dtype, duration_s=0.0)
    assert torch.equal(torch.get_rng_state(), state)
    for operand in seen:
        assert operand.dtype == dtype
        assert 0.9 < float(operand.float().std()) < 1.1
        assert abs(float(operand.float().mean())) < 0.1


@pytest.mark.parametrize("shape", [(1, 4, 4), (10**9, 64, 256), (10**9, 16384, 65536)])
def test_whatever_the_network_it_is_measured_at_once(shape):
    clock = itertools.count()
    assert measured_matmul_peak(shape, CPU, torch.float32, duration_s=1.0, clock=lambda: float(next(clock))) > 0


def test_the_widest_product_is_into_the_hidden_layer_of_an_mlp():
    assert widest_matmul(ARCHITECTURE, SHAPE, 3) == (12, 16, 64)
