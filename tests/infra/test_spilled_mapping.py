"""A mapping that grows beyond memory is like a dictionary, wherever its keys lie."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import BackendUnavailableError
from infra.spilled_mapping import SpilledMapping

KEYS = st.tuples(st.text(max_size=3), st.integers(0, 3) | st.none())
VALUES = st.dictionaries(st.text(max_size=3), st.none() | st.integers(-9, 9) | st.text(max_size=3) | st.lists(st.integers()))


@given(st.lists(st.tuples(KEYS, VALUES)), st.integers(0, 4))
def test_it_is_like_a_dictionary(puts, max_in_memory):
    mapping, expected = SpilledMapping(max_in_memory=max_in_memory), {}
    for key, values in puts:
        assert mapping.get(key) == expected.get(key)
        mapping.put(key, values)
        expected[key] = values
    assert {key: mapping.get(key) for key in expected} == expected
    assert len(mapping) == len(expected)
    assert list(mapping.keys()) == list(expected)
    assert ("longer than any", 7) not in mapping


def test_a_key_that_json_does_not_hold_is_none_that_was_put():
    mapping = SpilledMapping(max_in_memory=0)
    mapping.put(("b'x'",), {})
    assert mapping.get((b"x",)) is None
    assert mapping.get(("b'x'",)) == {}


def test_a_full_disk_is_one_line(monkeypatch):
    mapping = SpilledMapping(max_in_memory=0)
    mapping.put(("a",), {"n": 1})
    mapping._file.execute("PRAGMA max_page_count = 3")

    def work():
        for i in range(1000):
            mapping.put((i,), {"text": "x" * 1000})

    with pytest.raises(BackendUnavailableError, match="temporary file cannot be written: database or disk is full") as caught:
        work()
    assert "TMPDIR" in caught.value.hint


def test_memory_does_not_grow_with_it():
    words = (
        "from infra.spilled_mapping import SpilledMapping as M; import resource; m = M(max_in_memory=1000)\n"
        "for i in range(2000): m.put((i,), {'text': 'x' * 1000})\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for i in range(40000): m.put((i,), {'text': 'x' * 1000})\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    grown = int(subprocess.run([sys.executable, "-c", words], capture_output=True, check=True).stdout)
    assert grown * (1 if sys.platform == "darwin" else 1024) < 20 << 20
