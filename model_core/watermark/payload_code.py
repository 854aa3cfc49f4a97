"""Ids as bits that survive errors: a CRC, a convolutional code, and Viterbi's decoder for what was received.

The code has rate 1/3 and memory 8 (generators 557, 663, 711 octal, free distance 18: Larsen 1973), starts and ends in the zero
state; its 240 signs are borne by as many carriers or more.
"""

import numpy as np
import numpy.typing as npt

PAYLOAD_BYTES = 6
CRC_BITS = 24
_GENERATORS = (0o557, 0o663, 0o711)
_MEMORY = 8
_STATES = 1 << _MEMORY
_CRC_POLYNOMIAL = 0x1864CFB
_GOLDEN = 0.6180339887498949

_NUM_BITS = 8 * PAYLOAD_BYTES + CRC_BITS
_NUM_STEPS = _NUM_BITS + _MEMORY


def crc24(data: bytes) -> int:
    """Returns the CRC-24 of RFC 9580, section 6.1.1."""
    value = 0xB704CE
    for byte in data:
        value ^= byte << 16
        for _ in range(8):
            value = (value << 1) ^ (_CRC_POLYNOMIAL if value & 0x800000 else 0)
    return value & 0xFFFFFF


def _outputs() -> npt.NDArray[np.float64]:
    """Returns the three signs sent when a bit enters at a state, float [states 2 3]."""
    register = np.arange(_STATES)[:, None] | (np.arange(2)[None] << _MEMORY)
    bits = [np.bitwise_count(register & generator) & 1 for generator in _GENERATORS]
    return 1.0 - 2.0 * np.stack(bits, axis=-1).astype(np.float64)


_OUTPUTS = _outputs()
_STATE = np.arange(_STATES)
_INPUT = _STATE >> (_MEMORY - 1)
_BEFORE = np.stack([(_STATE << 1) & (_STATES - 1), ((_STATE << 1) & (_STATES - 1)) | 1])


def _bearing(num_signs: int) -> npt.NDArray[np.int64]:
    """Returns which sign of the code each carrier bears, neighbours far from each other, int [num_signs]."""
    return np.asarray(np.argsort(np.arange(num_signs) * _GOLDEN % 1.0, kind="stable") % (3 * _NUM_STEPS))


def encode_payload(payload: bytes, num_signs: int) -> npt.NDArray[np.float64]:
    """Returns a payload of six bytes as signs, +1 and -1, float [num_signs]."""
    word = payload + crc24(payload).to_bytes(CRC_BITS // 8, "big")
    bits = np.concatenate([np.unpackbits(np.frombuffer(word, dtype=np.uint8)), np.zeros(_MEMORY, dtype=np.uint8)])
    state, signs = 0, []
    for bit in bits:
        signs.append(_OUTPUTS[state, bit])
        state = (state | (int(bit) << _MEMORY)) >> 1
    return np.concatenate(signs)[_bearing(num_signs)]


def decode_payload(soft: npt.NDArray[np.float64]) -> bytes | None:
    """Returns the payload whose signs agree best with what was received, or None where its CRC is wrong.

    Args:
        soft: Received signs, each weighted by how sure it is, float [num_signs].
    """
    received = np.zeros(3 * _NUM_STEPS)
    np.add.at(received, _bearing(len(soft)), soft)
    metric = np.full(_STATES, -np.inf)
    metric[0] = 0.0
    choices = np.empty((_NUM_STEPS, _STATES), dtype=np.int64)
    for step, signs in enumerate(received.reshape(_NUM_STEPS, 3)):
        gain = _OUTPUTS @ signs
        reached = metric[_BEFORE] + gain[_BEFORE, _INPUT]
        choices[step] = reached.argmax(axis=0)
        metric = reached.max(axis=0)
    state, bits = 0, np.empty(_NUM_STEPS, dtype=np.uint8)
    for step in range(_NUM_STEPS - 1, -1, -1):
        bits[step] = _INPUT[state]
        state = _BEFORE[choices[step, state], state]
    word = np.packbits(bits[:_NUM_BITS]).tobytes()
    payload = word[:PAYLOAD_BYTES]
    return payload if word[PAYLOAD_BYTES:] == crc24(payload).to_bytes(CRC_BITS // 8, "big") else None
