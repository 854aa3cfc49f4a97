import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from model_core.watermark.payload_code import crc24, decode_payload, encode_payload

NUM_SIGNS = 262


def test_the_crc_is_that_of_openpgp() -> None:
    assert crc24(b"123456789") == 0x21CF02


@settings(max_examples=20, deadline=None)
@given(payload=st.binary(min_size=6, max_size=6), num_signs=st.integers(240, 600))
def test_decoding_undoes_encoding(payload: bytes, num_signs: int) -> None:
    assert decode_payload(encode_payload(payload, num_signs)) == payload


def test_ids_outlive_noise_and_lost_carriers() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        payload = generator.bytes(6)
        received = encode_payload(payload, NUM_SIGNS) + generator.normal(0, 0.8, NUM_SIGNS)
        received[generator.choice(NUM_SIGNS, 40, replace=False)] = 0
        assert decode_payload(received) == payload


def test_noise_is_no_id() -> None:
    generator = np.random.default_rng(0)
    assert not any(decode_payload(generator.normal(size=NUM_SIGNS)) for _ in range(100))


def test_an_id_that_noise_has_changed_is_not_read_as_another() -> None:
    generator = np.random.default_rng(1)
    found = [decode_payload(encode_payload(b"secret", NUM_SIGNS) + generator.normal(0, 1.6, NUM_SIGNS)) for _ in range(100)]
    assert set(found) <= {b"secret", None}
    assert None in found
