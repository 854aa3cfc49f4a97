"""The figures of the guides, as a table in the page; every call is one that its command understands."""

from importlib import import_module
from pathlib import Path

import pytest

from benchmarks.guides import BEGIN, END, GUIDES, arguments_of, filled, table_of
from groundswell.uses.figure import documents, share
from model_core.errors import BadDataError

CALLS = arguments_of("m/1", Path("out"))


@pytest.mark.parametrize("use", CALLS)
def test_every_use_is_called_on_the_input_of_its_guide(use: str) -> None:
    command = import_module(f"groundswell.uses.{use}").command
    assert command.make_context(use, list(CALLS[use]), resilient_parsing=False).params["out"] == Path("out") / use


def test_the_table_takes_the_place_of_the_one_before() -> None:
    table = table_of({"content": {"figures": documents([share("files that verify", [True, False])])}})
    assert table.splitlines()[-1] == "| content | files that verify | 0.5 |  | at least 1 |  | **missed** |"
    once = filled(f"before\n{BEGIN}\nold\n{END}\nafter\n", table)
    assert once == filled(once, table) == f"before\n{BEGIN}\n{table}\n{END}\nafter\n"
    with pytest.raises(BadDataError, match="no place"):
        filled("a page", table)


def test_the_index_has_a_place_for_it() -> None:
    page = (GUIDES / "README.md").read_text(encoding="utf-8")
    assert page.count(BEGIN) == page.count(END) == 1
