"""The split of an item depends on nothing but its key."""

from hypothesis import given
from hypothesis import strategies as st

from model_core.data.split import held_out_of_few, split_of, subset_rank


def test_known_keys_stay_where_they_are() -> None:
    keys = ["openmoji:1F600", "openmoji:1F34E", "openmoji:1F1EF-1F1F5", "openmoji:2615"]
    assert [split_of(key) for key in keys] == ["train", "train", "holdout", "train"]
    assert split_of("openmoji:1F611") == "holdout"


def test_about_a_tenth_is_held_out() -> None:
    held_out = sum(split_of(f"item {number}") == "holdout" for number in range(10_000))
    assert 900 < held_out < 1100


@given(st.text(), st.integers(0, 1000), st.integers(0, 1000))
def test_a_larger_holdout_keeps_what_was_held_out(key: str, one: int, other: int) -> None:
    smaller, larger = sorted((one, other))
    if split_of(key, holdout_per_mille=smaller) == "holdout":
        assert split_of(key, holdout_per_mille=larger) == "holdout"


def test_subset_rank_does_not_follow_the_split() -> None:
    first = sorted((f"item {number}" for number in range(10_000)), key=subset_rank)[:1000]
    assert 60 < sum(split_of(key) == "holdout" for key in first) < 140


@given(st.lists(st.text(), unique=True, max_size=60))
def test_of_few_items_enough_are_held_out_and_of_many_those_that_are_anyway(keys: list[str]) -> None:
    held_out, anyway = held_out_of_few(keys), {key for key in keys if split_of(key) == "holdout"}
    assert anyway <= held_out <= set(keys)
    assert len(held_out) == max(len(anyway), min(4, len(keys) // 4))
    assert held_out_of_few(keys[::-1]) == held_out
