"""Hands out what a run generated: each file with its credentials, before its digest goes on record."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from governance.credentials.claim import Claim, PromotedBy
from governance.credentials.ingredient import Ingredient
from governance.ledger import SYSTEM, format_time
from infra.content_credentials import ContentSigner
from infra.content_keys import ContentKeys
from infra.database import UnitOfWork
from infra.home import Home
from infra.media_reading import Pixels, read_file, read_pixels
from infra.model_versions import ModelVersion
from infra.promotion.standing import standing_of
from infra.tables import assets


@dataclass(frozen=True, kw_only=True)
class GeneratedFile:
    """One file as it was handed out.

    Attributes:
        path: Where it is.
        sha256: SHA-256 of its bytes, which hold a signature and so are others each time.
        seed: What it was made from; the same seed gives the same pixels.
        pixels_sha256: The digest of its pixels, see `infra.media_reading`.
        fingerprint: How it looks, see `governance.credentials.fingerprint`.
        watermark_id: The id in its pixels, in hex; None where they bear none.
    """

    path: Path
    sha256: str
    seed: str
    pixels_sha256: str
    fingerprint: str
    watermark_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Publication:
    """What a run handed out.

    Attributes:
        files: The files, in the order of the request.
        promotions: Why the model's version was a champion meanwhile; it stands in every file.
    """

    files: tuple[GeneratedFile, ...]
    promotions: tuple[PromotedBy, ...]


def publish(
    home: Home,
    version: ModelVersion,
    media: Path,
    out: Path,
    *,
    run_id: str,
    prefix: str,
    keys: ContentKeys,
    ingredient: Ingredient | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Publication:
    """Writes what a run generated to a folder, each file with its label and its signed manifest.

    Args:
        home: The home.
        version: The model's version.
        media: The step's output: files, media.json, and grid.png, which is for looking at and has no credentials.
        out: The folder to write to.
        run_id: The run.
        prefix: What the files' names begin with.
        keys: What to sign with.
        ingredient: The file that they were made from; None for what the model made from nothing.
        clock: Says when the files are made.

    Raises:
        BadRecordError: A file of the step is no picture or clip.
        BadSettingError: The folder cannot be written.
        IntegrityError: A file cannot be signed.
    """
    out.mkdir(parents=True, exist_ok=True)
    with home.database.read() as connection:
        promotions = standing_of(
            connection,
            name=version.name,
            version=version.version,
            root_digest=version.root_digest,
            now=format_time(clock()),
        )
    signer = ContentSigner(keys, producer=home.settings.content_producer, clock=clock)
    files = []
    for position, item in enumerate(json.loads((media / "media.json").read_text(encoding="utf-8"))):
        source = media / item["file"]
        pixels = _pixels(source)
        claim = Claim(
            run_id=run_id,
            position=position,
            model_name=version.name,
            model_version=version.version,
            root_digest=version.root_digest,
            pixels_sha256=pixels.sha256,
            promotions=promotions,
            source_sha256=ingredient.sha256 if ingredient else None,
        )
        target = (out / f"{prefix}-{item['file']}").absolute()
        signed = signer.sign_file(source, target, claim, ingredient=ingredient)
        files.append(
            GeneratedFile(
                path=signed.path,
                sha256=signed.sha256,
                seed=str(item["seed"]),
                pixels_sha256=pixels.sha256,
                fingerprint=pixels.fingerprint,
                watermark_id=item.get("watermark_id"),
            )
        )
    shutil.copyfile(media / "grid.png", out / f"{prefix}-grid.png")
    return Publication(files=tuple(files), promotions=promotions)


def record_files(
    uow: UnitOfWork,
    version: ModelVersion,
    made: Publication,
    *,
    run_id: str,
    condition: str,
    source_sha256: str | None = None,
    actor: str = SYSTEM,
) -> None:
    """Records each file that a run handed out: its row, and the entry that says the same.

    Args:
        uow: An open unit of work.
        version: The model's version.
        made: What was handed out.
        run_id: The run.
        condition: The commitment to what was asked for.
        source_sha256: SHA-256 of the file that they were made from.
        actor: Who asked.
    """
    for position, file in enumerate(made.files):
        values = {
            "condition_commitment": condition,
            "created": uow.time,
            "file_name": file.path.name,
            "fingerprint": file.fingerprint,
            "pixels_sha256": file.pixels_sha256,
            "position": position,
            "root_digest": version.root_digest,
            "seed": file.seed,
            "watermark_id": file.watermark_id,
            **({"source_sha256": source_sha256} if source_sha256 else {}),
        }
        row = {**values, "model_name": version.name, "model_version": version.version}
        uow.connection.execute(assets.insert().values(**row, sha256=file.sha256, run_id=run_id))
        details = {
            **values,
            "model": f"{version.name}/{version.version}",
            "promotions": [one.promotion_id for one in made.promotions],
        }
        uow.append("asset.generated", f"media:{file.sha256}", details, actor=actor, run_id=run_id)


def _pixels(source: Path) -> Pixels:
    file = read_file(source)
    return read_pixels(file.kind, file.data, name=source)
