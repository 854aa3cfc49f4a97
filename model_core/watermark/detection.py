"""Finds a watermark again, in media that may have been resized, cropped, turned a little or flipped.

A detector takes the picture off, looks up what the Fourier transform of the rest holds where the key's waves would be for each
placement (scale, angle, side), and correlates that with the key's phases over all shifts at once: one inverse FFT of a tile.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model_core.watermark.carriers import TILE, Carriers, draw_carriers
from model_core.watermark.frames import Frames, check_frames
from model_core.watermark.masking import Plane, luma_of, take_picture_off
from model_core.watermark.payload_code import decode_payload, encode_payload
from model_core.watermark.significance import false_positive_probability, wrong_payload_probability
from model_core.watermark.spectrum import (
    Placements,
    Spectrum,
    Values,
    all_placements,
    frequencies,
    likely_placements,
    near_placements,
)

DETECTION_LEVEL = 1e-3
"""The false-positive probability under which a mark counts as found."""
MAX_SIDE = 512
"""Of a larger picture the middle is looked at, in pixels."""
MAX_FRAMES = 64
"""Of a longer clip as many frames are looked at, evenly spaced."""
_SURE = 1e-9
_NUM_REFINEMENTS = 8
_FIRST_STEP = 2.0
"""How far the first step of a refinement moves the pixels at a picture's border, in pixels as marked, twice over."""
_AT_A_TIME = 64


@dataclass(frozen=True, kw_only=True)
class Detection:
    """What was found in pictures or clips.

    Attributes:
        score: Correlation with the key's pattern at the best placement, in standard deviations of what chance gives at one.
        false_positive_probability: How likely media without this key's mark would score so much at any placement.
        payload: The id of six bytes, None where the mark was not found or bears none that can be read.
        wrong_payload_probability: How likely noise alone would have given some id that fits as well; 1 without an id.
        scale: Size of the tile against 96 pixels: in pictures under 128 pixels a side the mark is put in at 0.625.
        angle_deg: Counter-clockwise turn of the picture, in degrees.
        flipped: Whether left and right are exchanged.
    """

    score: float
    false_positive_probability: float
    payload: bytes | None
    wrong_payload_probability: float
    scale: float
    angle_deg: float
    flipped: bool

    @property
    def detected(self) -> bool:
        """Whether the mark was found, at one false positive in a thousand."""
        return self.false_positive_probability < DETECTION_LEVEL


@dataclass(frozen=True, kw_only=True)
class _Match:
    """The best shift at one placement: its score, and the correlation of which that is the quotient by what chance gives.

    The score finds a mark; where it is clear it hardly changes with the placement any more, and the correlation finds the peak.
    """

    score: float
    correlation: float
    placement: npt.NDArray[np.float64]
    shift: tuple[int, int]


def detect(frames: Frames, key: bytes) -> Detection:
    """Looks for a key's watermark in a picture or in the mean of a clip's frames.

    Args:
        frames: RGB pixels, uint8 [frames height width 3]; a picture is a clip of one frame.
        key: The secret that marked pixels were marked with.

    Raises:
        BadDataError: Frames or key are not as described.
    """
    check_frames(frames)
    carriers = draw_carriers(key)
    spectrum = Spectrum(_rest_of(frames))
    num_placements = num_placements_of(spectrum.length)
    best = max(_match(spectrum, carriers, likely_placements()), key=lambda match: match.score)
    if false_positive_probability(best.score, num_placements) > _SURE:
        others = _match(spectrum, carriers, all_placements(spectrum.length))
        best = max([best, *others], key=lambda match: match.score)
    return _read(spectrum, carriers, best, false_positive_probability(best.score, num_placements))


def num_placements_of(length: int) -> int:
    """Returns how many placements are tried at most in media whose longer side has `length` pixels."""
    side = min(length, MAX_SIDE)
    return len(likely_placements()) + len(all_placements(side))


def _rest_of(frames: Frames) -> Plane:
    """Returns what is left of the middle of the frames without the picture, averaged over them, float32 [height width]."""
    top, left = (max(0, (size - MAX_SIDE) // 2) for size in frames.shape[1:3])
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), MAX_FRAMES)).round().astype(np.int64))
    middle = (slice(top, top + MAX_SIDE), slice(left, left + MAX_SIDE))
    total = sum(take_picture_off(luma_of(frames[at][middle])) for at in chosen)
    return np.asarray(total / np.float32(len(chosen)), dtype=np.float32)


def _match(spectrum: Spectrum, carriers: Carriers, placements: Placements) -> list[_Match]:
    """Correlates with the key's phases, at each placement over all shifts by whole pixels of the tile."""
    found = []
    for start in range(0, len(placements), _AT_A_TIME):
        some = placements[start : start + _AT_A_TIME]
        level = _level(spectrum.sample(frequencies(some, carriers.index)))
        correlations = _correlate(level * np.exp(-1j * carriers.phase), carriers).reshape(len(some), -1)
        shifts, deviations = correlations.argmax(axis=1), _deviation(level)
        for placement, shift, deviation, surface in zip(some, shifts, deviations, correlations, strict=True):
            correlation = float(surface[shift])
            down, across = divmod(int(shift), TILE)
            found.append(
                _Match(score=correlation / float(deviation), correlation=correlation, placement=placement, shift=(down, across))
            )
    return found


def _correlate(values: Values, carriers: Carriers) -> npt.NDArray[np.float32]:
    """Returns ``sum Re(value exp(2 pi i index . shift / TILE))`` at each shift, float32 [placements TILE TILE]."""
    down, across = carriers.index.T
    rows = np.zeros((len(values), int(down.max()) + 1, TILE), dtype=np.complex64)
    rows[:, down, across] = values
    # A transform to real numbers counts every wave but those of row 0 with its opposite one.
    rows[:, 0] *= 2
    waves = np.fft.ifft(rows, axis=2, norm="forward")
    return np.asarray(np.fft.irfft(waves, n=TILE, axis=1, norm="forward") / 2)


def _level(values: Values) -> Values:
    """Returns values of half their loudness: carriers that the picture drowns count less beside others, yet noise not as much."""
    size = np.abs(values)
    return np.asarray(values / np.sqrt(np.maximum(size, 1e-12)))


def _deviation(values: Values) -> npt.NDArray[np.float64]:
    """Returns the standard deviation of ``sum |values| cos(phase)`` for uniform phases, float64 [...]."""
    return np.asarray(np.maximum(np.sqrt(np.sum(np.abs(values) ** 2, axis=-1) / 2), 1e-12))


def _refine(spectrum: Spectrum, carriers: Carriers, match: _Match) -> _Match:
    """Returns a match nearby with the highest correlation: climbs in scale and angle, by ever smaller steps."""
    step = _FIRST_STEP * float(match.placement[0]) / spectrum.length
    for _ in range(_NUM_REFINEMENTS):
        near = max(_match(spectrum, carriers, near_placements(match.placement, step)), key=lambda found: found.correlation)
        if near.correlation > match.correlation:
            match = near
        else:
            step /= 2
    return match


def _read(spectrum: Spectrum, carriers: Carriers, match: _Match, probability: float) -> Detection:
    """Returns what a mark near a match says.

    Where it lies is refined for its id alone, the shift to a quarter of a pixel: the score and its probability stay those of
    the placements and shifts that were fixed before the picture was seen.
    """
    placement, payload, wrong = match.placement, None, 1.0
    if probability < DETECTION_LEVEL:
        refined = _refine(spectrum, carriers, match)
        placement = refined.placement
        level = _level(spectrum.compute(frequencies(placement[None], carriers.index)[0]))
        parts = np.arange(-0.75, 0.76, 0.25)
        shifts = np.stack(np.meshgrid(refined.shift[0] + parts, refined.shift[1] + parts), axis=-1).reshape(-1, 2)
        turned = level * np.exp(2j * np.pi / TILE * (shifts @ carriers.index.T) - 1j * carriers.phase)
        received = turned[turned.real.sum(axis=1).argmax()].imag / _deviation(level)
        payload = decode_payload(received)
        if payload is not None:
            wrong = wrong_payload_probability(float(received @ encode_payload(payload, len(received))))
    scale, angle, side = (float(value) for value in placement)
    return Detection(
        score=match.score,
        false_positive_probability=probability,
        payload=payload,
        wrong_payload_probability=wrong,
        scale=scale,
        angle_deg=float(np.degrees(angle)),
        flipped=side < 0,
    )
