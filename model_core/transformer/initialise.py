"""Initial weights of a transformer, decided by a generator and the names of its parameters alone."""

import torch
from torch import nn

_EMBEDDING_STD = 0.02


def initialise(model: nn.Module, generator: torch.Generator | None) -> None:
    """Draws every weight anew in order of name: Xavier for linear layers, 0.02 for embeddings, zero for gates and output.

    All that changes the token stream starts at nothing (adaLN-Zero: Peebles & Xie 2022, §3.2), as do cross attention and skips.
    """
    for name, parameter in model.named_parameters():
        if name.endswith(".skip.weight"):
            with torch.no_grad():  # tokens pass, their mirror image does not yet
                parameter.copy_(torch.eye(*parameter.shape))
        elif name.endswith(("q_norm.weight", "k_norm.weight")):
            nn.init.ones_(parameter)
        elif name.endswith("bias") or "modulation" in name or name.startswith("final_layer.linear") or ".cross_attn.proj" in name:
            nn.init.zeros_(parameter)
        elif parameter.ndim < 2 or name.startswith(("t_embedder", "y_embedder")):
            nn.init.normal_(parameter, std=_EMBEDDING_STD, generator=generator)
        else:
            nn.init.xavier_uniform_(parameter, generator=generator)
