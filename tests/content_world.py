"""A home that has handed out files with credentials, without a model that drew them."""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from governance.credentials.claim import Claim
from governance.credentials.ingredient import Ingredient
from infra.content_keys import signing_keys
from infra.content_verification import verify_content
from infra.home import Home
from infra.ledger import sign_checkpoint
from infra.model_versions import ModelVersion
from infra.settings import Settings
from pipelines.publishing import GeneratedFile, publish, record_files

ANY = Claim(run_id="r", position=0, model_name="m", model_version=1, root_digest="a", pixels_sha256="b")
RUN = "11111111-2222-3333-4444-555555555555"
VERSION = ModelVersion(
    name="emoji-small",
    version=3,
    root_digest="ab" * 32,
    location="gone",
    run_id=None,
    metrics={},
    inputs={},
    mlflow_model_id=None,
    created="2026-01-01T00:00:00.000000Z",
    aliases=(),
)


def drawing(seed: int, *, size: int = 96) -> Image.Image:
    """A picture with large shapes, as generated ones have; others for each seed."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (size, size), tuple(rng.integers(0, 255, 3).tolist()))
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        x, y, width, height = rng.integers(0, size, 4).tolist()
        shape = draw.ellipse if rng.integers(2) else draw.rectangle
        shape((x, y, x + width, y + height), fill=tuple(rng.integers(0, 255, 3).tolist()))
    return image


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    """The bytes of a picture in a format."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def clip_bytes(folder: Path, *, num_frames: int = 12, movflags: str = "") -> bytes:
    """An MP4 clip of drawings."""
    import av

    path = folder / "clip-source.mp4"
    with av.open(str(path), "w", format="mp4", options={"movflags": movflags} if movflags else {}) as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 96, 96, "yuv420p"
        for index in range(num_frames):
            for packet in stream.encode(av.VideoFrame.from_image(drawing(index))):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path.read_bytes()


def all_kinds(folder: Path) -> dict[str, bytes]:
    """A file of each kind, by its name."""
    image, others = drawing(1), [drawing(2), drawing(3)]
    return {
        "image.png": encoded(image, "PNG"),
        "image.jpg": encoded(image, "JPEG"),
        "image.webp": encoded(image, "WEBP"),
        "lossless.webp": encoded(image, "WEBP", lossless=True),
        "image.gif": encoded(image, "GIF"),
        "moving.gif": encoded(image, "GIF", save_all=True, append_images=others),
        "moving.webp": encoded(image, "WEBP", save_all=True, append_images=others, lossless=True),
        "clip.mp4": clip_bytes(folder),
        "streamed.mp4": clip_bytes(folder, movflags="faststart"),
        "tagged.mp4": clip_bytes(folder, movflags="use_metadata_tags"),
    }


@dataclass(frozen=True)
class Published:
    """What was handed out."""

    home: Home
    files: tuple[GeneratedFile, ...]

    @property
    def path(self) -> Path:
        """The first file."""
        return self.files[0].path


def publish_files(
    home: Home,
    folder: Path,
    files: dict[str, bytes],
    *,
    run_id: str = RUN,
    version: ModelVersion = VERSION,
    ingredient: Ingredient | None = None,
    watermark_ids: Mapping[str, str | None] | None = None,
) -> Published:
    """Hands out files as a run of generation does, some with an id in their pixels, and signs the ledger's head."""
    media = folder / f"media-{run_id[:8]}"
    media.mkdir(parents=True)
    for name, data in files.items():
        (media / name).write_bytes(data)
    ids = watermark_ids or {}
    listed = [{"file": name, "seed": seed, "watermark_id": ids.get(name)} for seed, name in enumerate(files)]
    (media / "media.json").write_text(json.dumps(listed))
    (media / "grid.png").write_bytes(encoded(drawing(0), "PNG"))
    out, keys = folder / "out", signing_keys(home)
    made = publish(home, version, media, out, run_id=run_id, prefix=run_id[:8], keys=keys, ingredient=ingredient)
    source = ingredient.sha256 if ingredient else None
    with home.database.unit_of_work() as uow:
        record_files(uow, version, made, run_id=run_id, condition=uow.commit_to("a red fox"), source_sha256=source)
    sign_checkpoint(home.database, home.keys)
    return Published(home, made.files)


def own_files(tmp_path):
    """Yields a home of the test's own, which it may harm, with two pictures handed out; for a fixture."""
    home = Home.open(Settings.load(tmp_path / "home"))
    pictures = {f"image-{seed}.png": encoded(drawing(seed), "PNG") for seed in (1, 2)}
    yield publish_files(home, tmp_path, pictures)
    home.database.close()


def outcomes(path, home, **options):
    """Returns what each check of a file came to, by name, and the verdict."""
    verdict = verify_content(path, home=home, **options).verdict
    return {check.name: check.outcome for check in verdict.checks}, verdict


def read_home(tmp_path_factory):
    """Yields a home on SQLite, for tests that only read it; for a fixture of a module."""
    home = Home.open(Settings.load(tmp_path_factory.mktemp("shared") / "home"))
    yield home
    home.database.close()


def one_of_each_kind(home, tmp_path_factory):
    """Returns one file of each kind, as handed out; for a fixture of a module."""
    folder = tmp_path_factory.mktemp("made")
    return publish_files(home, folder, all_kinds(folder))


def written(path, data):
    path.write_bytes(data)
    return path


def manifest_chunk(png):
    """The chunk of a PNG that holds its manifest store, and the rest of the file."""
    at = png.index(b"caBX") - 4
    end = at + 12 + int.from_bytes(png[at : at + 4], "big")
    return png[at:end], png[:at] + png[end:]
