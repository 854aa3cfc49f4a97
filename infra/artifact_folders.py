"""Finds what runs have made, by digest, and verifies it before it is used."""

from pathlib import Path

from sqlalchemy import select

from governance.digest import tree_digest
from governance.errors import IntegrityError
from infra.home import Home
from infra.tables import artifacts

_PARTS_IN_WORK = 3  # fingerprint, outputs, name


def find_artifact(home: Home, kind: str, digest: str) -> Path | None:
    """Returns the folder of an artifact, verified; None where this home has none, or no longer.

    Args:
        home: The home.
        kind: Its kind, such as ``evaluation``; packages have a digest of their own and are opened by `infra.model_versions`.
        digest: The digest on record.

    Raises:
        IntegrityError: There is a folder, but it is not what was recorded.
    """
    key = (artifacts.c.digest == digest) & (artifacts.c.kind == kind)
    with home.database.read() as connection:
        location = connection.execute(select(artifacts.c.location).where(key)).scalar()
    if location is None:
        return None
    folder = folder_of(home, location)
    if folder is not None and tree_digest(folder) != digest:
        raise IntegrityError(
            f"the {kind} folder {folder} is not what was recorded: its digest is not {digest[:12]}",
            hint="run the pipeline again; what was changed is made anew",
        )
    return folder


def folder_of(home: Home, location: str) -> Path | None:
    """Returns the folder of an output that was recorded at a place, not verified; None where there is none.

    The home may have been moved since, or be mounted elsewhere where the output was made.
    """
    recorded = Path(location)
    in_work = home.work.joinpath(*recorded.parts[-_PARTS_IN_WORK:])
    return next((one for one in (in_work, recorded) if one.is_dir()), None)
