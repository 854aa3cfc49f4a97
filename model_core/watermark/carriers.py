"""The waves that a watermark is made of, as a secret key draws them.

The mark is one square tile laid side by side over the whole picture: a sum of plane waves (*carriers*), each a whole number of
periods a tile, in a band that survives compression and halving. Only their phases are secret. A tile that repeats is a lattice of
points in the Fourier plane: a crop turns their phases, a resize moves them all together (periodic marks against geometry:
Kutter 1998, "Watermarking resisting to translation, rotation, and scaling").
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model_core.errors import BadDataError
from model_core.watermark.payload_code import PAYLOAD_BYTES, encode_payload

TILE = 96
"""Width and height of the tile, in pixels of the picture as it is marked."""
SMALL_TILE = 60
"""The same in small pictures: their waves are shorter, so that enough of them fit in."""
SMALL_SIDE = 128
"""Pictures with a side under this are small."""
SHORTEST_WAVE = 7.0
LONGEST_WAVE = 20.0
"""The band of wavelengths in a tile of 96 pixels, in pixels."""
MIN_KEY_BYTES = 16
SYNC_SHARE = 0.6
"""Share of a carrier's power by which the mark is found; the rest bears the payload, a quarter of a period apart."""

_DOMAIN = b"groundswell watermark 1\0"


@dataclass(frozen=True, kw_only=True, eq=False)
class Carriers:
    """The waves of one key.

    Attributes:
        index: Whole periods of each wave in a tile, int [carriers 2], down and across; one of each pair of opposite waves.
        phase: Phase of each wave in radians, float64 [carriers], uniform and independent to who does not know the key.
    """

    index: npt.NDArray[np.int64]
    phase: npt.NDArray[np.float64]


def tile_size(height: int, width: int) -> int:
    """Returns the size of the tile that a picture is marked with, in pixels."""
    return SMALL_TILE if min(height, width) < SMALL_SIDE else TILE


def draw_carriers(key: bytes) -> Carriers:
    """Draws the phases of a key's waves, by SHAKE-256 of the key.

    Raises:
        BadDataError: The key is shorter than 16 bytes.
    """
    if len(key) < MIN_KEY_BYTES:
        hint = "draw it with secrets.token_bytes(32)"
        raise BadDataError(f"a watermark's key has at least {MIN_KEY_BYTES} bytes, not {len(key)}", hint=hint)
    reach = int(TILE / SHORTEST_WAVE)
    down, across = np.mgrid[0 : reach + 1, -reach : reach + 1]
    radius = np.hypot(down, across)
    in_band = (radius >= TILE / LONGEST_WAVE) & (radius <= TILE / SHORTEST_WAVE)
    kept = in_band & ((down > 0) | (across > 0))
    index = np.stack([down[kept], across[kept]], axis=1)
    drawn = np.frombuffer(hashlib.shake_256(_DOMAIN + key).digest(8 * len(index)), dtype="<u8")
    return Carriers(index=index, phase=drawn * (2 * np.pi / 2.0**64))


def modulate(carriers: Carriers, payload: bytes | None) -> npt.NDArray[np.complex128]:
    """Returns the complex amplitudes of a key's waves that bear a payload, of modulus 1, complex [carriers].

    Raises:
        BadDataError: The payload has not six bytes.
    """
    amplitude = np.exp(1j * carriers.phase)
    if payload is None:
        return np.asarray(amplitude)
    if len(payload) != PAYLOAD_BYTES:
        hint = "mark with a short id and keep what it stands for in a record"
        raise BadDataError(f"a watermark's payload has {PAYLOAD_BYTES} bytes, not {len(payload)}", hint=hint)
    signs = encode_payload(payload, len(amplitude))
    return np.asarray(amplitude * (np.sqrt(SYNC_SHARE) + 1j * np.sqrt(1 - SYNC_SHARE) * signs))


def lay_tiles(carriers: Carriers, amplitude: npt.NDArray[np.complex128], height: int, width: int) -> npt.NDArray[np.float32]:
    """Returns the sum of the waves over a picture, float32 [height width], of unit power."""
    tile = tile_size(height, width)
    spectrum = np.zeros((tile, tile), dtype=np.complex128)
    spectrum[carriers.index[:, 0], carriers.index[:, 1]] = amplitude
    waves = np.fft.ifft2(spectrum, norm="forward").real / np.sqrt(len(amplitude) / 2)
    pattern = np.tile(waves, (-(-height // tile), -(-width // tile)))[:height, :width]
    # Little of a tile fits into a tiny picture, and what does may be nearly nothing.
    return np.asarray(pattern / max(float(np.sqrt(np.mean(pattern**2))), 0.25), dtype=np.float32)
