import dataclasses
import hashlib
import json

import numpy as np
import pytest
import torch
from PIL import Image

from components.generate_media.config import Config
from components.generate_media.files import grid
from components.generate_media.step import Request, _starting_from, read_request, read_source, run
from components.ports import Ports
from model_core.codec.autoencoder import build_codec
from model_core.codec.batches import clips_to_bytes, clips_to_unit_range
from model_core.codec.config import CodecConfig
from model_core.codec.io import load_codec, save_codec
from model_core.errors import BadDataError, BadModelError
from model_core.transformer.dit import DiT
from model_core.transformer.model_config import write_model_config
from model_core.transformer.weights import save_weights
from tests.model_core.codec.small import small_causal_codec
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


def _run(package, tmp_path, request, *, name="media", encoder=None, watermarker=None, source=None, **options):
    folder, asked = tmp_path / name, tmp_path / f"{name}-request"
    folder.mkdir()
    asked.mkdir()
    if source is not None:
        np.save(asked / "source.npy", source)
        request = {**request, "source": True}
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


def test_pictures_are_enlarged_before_they_are_marked_and_the_last_bit_is_the_filters(package, tmp_path):
    plain, _ = _run(package, tmp_path, {"label": "squares"}, name="plain")
    marker = Inverter()
    large, report = _run(package, tmp_path, {"label": "squares"}, name="large", watermarker=marker, upscale=3)
    for index in range(3):
        with Image.open(plain / f"image-{index:06d}.png") as picture:
            expected = np.asarray(picture.resize((12, 12), Image.Resampling.LANCZOS))
        assert np.array_equal(marker.seen[index], expected[None])
        assert np.array_equal(np.asarray(Image.open(large / f"image-{index:06d}.png")), 255 - expected)
    assert report.summary == "3 pictures of 12x12 pixels"


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


@pytest.fixture
def clip_package(package):
    """The package as one of a model of clips of four frames."""
    write_model_config(model_config().model_copy(update={"latent_shape": (4, 4, 2, 2), "fps": 4.0}), package)
    return package


def _frames(folder, name="clip-000000.webp"):
    with Image.open(folder / name) as picture:
        found = []
        for index in range(getattr(picture, "n_frames", 1)):
            picture.seek(index)
            found.append(np.asarray(picture.convert("RGB")))
    return np.stack(found)


def _given(num_frames, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (num_frames, 4, 4, 3), dtype=np.uint8)


def _reconstruction(package, frames):
    codec = load_codec(package / "codec")
    with torch.no_grad():
        decoded = codec.decode(codec.encode(clips_to_unit_range(torch.from_numpy(frames)[None])))
    return clips_to_bytes(decoded)[0].numpy()


@pytest.mark.parametrize(
    ("num_frames", "kept", "groups"),
    [
        (8, (), [False, False]),
        (8, (4, 5, 6, 7), [False, True]),
        (8, tuple(range(8)), [True, True]),
        (5, (0,), [True, False]),  # the first of 1 + 4 frames is coded by itself
        (6, (0, 1), [True, False]),
        (1, (0,), [True]),
    ],
)
def test_whole_groups_of_frames_are_kept(num_frames, kept, groups):
    codec = small_causal_codec()
    config = Config(strength=0.5, keep_frames=kept)
    started = _starting_from(_given(num_frames), codec, config, 2)
    assert started["keep"].tolist() == groups
    assert started["start"].shape[2] == len(groups)


@pytest.mark.parametrize(
    ("num_frames", "kept", "words"),
    [(8, (0,), "frames 0 to 3"), (8, (4, 6), "frames 4 to 7"), (6, (1,), "frames 0 to 1"), (6, (0, 1, 5), "frames 2 to 5")],
)
def test_parts_of_groups_are_not_kept(num_frames, kept, words):
    with pytest.raises(BadDataError, match=f"{words} are one to the model's codec") as caught:
        _starting_from(_given(num_frames), small_causal_codec(), Config(keep_frames=kept), 1)
    assert f"whole groups of 4 frames, counted from the end of {num_frames}" in caught.value.hint


def test_no_strength_gives_what_the_codec_makes_of_the_source(package, tmp_path):
    source = _given(1)
    folder, _ = _run(package, tmp_path, {}, source=source, strength=0.0, num_images=1)
    assert np.array_equal(_frames(folder, "image-000000.png"), _reconstruction(package, source))


def test_strength_decides_how_far_the_source_is_left(package, tmp_path):
    source = _given(1)
    near = _reconstruction(package, source).astype(float)
    left = []
    for strength in (0.0, 0.25, 0.5, 1.0):
        options = {"strength": strength, "num_steps": 8, "num_images": 8}
        folder, _ = _run(package, tmp_path, {"label": "squares"}, name=str(strength), source=source, **options)
        made = np.stack([_frames(folder, f"image-{index:06d}.png") for index in range(8)])
        left.append(float(np.square(made - near).mean()))
    assert left == sorted(left)
    assert len(set(left)) == 4
    from_nothing, _ = _run(package, tmp_path, {"label": "squares"}, name="nothing", num_steps=8, num_images=8)
    assert (from_nothing / "media.json").read_bytes() == (tmp_path / "1.0" / "media.json").read_bytes()


def test_frames_that_are_kept_are_kept_and_the_others_are_not(clip_package, tmp_path):
    source = _given(4)
    whole = _reconstruction(clip_package, source)
    options = {"source": source, "keep_frames": (0, 3), "num_images": 2, "media_format": "webp"}
    first, _ = _run(clip_package, tmp_path, {"label": "squares"}, name="first", **options)
    again, _ = _run(clip_package, tmp_path, {"label": "squares"}, name="again", **options)
    other, _ = _run(clip_package, tmp_path, {"label": "squares"}, name="other", **options, seed=1)
    found = _frames(first)
    assert np.array_equal(found[[0, 3]], whole[[0, 3]])
    assert not np.array_equal(found[1], whole[1])
    assert (first / "media.json").read_bytes() == (again / "media.json").read_bytes()
    assert np.array_equal(_frames(other)[[0, 3]], whole[[0, 3]])
    assert (first / "media.json").read_bytes() != (other / "media.json").read_bytes()


def test_more_passes_make_other_frames_between_the_same_ones(clip_package, tmp_path):
    options = {"source": _given(4), "keep_frames": (0,), "num_images": 1, "media_format": "webp"}
    found = [_frames(_run(clip_package, tmp_path, {}, name=str(n), num_passes=n, **options)[0]) for n in (1, 2)]
    assert np.array_equal(found[0][0], found[1][0])
    assert not np.array_equal(found[0][1], found[1][1])


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (None, {"strength": 0.5}, "there is no source"),
        (None, {"keep_frames": (0,)}, "there is no source"),
        (_given(4), {}, "how much of the source stays"),
        (_given(4), {"keep_frames": (4,)}, "frame 4 cannot be kept where there are 4"),
        (_given(3), {"strength": 0.5}, "latents to start from have shape"),
        (_given(4)[0], {"strength": 0.5}, "no frames"),
        (_given(4).astype(np.float32), {"strength": 0.5}, "no frames"),
    ],
)
def test_a_source_that_does_not_fit_is_refused(clip_package, tmp_path, source, options, message):
    with pytest.raises(BadDataError, match=message):
        _run(clip_package, tmp_path, {"label": "squares"}, source=source, num_images=1, **options)


def test_a_source_that_is_missing_or_damaged_is_refused(package, tmp_path):
    with pytest.raises(BadDataError, match=r"source\.npy cannot be read"):
        _run(package, tmp_path, {"source": True}, strength=0.5)
    request = tmp_path / "damaged"
    request.mkdir()
    (request / "source.npy").write_bytes(b"\x93NUMPY\x01\x00")
    with pytest.raises(BadDataError, match=r"source\.npy cannot be read"):
        read_source(request, Request(source=True), Config(strength=0.5))
