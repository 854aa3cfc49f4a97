import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from model_core.conditioning.bert import load_bert
from model_core.conditioning.text import MiniLMEncoder, mean_pool
from model_core.errors import BadModelError

TEXTS = ["flag of France", "flag of Germany", "a grinning face with big eyes", "", "naïve 日本 🙂", "word " * 400]


@pytest.fixture(scope="module")
def encoder() -> MiniLMEncoder:
    return MiniLMEncoder()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_embeddings_have_unit_length(encoder: MiniLMEncoder) -> None:
    vectors = encoder.encode(TEXTS)
    assert vectors.shape == (len(TEXTS), encoder.dim) == (6, 384)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(6))


def test_related_sentences_are_closer(encoder: MiniLMEncoder) -> None:
    france, germany, face = encoder.encode(TEXTS[:3])
    assert france @ germany > 0.6 > 0.3 > france @ face


def test_a_text_s_embedding_does_not_depend_on_its_neighbours(encoder: MiniLMEncoder) -> None:
    together = encoder.encode([*TEXTS[:3], "a much longer text that makes the others be padded out to its own length"])
    torch.testing.assert_close(together[:1], encoder.encode(TEXTS[:1]), atol=1e-5, rtol=0)


def test_a_texts_tokens_average_to_its_embedding(encoder: MiniLMEncoder) -> None:
    tokens = encoder.encode_tokens(TEXTS)
    assert [len(states) for states in tokens][3:] == [2, 6, 256]  # of the empty text what marks beginning and end
    means = torch.stack([torch.nn.functional.normalize(states.mean(dim=0), dim=0) for states in tokens])
    torch.testing.assert_close(means, encoder.encode(TEXTS), atol=1e-5, rtol=0)


def test_no_text_gives_no_vector(encoder: MiniLMEncoder) -> None:
    assert encoder.encode([]).shape == (0, 384)


def test_token_states_are_those_of_transformers(encoder: MiniLMEncoder) -> None:
    from transformers import logging
    from transformers.models.bert.modeling_bert import BertModel

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    reference = BertModel.from_pretrained(str(encoder.folder), local_files_only=True, add_pooling_layer=False).eval()
    ids = torch.tensor([[101, 5210, 1997, 2605, 102], [101, 2227, 102, 0, 0]])
    mask = (ids > 0).long()
    with torch.no_grad():
        expected = reference(input_ids=ids, attention_mask=mask).last_hidden_state
        found = load_bert(encoder.folder)(ids, mask)
    torch.testing.assert_close(found[mask.bool()], expected[mask.bool()], atol=2e-5, rtol=1e-4)


def test_the_digest_covers_the_files(encoder: MiniLMEncoder, tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (tmp_path / name).write_bytes((encoder.folder / name).read_bytes())
    assert MiniLMEncoder(tmp_path).digest == encoder.digest
    (tmp_path / "tokenizer.json").write_bytes(b"{}")
    assert MiniLMEncoder(tmp_path).digest != encoder.digest


def test_missing_or_damaged_files_are_named(encoder: MiniLMEncoder, tmp_path: Path) -> None:
    with pytest.raises(BadModelError, match=r"config\.json"):
        MiniLMEncoder(tmp_path).encode(["x"])
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BadModelError, match="model_type"):
        load_bert(tmp_path)
    (tmp_path / "config.json").write_bytes((encoder.folder / "config.json").read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(BadModelError, match="cannot be loaded"):
        load_bert(tmp_path)


def test_the_mean_leaves_padding_out() -> None:
    states = torch.tensor([[[1.0], [3.0], [100.0]]])
    assert mean_pool(states, torch.tensor([[1, 1, 0]])).tolist() == [[2.0]]


def test_encoding_imports_no_transformers() -> None:
    use = "from model_core.conditioning.text import MiniLMEncoder; MiniLMEncoder().encode(['x'])"
    code = f"import sys; {use}; print('transformers' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
