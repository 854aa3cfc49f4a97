"""The picture or clip that others are made from: read once, within bounds, and made what the model makes.

Nothing of it stays but its digest: the step reads its frames in the folder of the request, which goes when the step ends.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.generate_media.formats import DEFAULT_FPS
from governance import lineage
from governance.credentials.ingredient import Ingredient
from governance.model_records import frames_of
from infra.media_reading import read_bytes
from model_core.data.given_media import Shape, fit_media, media_type_of
from model_core.errors import BadDataError

if TYPE_CHECKING:
    from infra.database import UnitOfWork
    from model_core.data.media import Pixels

STEP = "read_source"
_FILE_NAME = "source.npy"


@dataclass(frozen=True, kw_only=True)
class SourceMedia:
    """A file to make others from.

    Attributes:
        ingredient: Its bytes and their digest.
        frames: What is seen of it, as the model makes it: uint8 [frames size size 3].
    """

    ingredient: Ingredient
    frames: "Pixels"

    @property
    def sha256(self) -> str:
        """SHA-256 of the file."""
        return self.ingredient.sha256

    @property
    def subject(self) -> str:
        """Its name in ledger and lineage: that of a file that was made here, if it is one."""
        return f"media:{self.sha256}"

    def write_to(self, request: Path) -> None:
        """Writes the frames to the folder of a request."""
        import numpy as np

        np.save(request / _FILE_NAME, self.frames, allow_pickle=False)

    def event(self, uow: "UnitOfWork", *, run_id: str, pipeline: str, request: str, **code: Any) -> lineage.Event:
        """Returns the lineage event that leads from the file to the request that it became a part of.

        Args:
            uow: An open unit of work.
            run_id: The run.
            pipeline: The run's pipeline.
            request: The digest of the request's folder.
            **code: What else an event says of the code that ran.
        """
        return lineage.run_event(
            "COMPLETE",
            lineage.StepIdentity(run_id=run_id, pipeline=pipeline, step=STEP),
            time=uow.time,
            inputs=[lineage.ArtifactRef(kind="media", digest=self.sha256)],
            outputs=[lineage.ArtifactRef(kind="request", digest=request)],
            **code,
        )


def read_source(path: Path, config: Mapping[str, Any], *, num_frames: int | None, num_last: int | None) -> SourceMedia:
    """Reads a picture or clip to make others from.

    Args:
        path: The file.
        config: The model's configuration.
        num_frames: Frames of what is made; the model's own number if not given.
        num_last: Take so many from the clip's end; from its beginning if not given.

    Raises:
        BadRecordError: It is missing, no regular file, too large, or of no known kind.
        BadDataError: It is damaged, cut short, too large, changes its size, or does not fit the model.
    """
    data = read_bytes(path, is_known=lambda head: media_type_of(head) is not None)
    frames = num_frames or frames_of(config)
    if num_last is not None and not num_last < frames:
        raise BadDataError(
            f"{num_last} frames of the clip leave none to be made of {frames}", hint=f"go on from {frames - 1} frames at most"
        )
    shape = Shape(size=int(config["image_size"]), num_frames=frames, fps=float(config.get("fps") or DEFAULT_FPS))
    fitted = fit_media(data, shape, name=str(path), num_last=num_last)
    sha256 = hashlib.sha256(data).hexdigest()
    ingredient = Ingredient(sha256=sha256, media_type=media_type_of(data[:16]) or "", data=data)
    return SourceMedia(ingredient=ingredient, frames=fitted)
