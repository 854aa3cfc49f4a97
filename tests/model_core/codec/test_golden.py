"""The codec that ships with the project encodes and decodes as it did when it was made."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from model_core.codec.io import CONFIG_NAME, load_codec, save_codec

SHIPPED = Path(__file__).parents[3] / "infra/codecs/openmoji-f4c8/codec"
GOLDEN = Path(__file__).parent / "golden/openmoji-f4c8.safetensors"


def test_the_shipped_codec_gives_the_recorded_numbers() -> None:
    codec, golden = load_codec(SHIPPED), load_file(GOLDEN)
    latents = codec.encode(golden["pixels"])
    # The same bits on the machine that recorded them; other processors may round otherwise.
    torch.testing.assert_close(latents, golden["latents"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(codec.decode(golden["latents"]), golden["decoded"], atol=1e-5, rtol=1e-5)
    log_variance = codec.posterior(golden["pixels"][:, :, 0]).log_variance
    torch.testing.assert_close(log_variance, golden["log_variance"], atol=1e-5, rtol=1e-5)


def test_the_shipped_codec_is_written_as_it_lies_there(tmp_path: Path) -> None:
    save_codec(load_codec(SHIPPED), tmp_path)
    assert (tmp_path / CONFIG_NAME).read_bytes() == (SHIPPED / CONFIG_NAME).read_bytes()
