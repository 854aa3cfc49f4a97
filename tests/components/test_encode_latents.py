import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from components.encode_latents.config import Config
from components.encode_latents.step import run
from components.ports import StepReport
from governance.digest import tree_digest
from governance.errors import BadRecordError, IntegrityError
from model_core.codec.batches import to_unit_range
from model_core.codec.io import load_codec, save_codec
from model_core.data.dataset import Dataset
from model_core.data.latents import LatentDataset
from model_core.errors import BadDataError, BadModelError
from tests.components.codec_steps import Recorder, contents, empty, ports, validated_dataset
from tests.model_core.codec.small import small_codec
from tests.model_core.data.toy import change_manifest

CONFIG = Config(batch_size=3, shard_size=5, num_shown=2)


class LetterEncoder:
    """A text encoder of two numbers: length, and how many digits; remembers what it was asked."""

    name, digest, dim = "letters", "f" * 64, 2

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, texts: Sequence[str]) -> Tensor:
        self.asked.extend(texts)
        return torch.tensor([[float(len(text)), float(sum(c.isdigit() for c in text))] for text in texts])

    def encode_tokens(self, texts: Sequence[str]) -> list[Tensor]:
        return [torch.tensor([[float(ord(letter)), float(letter.isdigit())] for letter in text]) for text in texts]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    codec = empty(tmp_path / "codec")
    save_codec(small_codec(latent_mean=(0.1,) * 4, latent_std=(2.0,) * 4), codec)
    return {**validated_dataset(tmp_path), "codec": codec}


def encode(
    inputs: dict[str, Path], out: Path, scratch: Path, recorder: Recorder | None = None, config: Config = CONFIG
) -> StepReport:
    out.mkdir(exist_ok=True)
    return run(config, inputs, {"latents": out}, ports(scratch, recorder or Recorder()), text_encoder=LetterEncoder())


def revalidate(inputs: dict[str, Path]) -> None:
    report = {"success": True, "dataset_digest": tree_digest(inputs["dataset"])}
    (inputs["validation"] / "report.json").write_text(json.dumps(report))


def test_latents_are_those_of_the_codec_row_by_row(tmp_path: Path, inputs: dict[str, Path]) -> None:
    report = encode(inputs, tmp_path / "latents", tmp_path / "scratch")
    dataset, codec, opened = (
        Dataset.open(inputs["dataset"]),
        load_codec(inputs["codec"]),
        LatentDataset.open(tmp_path / "latents"),
    )
    assert len(opened) == len(dataset) == 12
    assert opened.config.codec_digest == tree_digest(inputs["codec"])
    assert opened.config.dataset_digest == tree_digest(inputs["dataset"])
    for row in range(12):
        frame = to_unit_range(torch.from_numpy(dataset.images([row])))
        torch.testing.assert_close(opened.latents([row]), codec.encode(frame.unsqueeze(2)), atol=1e-5, rtol=1e-5)
        assert hashlib.sha256(dataset.read_bytes(row)).hexdigest() == opened.index["sha256"][row].as_py()
        assert dataset.labels[int(opened.label_indices([row]))] == dataset.columns["label"][row]
        caption = dataset.columns["caption"][row]
        assert opened.captions[int(opened.caption_indices([row]))] == caption
        assert opened.caption_embeddings([row]).tolist() == [[len(caption), sum(c.isdigit() for c in caption)]]
    assert opened.rows("holdout") == dataset.rows("holdout")
    assert len(list((tmp_path / "latents" / "shards").iterdir())) == 3
    assert set(report.metrics) == {"psnr_train", "ssim_train", "psnr_holdout", "ssim_holdout", "num_items", "num_captions"}
    assert 0 < report.metrics["psnr_holdout"] < 100


def test_each_distinct_caption_is_embedded_once(tmp_path: Path, inputs: dict[str, Path]) -> None:
    change_manifest(inputs["dataset"], "caption", 1, "picture number 2")
    change_manifest(inputs["dataset"], "caption", 5, "")
    revalidate(inputs)
    encoder, out = LetterEncoder(), empty(tmp_path / "latents")
    run(CONFIG, inputs, {"latents": out}, ports(tmp_path / "scratch", Recorder()), text_encoder=encoder)
    assert len(encoder.asked) == len(set(encoder.asked)) == len(LatentDataset.open(out).captions)
    assert int(LatentDataset.open(out).caption_indices([5])) == -1


def test_an_interrupted_step_ends_in_the_same_bytes_without_repeating_shards(tmp_path: Path, inputs: dict[str, Path]) -> None:
    encode(inputs, tmp_path / "whole", tmp_path / "a")
    first = Recorder(stop_at=3)  # in the second shard
    with pytest.raises(KeyboardInterrupt):
        encode(inputs, tmp_path / "killed", tmp_path / "b", first)
    second = Recorder()
    encode(inputs, tmp_path / "resumed", tmp_path / "b", second)
    assert second.updates[0][:2] == (5, 12)
    assert contents(tmp_path / "resumed") == contents(tmp_path / "whole")


def test_a_damaged_part_of_an_earlier_attempt_is_made_again(tmp_path: Path, inputs: dict[str, Path]) -> None:
    encode(inputs, tmp_path / "whole", tmp_path / "scratch")
    part = tmp_path / "scratch" / "shard-00001.safetensors"
    part.write_bytes(part.read_bytes()[:-50])
    encode(inputs, tmp_path / "again", tmp_path / "scratch")
    assert contents(tmp_path / "again") == contents(tmp_path / "whole")


def test_a_dataset_that_changed_after_validation_is_refused(tmp_path: Path, inputs: dict[str, Path]) -> None:
    change_manifest(inputs["dataset"], "caption", 0, "another caption")
    with pytest.raises(IntegrityError, match="validated") as caught:
        encode(inputs, tmp_path / "latents", tmp_path / "scratch")
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"success": true}'])
def test_a_validation_report_that_is_none_is_refused(tmp_path: Path, inputs: dict[str, Path], content: str | None) -> None:
    (inputs["validation"] / "report.json").unlink()
    if content is not None:
        (inputs["validation"] / "report.json").write_text(content)
    with pytest.raises(BadRecordError, match="no validation report"):
        encode(inputs, tmp_path / "latents", tmp_path / "scratch")


def test_a_damaged_codec_is_refused(tmp_path: Path, inputs: dict[str, Path]) -> None:
    weights = inputs["codec"] / "codec.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(BadModelError, match=r"codec\.safetensors"):
        encode(inputs, tmp_path / "latents", tmp_path / "scratch")


def test_pictures_that_do_not_fit_into_memory_are_named(
    tmp_path: Path, inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr("model_core.codec.autoencoder.Codec.encode", is_full)
    with pytest.raises(BadModelError, match="encoding 3 pictures of 16x16 at a time does not fit into memory") as caught:
        encode(inputs, tmp_path / "latents", tmp_path / "scratch")
    assert "batch_size" in caught.value.hint


def test_a_device_that_is_not_there_is_refused(tmp_path: Path, inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for config in (CONFIG.model_copy(update={"device": "cuda"}), CONFIG.model_copy(update={"device": "tpu"})):
        with pytest.raises(BadModelError, match="device"):
            run(config, inputs, {"latents": tmp_path / "x"}, ports(tmp_path / "a", Recorder()), text_encoder=LetterEncoder())


def test_latents_are_the_same_bytes_on_the_cpu_asked_for_or_not(
    tmp_path: Path, inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    encode(inputs, tmp_path / "auto", tmp_path / "a")
    out, config = empty(tmp_path / "cpu"), CONFIG.model_copy(update={"device": "cpu"})
    run(config, inputs, {"latents": out}, ports(tmp_path / "b", Recorder()), text_encoder=LetterEncoder())
    assert contents(out) == contents(tmp_path / "auto")


def test_latents_that_are_not_finite_are_not_written(tmp_path: Path, inputs: dict[str, Path]) -> None:
    codec = small_codec()
    with torch.no_grad():
        codec.encoder.get_parameter("out.bias").fill_(3e38)
        codec.encoder.get_parameter("patch.bias").fill_(3e38)
    save_codec(codec, inputs["codec"])
    first = Dataset.open(inputs["dataset"]).columns["sha256"][0]
    with pytest.raises(BadModelError, match=f"encodes item {first[:16]} .* not finite"):
        encode(inputs, tmp_path / "latents", tmp_path / "scratch")
    assert not list((tmp_path / "scratch").iterdir())


def test_pictures_that_the_codec_cannot_divide_are_refused(tmp_path: Path, inputs: dict[str, Path]) -> None:
    levels = {"encoder_widths": (4,) * 6, "encoder_blocks": (0,) * 6, "decoder_widths": (4,) * 6, "decoder_blocks": (0,) * 6}
    save_codec(small_codec(downscale=32, **levels), inputs["codec"])
    with pytest.raises(BadModelError, match="16x16"):
        encode(inputs, tmp_path / "latents", tmp_path / "scratch")


def test_a_label_that_the_dataset_does_not_list_is_refused(tmp_path: Path, inputs: dict[str, Path]) -> None:
    change_manifest(inputs["dataset"], "label", 3, "horse")
    revalidate(inputs)
    with pytest.raises(BadDataError, match="horse"):
        encode(inputs, tmp_path / "latents", tmp_path / "scratch")


def test_captions_tokens_are_kept_where_they_are_asked_for(tmp_path: Path, inputs: dict[str, Path]) -> None:
    encode(inputs, tmp_path / "pooled", tmp_path / "scratch")
    encode(inputs, tmp_path / "tokens", tmp_path / "scratch", config=CONFIG.model_copy(update={"caption_tokens": True}))
    pooled, opened = LatentDataset.open(tmp_path / "pooled"), LatentDataset.open(tmp_path / "tokens")
    rows = list(range(len(opened)))
    states, mask = opened.caption_tokens(rows)
    assert states.shape == (len(rows), opened.longest_caption, 2)
    captions = Dataset.open(inputs["dataset"]).columns["caption"]
    for row, caption in enumerate(captions):
        assert "".join(chr(int(code)) for code in states[row, mask[row], 0]) == (caption or "")
    assert not states[~mask].any()
    assert (pooled.has_caption_tokens, pooled.longest_caption) == (False, 0)
    with pytest.raises(BadDataError, match="holds no states of caption tokens"):
        pooled.caption_tokens(rows)
