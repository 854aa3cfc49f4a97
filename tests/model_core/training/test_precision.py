import pytest
import torch

from model_core.training.precision import autocast, matmul_dtype, resolve_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx2": True}, "float32"),
        ({"avx2": True, "avx512_bf16": False}, "float32"),
        ({"avx2": True, "avx512_bf16": True}, "bfloat16"),
        ({"amx_bf16": True}, "bfloat16"),
        ({}, "float32"),
    ],
)
def test_auto_takes_bfloat16_only_where_the_processor_multiplies_it(capabilities, expected):
    assert resolve_precision("auto", CPU, cpu_capabilities=capabilities) == expected


def test_a_precision_that_is_named_is_taken():
    assert resolve_precision("float32", CPU, cpu_capabilities={"amx_bf16": True}) == "float32"
    assert resolve_precision("bfloat16", CPU, cpu_capabilities={}) == "bfloat16"
    assert resolve_precision("auto", CPU) in {"float32", "bfloat16"}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_matmuls_have_the_precision_and_weights_stay(precision):
    layer = torch.nn.Linear(3, 2)
    with autocast(precision, CPU):
        assert layer(torch.ones(1, 3)).dtype == matmul_dtype(precision)
    assert layer.weight.dtype == torch.float32
