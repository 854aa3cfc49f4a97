"""The first frame of a clip as a picture of its own, with credentials and a record that lead to the clip."""

import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import select

from governance import lineage
from governance.canonical import canonical_text
from governance.credentials.ingredient import Ingredient
from governance.errors import BadRecordError, IntegrityError
from infra.content_keys import signing_keys
from infra.content_verification import verify_content
from infra.home import Home
from infra.ledger import sign_head
from infra.lineage import record_event
from infra.media_reading import read_file
from infra.model_versions import find_version
from infra.source_digest import lock_digest, source_digest
from infra.source_revision import source_revision
from infra.tables import assets
from pipelines.publishing import GeneratedFile, publish, record_files
from pipelines.recorded import recorded_run

PIPELINE = "poster"


@dataclass(frozen=True, kw_only=True)
class Poster:
    """A poster: the file, and the run that made it."""

    file: GeneratedFile
    run_id: str


def make_poster(home: Home, clip: Path, out: Path, *, actor: str) -> Poster:
    """Writes the first frame of a clip that was made here as PNG.

    Args:
        home: The home.
        clip: The clip, as it was handed out.
        out: The folder to write to.
        actor: The identity that asks.

    Raises:
        BadRecordError: It is no clip, or is not on record here byte for byte.
        IntegrityError: Something in it does not hold, or the poster cannot be signed.
    """
    verdict = verify_content(clip, home=home).verdict
    if not verdict.ok:
        raise IntegrityError(f"{clip} does not verify, so no poster is made of it", hint="see `groundswell content verify`")
    source = read_file(clip)
    with home.database.read() as connection:
        row = connection.execute(select(assets).where(assets.c.sha256 == source.sha256)).mappings().first()
    if row is None:
        raise BadRecordError(f"{clip} is not on record here byte for byte", hint="give the clip as it was handed out")
    version = find_version(home.database, f"{row['model_name']}/{row['model_version']}")
    keys = signing_keys(home)
    params = {"model": f"{version.name}/{version.version}"}
    with (
        recorded_run(
            home, pipeline=PIPELINE, runner="in-process", params=params, actor=actor, inputs=[f"media:{source.sha256}"]
        ) as run,
        TemporaryDirectory() as folder,
    ):
        _write_first_frame(Path(folder), source.data, name=str(clip), seed=row["seed"], watermark_id=row["watermark_id"])
        ingredient = Ingredient(sha256=source.sha256, media_type=source.kind.mime_type, data=source.data)
        made = publish(
            home, version, Path(folder), out, run_id=run.run_id, prefix=run.run_id[:8], keys=keys, ingredient=ingredient
        )
        code: dict[str, Any] = {
            "environment": {"lock_digest": lock_digest()},
            "code_digest": source_digest("pipelines.poster"),
            "revision": source_revision(),
        }
        (file,) = made.files
        with home.database.unit_of_work() as uow:
            condition = uow.commit_to(canonical_text({"poster_of": source.sha256}))
            record_files(uow, version, made, run_id=run.run_id, condition=condition, source_sha256=source.sha256, actor=actor)
            event = lineage.run_event(
                "COMPLETE",
                lineage.StepIdentity(run_id=run.run_id, pipeline=PIPELINE, step="publish_media"),
                time=uow.time,
                inputs=[lineage.ArtifactRef(kind="media", digest=source.sha256)],
                outputs=[lineage.ArtifactRef(kind="media", digest=file.sha256)],
                **code,
            )
            record_event(uow, event)
            sign_head(uow, home.keys)
    return Poster(file=file, run_id=run.run_id)


def _write_first_frame(folder: Path, data: bytes, *, name: str, seed: str, watermark_id: str | None) -> None:
    """Writes what a step that makes media writes: the file, what it is, and a picture to look at."""
    from model_core.data.given_media import read_frames
    from model_core.data.media import encode_png

    png = encode_png(read_frames(data, name=name)[0])
    (folder / "poster.png").write_bytes(png)
    (folder / "grid.png").write_bytes(png)
    item = {"file": "poster.png", "seed": seed, "watermark_id": watermark_id}
    (folder / "media.json").write_text(json.dumps([item]), encoding="utf-8")
