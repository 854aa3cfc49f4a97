import argparse
import json

import pytest

from benchmarks.command import (
    chosen,
    digest_of,
    machine,
    markdown_table,
    positive,
    positive_seconds,
    read_json,
    run_command,
    write_json,
)
from model_core.errors import BadDataError, BadModelError


def test_an_error_is_one_line_a_hint_and_its_exit_code(capsys):
    def body():
        raise BadModelError("it is wrong", hint="do better")

    assert run_command(body) == 3
    assert capsys.readouterr().err == "error: it is wrong\nhint: do better\n"


def test_a_bug_is_no_bad_input():
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: [][1 // 0])


def test_names_are_chosen_in_the_order_given():
    known = {"a": 1, "b": 2, "c": 3}
    assert chosen("all", known, what="arm") == ["a", "b", "c"]
    assert chosen("c, a", known, what="arm") == ["c", "a"]
    with pytest.raises(BadDataError, match="no arm 'd'"):
        chosen("a,d", known, what="arm")
    with pytest.raises(BadDataError, match="no arm was chosen"):
        chosen(" ,", known, what="arm")


def test_a_document_is_written_whole_and_read_again(tmp_path):
    path = tmp_path / "folder" / "document.json"
    write_json(path, {"b": [1, 2.5], "a": "é"})
    assert read_json(path) == {"a": "é", "b": [1, 2.5]}
    assert [entry.name for entry in path.parent.iterdir()] == ["document.json"]
    path.write_text("{", encoding="utf-8")
    with pytest.raises(BadDataError, match=r"document\.json cannot be read"):
        read_json(path)


def test_a_digest_does_not_depend_on_the_order_of_keys():
    assert digest_of({"a": 1, "b": (2, 3)}) == digest_of({"b": [2, 3], "a": 1}) != digest_of({"a": 1, "b": [3, 2]})


def test_the_machine_is_plain_values():
    assert json.loads(json.dumps(machine())) == machine()


def test_a_table_has_a_line_a_row():
    assert markdown_table(["a", "b"], [[1, "x"]]) == "| a | b |\n| --- | --- |\n| 1 | x |"


@pytest.mark.parametrize(
    ("read", "value"), [(positive, "0"), (positive, "-3"), (positive_seconds, "0"), (positive_seconds, "inf")]
)
def test_numbers_out_of_range_are_refused(read, value):
    with pytest.raises(argparse.ArgumentTypeError):
        read(value)
