"""Does a clip show what a text says? The caption probe of an evaluation, fitted on the data that a model learnt from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int, UInt8

from components.evaluate.looks import Look, Seen
from infra.model_versions import find_version, open_version
from infra.recorded_datasets import find_folder, recorded_datasets
from model_core.conditioning.text import MiniLMEncoder
from model_core.data.dataset import Dataset
from model_core.errors import BadDataError
from model_core.evaluation.features import FeatureExtractor, open_extractor
from model_core.evaluation.reference_cache import ReferenceCache, ReferenceKey, cached_features, rows_digest
from model_core.evaluation.retrieval import RetrievalProbe, train_retrieval

if TYPE_CHECKING:
    from infra.home import Home

_INPUT_SIZE = 64
_MAX_ROWS = 400
_BATCH = 8
_CACHE = "uses"


@dataclass(frozen=True, kw_only=True)
class CaptionProbe:
    """What judges whether clips show what texts say.

    Attributes:
        probe: Maps what is seen to captions.
        extractor: Features of frames.
        captions: The training captions that it was fitted on.
        text: Their embeddings.
        shape: Frames, height and width of the clips that it knows.
    """

    probe: RetrievalProbe
    extractor: FeatureExtractor
    captions: tuple[str, ...]
    text: Float[np.ndarray, "n text"]
    shape: tuple[int, int, int]

    def found(self, clips: UInt8[np.ndarray, "n frames height width 3"], texts: Sequence[str]) -> Int[np.ndarray, " n"]:
        """Returns for each text which of the clips it finds."""
        return np.asarray(self.probe.similarity(self._described(clips), _embed(texts)).argmax(axis=1))

    def subjects(self, clips: UInt8[np.ndarray, "n frames height width 3"], names: Sequence[str]) -> list[str]:
        """Returns what each clip shows, as one of some names: the one whose training captions it is nearest to, on average.

        Raises:
            BadDataError: No training caption has one of the names.
        """
        means = []
        for name in names:
            chosen = [place for place, caption in enumerate(self.captions) if name in caption]
            if not chosen:
                raise BadDataError(f"the model has learnt from no caption with {name!r}", hint="name what its data show")
            means.append(self.text[chosen].mean(axis=0))
        best = self.probe.similarity(self._described(clips), np.stack(means)).argmax(axis=0)
        return [names[place] for place in best]

    def _described(self, clips: np.ndarray) -> np.ndarray:
        if clips.shape[1:4] != self.shape:
            seen, known = ("x".join(map(str, shape)) for shape in (clips.shape[1:4], self.shape))
            raise BadDataError(f"clips are {seen} (frames, height, width), and the model's data {known}")
        look = Look.of(clips)
        features = self.extractor.extract(look.frames, batch_size=_BATCH)
        return _described(look, features.reshape(len(clips), -1, features.shape[-1]))


def caption_probe(home: "Home", model: str) -> CaptionProbe:
    """Fits the probe on up to 400 training clips of the data that a model learnt from; features of them are kept in the home.

    Raises:
        BadDataError: The data are gone from the home or were changed, or have no captions.
        UnknownSubjectError: There is no such model version.
        IntegrityError: The package is not what was registered.
    """
    version = find_version(home.database, model)
    digest = str(open_version(version, home.package_keys, home.package_cache).config["dataset_digest"])
    with home.database.read() as connection:
        known = recorded_datasets(connection, [digest])
    folder = find_folder(known[0], datasets=home.datasets) if known else None
    if folder is None:
        raise BadDataError(
            f"the data that {model} learnt from are not here: dataset {digest[:12]}",
            hint="import them again, with the same options",
        )
    dataset = Dataset.open(folder)
    rows = [row for row in dataset.rows("train") if dataset.columns["caption"][row]]
    if len(rows) < 2:
        raise BadDataError(f"the data that {model} learnt from have no captions", hint="take a model that learnt from captions")
    if len(rows) > _MAX_ROWS:
        rows = sorted(int(row) for row in np.random.default_rng(0).choice(rows, size=_MAX_ROWS, replace=False))
    cache = home.path / "cache" / _CACHE
    extractor = open_extractor(cache / "weights", input_size=_INPUT_SIZE)
    look = Look.of_rows(dataset, rows)
    features = cached_features(
        ReferenceCache(cache / "references"),
        ReferenceKey(
            dataset=digest,
            extractor=extractor.digest,
            input_size=_INPUT_SIZE,
            split="train",
            rows=rows_digest(rows),
            count=len(look.frames),
        ),
        measure=lambda chosen: extractor.extract(look.frames[chosen], batch_size=_BATCH),
        batch_size=_BATCH,
    )
    captions = tuple(str(dataset.columns["caption"][row]) for row in rows)
    text = _embed(captions)
    return CaptionProbe(
        probe=train_retrieval(_described(look, features.reshape(len(rows), -1, features.shape[-1])), text),
        extractor=extractor,
        captions=captions,
        text=text,
        shape=(dataset.info.num_frames, dataset.info.image_size, dataset.info.image_size),
    )


def _described(look: Look, features: np.ndarray) -> np.ndarray:
    """Returns one vector an item; pictures do not move."""
    moved = look.moved if look.moved is not None else np.zeros((len(features), 0, 2))
    return Seen(features=features, moved=moved, flicker=look.flicker, captions=(), text=np.zeros((0, 0))).described()


def _embed(texts: Sequence[str]) -> np.ndarray:
    found: np.ndarray = MiniLMEncoder().encode(list(texts)).numpy()
    return found
