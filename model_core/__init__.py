"""Tensors and media, no records: data, codec, diffusion, transformer, training, sampling, evaluation."""
