import dataclasses
import hashlib
import json

import numpy as np
import pytest
import torch
from PIL import Image

from components.generate_media.config import Config
from components.generate_media.files import grid
from components.generate_media.step import read_request, run
from components.ports import Ports
from model_core.codec.autoencoder import build_codec
from model_core.codec.config import CodecConfig
from model_core.codec.io import save_codec
from model_core.errors import BadDataError, BadModelError
from model_core.transformer.dit import DiT
from model_core.transformer.model_config import write_model_config
from model_core.transformer.weights import save_weights
from tests.model_core.toy_latents import ARCHITECTURE, TEXT_DIM, model_config


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class FakeEncoder:
    """Turns a text into a vector of its length."""

    name, dim = "toy", TEXT_DIM

    def __init__(self, digest="e" * 64):
        self.digest = digest

    def encode(self, texts):
        return torch.tensor([[float(len(text))] * TEXT_DIM for text in texts])

    def encode_tokens(self, texts):
        return [torch.tensor([[ord(letter) % 7 * place**0.5 for place in range(TEXT_DIM)] for letter in text]) for text in texts]


class Silent:
    """Hears progress and says nothing."""

    def update(self, *args, **fields):
        pass


@pytest.fixture
def package(tmp_path):
    folder = tmp_path / "package"
    (folder / "codec").mkdir(parents=True)
    model = DiT(ARCHITECTURE, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    write_model_config(model_config(), folder)
    save_weights(dict(model.named_parameters()), folder)
    config = CodecConfig(
        latent_channels=4, downscale=2, encoder_widths=(4, 4), encoder_blocks=(0, 0), decoder_widths=(4, 4), decoder_blocks=(0, 0)
    )
    save_codec(build_codec(config, seed=0), folder / "codec")
    return folder


class Inverter:
    """Marks pixels so that anybody can see it, every other sample with an id."""

    def __init__(self):
        self.seen = []

    def mark(self, frames):
        self.seen.append(frames.copy())
        return 255 - frames, None if len(self.seen) % 2 else f"{len(self.seen):012x}"


def _run(package, tmp_path, request, *, name="media", encoder=None, watermarker=None, **options):
    folder, asked = tmp_path / name, tmp_path / f"{name}-request"
    folder.mkdir()
    asked.mkdir()
    (asked / "request.json").write_text(json.dumps(request))
    silent = Silent()
    ports = Ports(tracking=silent, progress=silent, metrics=silent, scratch=tmp_path, watermarker=watermarker)
    report = run(
        Config(**{"num_images": 3, **options}),
        {"package": package, "request": asked},
        {"media": folder},
        ports,
        text_encoder=encoder or FakeEncoder(),
    )
    return folder, report


def test_pictures_are_written_with_their_digests_and_seeds(package, tmp_path):
    folder, report = _run(package, tmp_path, {"label": "squares"})
    media = json.loads((folder / "media.json").read_text())
    assert [entry["file"] for entry in media] == ["image-000000.png", "image-000001.png", "image-000002.png"]
    for entry in media:
        assert entry["sha256"] == hashlib.sha256((folder / entry["file"]).read_bytes()).hexdigest()
        assert entry["label"] == "squares"
        with Image.open(folder / entry["file"]) as picture:
            assert (picture.size, picture.mode, picture.info) == ((4, 4), "RGB", {})
    assert len({entry["seed"] for entry in media}) == 3
    assert report.facts["media"] == media
    assert (folder / "grid.png").is_file()


def test_the_same_seed_gives_the_same_bytes_in_other_batches_and_numbers(package, tmp_path):
    first, _ = _run(package, tmp_path, {"prompt": "a red cat"}, name="first")
    second, _ = _run(package, tmp_path, {"prompt": "a red cat"}, name="second", batch_size=2, num_images=5)
    other, _ = _run(package, tmp_path, {"prompt": "a red cat"}, name="other", seed=1)
    for index in range(3):
        name = f"image-{index:06d}.png"
        assert (first / name).read_bytes() == (second / name).read_bytes()
        assert (first / name).read_bytes() != (other / name).read_bytes()


def test_pixels_are_marked_before_they_are_written_and_their_ids_listed(package, tmp_path):
    plain, _ = _run(package, tmp_path, {"label": "squares"}, name="plain")
    marker = Inverter()
    marked, _ = _run(package, tmp_path, {"label": "squares"}, name="marked", watermarker=marker)
    off, _ = _run(package, tmp_path, {"label": "squares"}, name="off", watermarker=Inverter(), watermark=False)
    for index in range(3):
        before, after, unmarked = (np.asarray(Image.open(folder / f"image-{index:06d}.png")) for folder in (plain, marked, off))
        assert np.array_equal(after, 255 - before)
        assert np.array_equal(marker.seen[index], before[None])
        assert np.array_equal(unmarked, before)
    ids = [[item["watermark_id"] for item in json.loads((folder / "media.json").read_text())] for folder in (plain, marked, off)]
    assert ids == [[None] * 3, [None, "000000000002", None], [None] * 3]


def test_the_prompt_decides_the_picture_and_is_written_nowhere(package, tmp_path):
    first, report = _run(package, tmp_path, {"prompt": "zebra crossing"}, name="first")
    second, _ = _run(package, tmp_path, {"prompt": "zebra"}, name="second")
    assert (first / "image-000000.png").read_bytes() != (second / "image-000000.png").read_bytes()
    assert not [path for path in first.iterdir() if b"zebra" in path.read_bytes()]
    assert "zebra" not in repr(report)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({}, "neither a prompt nor a label"),
        ({"prompt": ""}, "prompt is empty"),
        ({"prompt": " \n"}, "prompt is empty"),
        ({"prompt": "a\0b"}, "NUL"),
        ({"prompt": "x" * 1_000_000}, "prompt"),
        ({"label": "triangles"}, "no label 'triangles'"),
        ({"label": "squares", "style": "oil"}, "style"),
        ([], "request.json"),
    ],
)
def test_requests_that_make_no_sense_are_refused(package, tmp_path, request_, message):
    with pytest.raises(BadDataError, match=message) as caught:
        _run(package, tmp_path, request_)
    assert len(str(caught.value)) < 300


def test_a_missing_request_is_named(tmp_path):
    with pytest.raises(BadDataError, match=r"request\.json does not exist"):
        read_request(tmp_path / "request.json")


def test_another_text_encoder_than_the_models_is_refused_for_prompts_only(package, tmp_path):
    with pytest.raises(BadModelError, match="trained with text encoder"):
        _run(package, tmp_path, {"prompt": "a cat"}, name="a", encoder=FakeEncoder("f" * 64))
    _run(package, tmp_path, {"label": "squares"}, name="b", encoder=FakeEncoder("f" * 64))


def test_the_grid_holds_every_picture_once():
    images = np.arange(5, dtype=np.uint8)[:, None, None, None].repeat(4, 1).repeat(4, 2).repeat(3, 3)
    sheet = grid(images)
    assert sheet.shape == (2 * 6 + 2, 3 * 6 + 2, 3)
    assert [int((sheet == value).all(axis=2).sum()) for value in range(5)] == [16] * 5


def test_the_sampler_asked_for_is_the_one_that_draws(package, tmp_path):
    usual, _ = _run(package, tmp_path, {"label": "squares"}, name="usual")
    same, _ = _run(package, tmp_path, {"label": "squares"}, name="same", sampler="euler")
    other, _ = _run(package, tmp_path, {"label": "squares"}, name="other", sampler="heun")
    assert (same / "media.json").read_bytes() == (usual / "media.json").read_bytes()
    assert (other / "media.json").read_bytes() != (usual / "media.json").read_bytes()


def test_the_device_asked_for_is_the_one_that_draws(package, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    usual, _ = _run(package, tmp_path, {"label": "squares"}, name="usual")
    cpu, _ = _run(package, tmp_path, {"label": "squares"}, name="cpu", device="cpu")
    assert (cpu / "media.json").read_bytes() == (usual / "media.json").read_bytes()
    with pytest.raises(BadModelError, match="no CUDA GPU"):
        _run(package, tmp_path, {"label": "squares"}, name="cuda", device="cuda")


@pytest.mark.parametrize(
    "option",
    [{"guidance_interval": (0.4, 0.6)}, {"guidance_rescale": 1.0}, {"time_shift": 5.0}, {"cache_interval": 3}],
    ids=lambda option: next(iter(option)),
)
def test_every_option_of_sampling_reaches_the_pictures(package, tmp_path, option):
    usual, _ = _run(package, tmp_path, {"label": "squares"}, name="usual", guidance_scale=6.0)
    other, _ = _run(package, tmp_path, {"label": "squares"}, name="other", guidance_scale=6.0, **option)
    assert (other / "media.json").read_bytes() != (usual / "media.json").read_bytes()


@pytest.mark.parametrize("option", [{"eta": 0.5}, {"ddpm_variance": "small"}], ids=lambda option: next(iter(option)))
def test_an_option_of_another_sampler_is_refused(package, tmp_path, option):
    with pytest.raises(BadDataError, match=next(iter(option))):
        _run(package, tmp_path, {"label": "squares"}, **option)


def test_a_sampler_that_the_model_cannot_have_is_refused(package, tmp_path):
    with pytest.raises(BadDataError, match="ddpm cannot sample"):
        _run(package, tmp_path, {"label": "squares"}, sampler="ddpm")


def test_a_model_that_attends_to_tokens_reads_the_prompts(package, tmp_path):
    architecture = dataclasses.replace(ARCHITECTURE, text_conditioning="cross_attention")
    model = DiT(architecture, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    write_model_config(model_config().model_copy(update={"architecture": architecture.to_dict()}), package)
    save_weights(dict(model.named_parameters()), package)
    pictures = {
        prompt: (_run(package, tmp_path, {"prompt": prompt}, name=name)[0] / "image-000000.png").read_bytes()
        for name, prompt in (("one", "zebra"), ("two", "zebra crossing"), ("three", "zebra crossed"))
    }
    assert len(set(pictures.values())) == 3
    _run(package, tmp_path, {"label": "squares"}, name="label")
