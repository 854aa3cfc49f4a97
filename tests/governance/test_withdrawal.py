"""The rules at the head of governance/withdrawal.py."""

import dataclasses
import re

import pytest

from governance.errors import BadRecordError, RefusedError
from governance.identity import Identity, Role
from governance.ledger import MAX_ENTRY_BYTES, LedgerEntry
from governance.withdrawal import (
    ACTION,
    MAX_ITEMS_PER_ENTRY,
    MAX_REASON_CHARACTERS,
    check_withdraw,
    checked_reason,
    entry_details,
    parse_items,
    require_known,
    require_none_withdrawn,
)

TIME = "2026-11-26T00:00:00.000000Z"
ITEMS = [f"{number:064x}" for number in range(5)]
PERSON = Identity(identity_id="id-a", role=Role.ADMIN, public_key_pem="", name_commitment="", created="t")


@pytest.mark.parametrize("role", [Role.DATA_SCIENTIST, Role.OPS, Role.ADMIN])
def test_everybody_but_an_auditor_withdraws(role: Role) -> None:
    check_withdraw(dataclasses.replace(PERSON, role=role))


@pytest.mark.parametrize("changed", [{"role": Role.AUDITOR}, {"revoked": TIME}])
def test_an_auditor_and_a_revoked_identity_do_not(changed: dict[str, object]) -> None:
    with pytest.raises(RefusedError) as caught:
        check_withdraw(dataclasses.replace(PERSON, **changed))  # type: ignore[arg-type]
    assert caught.value.exit_code == 5


@pytest.mark.parametrize("text", ["", " \n ", "x" * (MAX_REASON_CHARACTERS + 1), "a\x00b", "a\x1b[2Jb", "a\x85b", "a\rb"])
def test_a_reason_is_neither_empty_nor_long_nor_steers_a_terminal(text: str) -> None:
    with pytest.raises(BadRecordError, match="no reason") as caught:
        checked_reason(text)
    assert caught.value.exit_code == 3


def test_a_reason_of_two_lines_is_kept_without_white_space_around_it() -> None:
    assert checked_reason("  die Lizenz endete\nam 31.10.\t\n") == "die Lizenz endete\nam 31.10."
    assert len(checked_reason("x" * MAX_REASON_CHARACTERS)) == MAX_REASON_CHARACTERS


def test_items_are_sorted_and_each_is_taken_once() -> None:
    assert parse_items([ITEMS[2], "", f" {'AB' * 32} ", ITEMS[0], ITEMS[2]]) == (ITEMS[0], ITEMS[2], "ab" * 32)


@pytest.mark.parametrize("text", ["g" * 64, "a" * 63, "a" * 65, "0.png", "a" * 64 + "\nb", "\N{FULLWIDTH DIGIT ONE}" * 64])
def test_what_is_no_digest_is_refused_by_name(text: str) -> None:
    with pytest.raises(BadRecordError, match=re.escape(repr(text)[:20])):
        parse_items([ITEMS[0], text])


@pytest.mark.parametrize("texts", [[], ["", "  "]])
def test_no_item_at_all_is_refused(texts: list[str]) -> None:
    with pytest.raises(BadRecordError, match="no item is named"):
        parse_items(texts)


def test_an_item_that_is_not_in_the_dataset_is_refused_by_name() -> None:
    require_known(ITEMS[:2], dict.fromkeys(ITEMS[:3], "train"), "flags")
    with pytest.raises(BadRecordError, match=ITEMS[3]) as caught:
        require_known(ITEMS, dict.fromkeys(ITEMS[:3], "train"), "flags")
    assert caught.value.exit_code == 3


def test_a_dataset_with_withdrawn_items_is_refused_with_their_number_and_the_remedy() -> None:
    held = dict.fromkeys(ITEMS, "train")
    require_none_withdrawn(held, {"f" * 64}, "flags")
    with pytest.raises(RefusedError, match=r"flags holds 4 withdrawn items: .* and 1 more") as caught:
        require_none_withdrawn(held, {*ITEMS[:4], "f" * 64}, "flags")
    assert caught.value.exit_code == 5
    assert "data import" in caught.value.hint
    with pytest.raises(RefusedError, match="1 withdrawn item:"):
        require_none_withdrawn(held, ITEMS[:1], "flags")


@pytest.mark.parametrize("count", [1, MAX_ITEMS_PER_ENTRY, MAX_ITEMS_PER_ENTRY + 1, 3 * MAX_ITEMS_PER_ENTRY])
def test_entries_hold_every_item_once_and_stay_below_the_limit(count: int) -> None:
    items = [f"{number:064x}" for number in range(count)]
    parts = list(entry_details(items, created=TIME, reason_commitment="c" * 64, has_manifest=False))
    assert [item for part in parts for item in part["items"]] == items
    assert all(part["num_items"] == len(part["items"]) for part in parts)
    for part in parts:
        entry = LedgerEntry(
            index=2**53 - 1,
            time=TIME,
            actor="a" * 64,
            action=ACTION,
            subject=f"dataset:{'d' * 64}",
            details=part,
            run_id=None,
        )
        assert len(entry.to_bytes()) <= MAX_ENTRY_BYTES


def test_an_entry_says_where_no_manifest_showed_the_items() -> None:
    (known,) = entry_details(ITEMS, created=TIME, reason_commitment="c" * 64, has_manifest=True)
    assert set(known) == {"created", "items", "num_items", "reason_commitment"}
    (unknown,) = entry_details(ITEMS, created=TIME, reason_commitment="c" * 64, has_manifest=False)
    assert unknown["manifest"] == "missing"
