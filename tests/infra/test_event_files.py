"""Files of events as a stream: the same events wherever a part of it ends, one clear refusal for whatever is no event."""

import hashlib
import io
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from governance.errors import BadRecordError
from infra import event_files
from infra.event_files import EventReader
from tests.foreign_events import dataset, foreign_event

EVENTS = [foreign_event(n, inputs=[dataset(f'naïve {n} 🌊 " \\ {{[,]}}')]) for n in range(4)]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def read(data: bytes) -> list[tuple[int, Any]]:
    return [(one.line, one.event) for one in EventReader(io.BytesIO(data), "file").events()]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.integers(1, 400), indent=st.sampled_from([None, 0, 2]), as_array=st.booleans(), ascii_only=st.booleans())
def test_where_a_part_ends_makes_no_difference(
    monkeypatch: pytest.MonkeyPatch, size: int, indent: int | None, as_array: bool, ascii_only: bool
) -> None:
    monkeypatch.setattr(event_files, "_CHUNK_BYTES", size)
    texts = [json.dumps(event, indent=indent, ensure_ascii=ascii_only) for event in EVENTS]
    text = "[\n" + ",\n".join(texts) + "\n]" if as_array else "\n".join(texts)
    found = read(text.encode())
    assert [event for _, event in found] == EVENTS
    height = 1 + texts[0].count("\n")
    assert [line for line, _ in found] == [1 + as_array + place * height for place in range(len(EVENTS))]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode()))
@example(b'{"a": ' + b"1" * 5000 + b"}")
@example(b"\xef\xbb\xbf[{}]")
@example(b"\xef")
def test_any_bytes_are_refused_in_one_line_with_a_hint(data: bytes) -> None:
    assume(b"".join(data.removeprefix(b"\xef\xbb\xbf").split()) not in {b"", b"[]"})
    with pytest.raises(BadRecordError, match=r"^file, line ") as refused:
        read(data)
    assert refused.value.hint


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(list(EVENTS[0])), json_values)
def test_a_part_of_an_event_replaced_by_anything_leaves_an_event_or_one_refusal(key: str, value: Any) -> None:
    event = {**EVENTS[0], key: value}
    try:
        found = read(json.dumps(event).encode())
    except BadRecordError as error:
        found = [(1, event)] if error.diagnosis.startswith("file, line 1: ") else []
    assert found == [(1, event)]


def test_the_digest_is_that_of_the_whole_file() -> None:
    data = b"\n".join(json.dumps(event).encode() for event in EVENTS) + b"\n\n"
    reader = EventReader(io.BytesIO(data), "file")
    assert len(list(reader.events())) == 4
    assert reader.sha256 == hashlib.sha256(data).hexdigest()
    assert reader.size_bytes == len(data)
