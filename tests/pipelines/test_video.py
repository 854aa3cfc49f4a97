"""Clips through the whole pipeline, by the command line: trained, judged by how they move, generated, traced to their data."""

import io
import json
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.pipelines.calling import Called, call, call_here, run_training
from tests.pipelines.conftest import copy_home

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PROMPT = "a red apple moving left slowly on a blue background"


@pytest.fixture(scope="module")
def trained(home_template: Path, tiny_codec: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Called]:
    """A home in which a model of clips was trained for a moment."""
    home = tmp_path_factory.mktemp("video") / "home"
    copy_home(home_template, home)
    settings = [
        "data.source=moving-openmoji",
        "data.categories=[food, animals]",
        "data.limit=80",
        "data.size=16",
        "data.frames=8",
        "data.fps=4",
        f"codec={tiny_codec}",
        "train_dit.num_steps=4",
        "train_dit.batch_size=4",
        "train_dit.patch_size=[2, 2, 2]",
        "train_dit.frame_times=context",
        "train_dit.hidden_size=16",
        "train_dit.depth=1",
        "train_dit.num_heads=2",
        "train_dit.warmup_steps=1",
        "train_dit.sampling_num_steps=2",
        "evaluate.num_samples=8",
        "evaluate.feature_size=32",
        "evaluate.num_resamples=100",
    ]
    called = run_training(home, settings)
    assert called.exit_code == 0, called.stdout + called.stderr
    return home, called


def test_a_model_of_clips_is_judged_by_how_its_clips_move(trained: tuple[Path, Called]) -> None:
    _, called = trained
    metrics = called.document["metrics"]
    ends = ("", "_low", "_high", "_real", "_chance")
    names = {f"{name}{end}" for name in ("motion_direction", "caption_retrieval") for end in ends}
    assert names <= metrics.keys()
    assert metrics["motion_direction_real"] > 0.8
    assert metrics["motion_direction_chance"] == 0.25
    assert 0 <= metrics["temporal_consistency_real"] <= 1


def test_a_clip_is_generated_and_leads_back_to_its_data(trained: tuple[Path, Called], tmp_path: Path) -> None:
    home, called = trained
    model = called.document["model_version"]
    made = [
        call(home, "--json", "generate", model, "--prompt", PROMPT, "-n", 2, "--seed", 3, "--out", tmp_path / folder).document
        for folder in ("one", "other")
    ]
    first = Path(made[0]["files"][0]["path"])
    with av.open(str(first)) as container:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
        assert (frames.shape, container.streams.video[0].average_rate) == ((8, 16, 16, 3), 4)
    with Image.open(made[0]["grid"]) as grid:
        assert grid.width > 8 * 16  # a filmstrip a clip
    decoded = []
    for one in made:
        with av.open(io.BytesIO(Path(one["files"][1]["path"]).read_bytes())) as container:
            decoded.append(np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]))
    assert np.array_equal(*decoded)  # the same seed, the same frames
    verified = call(home, "content", "verify", first)
    assert verified.exit_code == 0, verified.stdout + verified.stderr
    assert "made by model groundswell-dit version 1" in verified.stdout
    report = call(home, "lineage", first, "--format", "json", "-o", tmp_path / "lineage.json")
    assert report.exit_code == 0, report.stderr
    assert "moving-openmoji" in json.dumps(json.loads((tmp_path / "lineage.json").read_text()))


def test_a_clip_longer_than_the_models_own_is_generated_and_verified(trained: tuple[Path, Called], tmp_path: Path) -> None:
    home, called = trained
    model = called.document["model_version"]
    made = call(home, "--json", "generate", model, "--prompt", PROMPT, "--seed", 3, "--frames", 43, "--out", tmp_path).document
    path = Path(made["files"][0]["path"])
    with av.open(str(path)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 43
    with Image.open(made["grid"]) as strip:
        assert strip.width == 11 * 16 + 4  # a frame a second
    verified = call(home, "content", "verify", path)
    assert verified.exit_code == 0, verified.stdout + verified.stderr


def test_an_enlarged_clip_is_found_by_its_pixels_after_it_was_encoded_anew(trained: tuple[Path, Called], tmp_path: Path) -> None:
    home, called = trained
    options = ["--prompt", PROMPT, "--seed", 3, "--upscale", 8, "--out", tmp_path]
    (file,) = call(home, "--json", "generate", called.document["model_version"], *options).document["files"]
    with av.open(file["path"]) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert np.stack(frames).shape == (8, 128, 128, 3)
    stripped = tmp_path / "stripped.mp4"
    with av.open(str(stripped), "w") as container:
        stream = container.add_stream("libx264", rate=4, options={"crf": "28"})
        stream.width, stream.height, stream.pix_fmt = 128, 128, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    verified = call(home, "--json", "content", "verify", stripped)
    checks = {check["name"]: check["outcome"] for check in verified.document["checks"]}
    assert (checks["watermark"], checks["manifest"]) == ("held", "absent")
    assert verified.document["attribution"]["model"] == called.document["model_version"]
    assert verified.exit_code == 4  # a mark is evidence, not proof


@pytest.mark.parametrize("media_format", ["webp", "gif"])
def test_animations_carry_credentials_too(trained: tuple[Path, Called], tmp_path: Path, media_format: str) -> None:
    home, called = trained
    options = ["--label", "food", "--format", media_format, "--out", tmp_path]
    (file,) = call(home, "--json", "generate", called.document["model_version"], *options).document["files"]
    with Image.open(file["path"]) as picture:
        assert (picture.format, picture.n_frames) == (media_format.upper(), 8)
    verified = call(home, "content", "verify", file["path"])
    assert verified.exit_code == 0, verified.stdout + verified.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [(("--format", "png"), "cannot be png"), (("--frames", 300, "--format", "gif"), "a clip of 300 frames cannot be gif")],
)
def test_what_the_model_cannot_make_is_one_line(trained: tuple[Path, Called], tmp_path: Path, options, words) -> None:
    home, called = trained
    refused = call(home, "generate", called.document["model_version"], "--label", "food", *options, "--out", tmp_path / "out")
    assert refused.exit_code == 3
    assert words in refused.stderr
    assert refused.stderr.rstrip().splitlines()[-1].startswith("hint: ")
    assert not (tmp_path / "out").exists()


def frames_of(path: str) -> np.ndarray:
    """The frames of an animation without loss."""
    with Image.open(path) as picture:
        found = []
        for index in range(picture.n_frames):
            picture.seek(index)
            found.append(np.asarray(picture.convert("RGB")))
    return np.stack(found)


@pytest.fixture(scope="module")
def given(trained: tuple[Path, Called], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A clip of the home's own, and its frames as the codec makes them."""
    home, called = trained
    out, model = tmp_path_factory.mktemp("given"), called.document["model_version"]
    made = call_here(home, "--json", "generate", model, "--label", "food", "--format", "webp", "--out", out)
    (file,) = made.document["files"]
    options = ["--strength", 0, "--format", "webp", "--out", out]
    again = call_here(home, "--json", "generate", model, "--from", file["path"], *options)
    assert again.exit_code == 0, again.stderr
    return Path(file["path"]), frames_of(again.document["files"][0]["path"])


@pytest.mark.parametrize(
    ("options", "kept", "of_given"),
    [
        (("--keep-frames", "0-1,7"), [0, 1, 7], [0, 1, 7]),
        (("--continue-frames", 3), [0, 1, 2], [5, 6, 7]),
    ],
    ids=["between", "onwards"],
)
def test_frames_of_a_given_clip_stay_and_the_others_are_made(
    trained: tuple[Path, Called], given: tuple[Path, np.ndarray], tmp_path: Path, options, kept, of_given
) -> None:
    home, called = trained
    path, whole = given
    asked = ["--from", path, *options, "--label", "food", "--format", "webp", "--out", tmp_path]
    made = call_here(home, "--json", "generate", called.document["model_version"], *asked)
    assert made.exit_code == 0, made.stderr
    found = frames_of(made.document["files"][0]["path"])
    assert np.array_equal(found[kept], whole[of_given])
    assert not any(np.array_equal(found[place], whole[place]) for place in {*range(8)} - {*kept})
    verified = call_here(home, "--json", "content", "verify", made.document["files"][0]["path"])
    assert verified.exit_code == 0, verified.stderr
    assert verified.document["attribution"]["source"]["model"] == called.document["model_version"]


def test_a_picture_is_the_first_frame_of_a_clip(trained: tuple[Path, Called], tmp_path: Path) -> None:
    home, called = trained
    Image.new("RGB", (40, 30), (200, 30, 30)).save(tmp_path / "red.jpg")
    options = ["--from", tmp_path / "red.jpg", "--keep-frames", 0, "--prompt", PROMPT, "--out", tmp_path / "out"]
    made = call_here(home, "--json", "generate", called.document["model_version"], *options)
    assert made.exit_code == 0, made.stderr
    verified = call_here(home, "content", "verify", made.document["files"][0]["path"])
    assert (verified.exit_code, "a file of unknown origin" in verified.stdout) == (0, True)


def test_a_clip_cannot_go_on_from_all_of_its_frames(
    trained: tuple[Path, Called], given: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    home, called = trained
    options = ["--from", given[0], "--continue-frames", 8, "--out", tmp_path / "out"]
    refused = call_here(home, "generate", called.document["model_version"], *options)
    assert refused.exit_code == 3
    assert "leave none to be made" in refused.stderr
    assert not (tmp_path / "out").exists()
