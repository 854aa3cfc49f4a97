"""How much a diffusion transformer computes, from its configuration; importing this imports no tensors.

Counted are the matmuls, a multiplication and an addition as two operations; norms, activations and sums over rows are left out,
as is usual (Kaplan 2020, arXiv 2001.08361, §2.1). A training step is three forward passes.

Shapes: n tokens, d hidden size, m caption tokens.
"""

import math

from model_core.transformer.config import Grid, TransformerConfig


def forward_flops(config: TransformerConfig, grid: Grid, batch_size: int, *, text_tokens: int = 0) -> int:
    """Returns the floating-point operations of one forward pass.

    Args:
        config: The architecture.
        grid: Tokens of a sample along frames, height and width.
        batch_size: Samples.
        text_tokens: Caption tokens of a sample, for cross attention; the token for no caption is counted besides.
    """
    tokens, width, volume = math.prod(grid), config.hidden_size, math.prod(config.patch_size)
    memory = text_tokens + 1 if config.reads_text_states else 0
    embedders = matmul_flops(tokens, config.in_channels * volume, width) + _condition_flops(config, text_tokens)
    final = matmul_flops(1, width, 2 * width) + matmul_flops(tokens, width, config.out_channels * volume)
    blocks = config.depth * _block_flops(config, grid, memory)
    skips = config.depth // 2 * matmul_flops(tokens, 2 * width, width) if config.long_skips else 0
    return batch_size * (embedders + _modulation_flops(config) + blocks + skips + final)


def matmul_flops(rows: int, inner: int, columns: int) -> int:
    """Returns the operations of a product of matrices [rows inner] and [inner columns]."""
    return 2 * rows * inner * columns


def _condition_flops(config: TransformerConfig, text_tokens: int) -> int:
    """Returns the operations of embedding a timestep and a caption; a label is looked up."""
    width = config.hidden_size
    second_layer = matmul_flops(1, width, width)
    flops = matmul_flops(1, config.frequency_dim, width) + second_layer
    if config.reads_pooled_text:
        flops += matmul_flops(1, config.text_dim, width) + second_layer
    if config.reads_text_states:
        flops += text_tokens * (matmul_flops(1, config.text_dim, width) + second_layer)
    return flops


def _modulation_flops(config: TransformerConfig) -> int:
    """Returns the operations of making shifts, scales and gates of all blocks."""
    layers = 1 if config.modulation == "shared" else config.depth
    return layers * matmul_flops(1, config.hidden_size, config.modulations_per_block * config.hidden_size)


def _block_flops(config: TransformerConfig, grid: Grid, memory: int) -> int:
    """Returns the operations of a block on one sample, without its modulation and long skip."""
    (frames, height, columns), tokens, width = grid, math.prod(grid), config.hidden_size
    projections = matmul_flops(tokens, width, 3 * width) + matmul_flops(tokens, width, width)
    if config.attention == "full":
        flops = projections + _attention_flops(tokens, tokens, width)
    else:
        flops = projections + _attention_flops(tokens, height * columns, width)
        if frames > 1:
            flops += projections + _attention_flops(tokens, frames, width)
    if memory:
        flops += 2 * matmul_flops(tokens, width, width) + matmul_flops(memory, width, 2 * width)
        flops += _attention_flops(tokens, memory, width)
    hidden = config.mlp_width
    into = 2 * hidden if config.mlp == "swiglu" else hidden
    return flops + matmul_flops(tokens, width, into) + matmul_flops(tokens, hidden, width)


def _attention_flops(queries: int, keys: int, width: int) -> int:
    """Returns the operations of scores and mixtures, where each query sees so many keys."""
    return matmul_flops(queries, width, keys) + matmul_flops(queries, keys, width)
