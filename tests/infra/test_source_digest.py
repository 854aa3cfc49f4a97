"""The code version of a step."""

import sys
from pathlib import Path

import pytest

from infra import source_digest as module
from infra.source_digest import import_closure, source_digest


def test_the_closure_reaches_what_the_step_uses_and_nothing_above_it() -> None:
    names = set(import_closure("components.register_model.step"))
    assert {
        "components.register_model.step",
        "components.register_model.config",
        "components.ports",
        "governance.digest",
    } <= names
    assert not any(name.startswith(("groundswell", "pipelines")) for name in names)


def test_the_digest_changes_with_a_module_that_the_step_imports_and_not_with_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = tmp_path / "model_core"
    room.mkdir()
    (room / "__init__.py").write_text("")
    (room / "a.py").write_text("from model_core import b\nfrom .c import value\n")
    (room / "b.py").write_text("x = 1\n")
    (room / "c.py").write_text("value = 1\n")
    (room / "unrelated.py").write_text("y = 1\n")
    monkeypatch.setattr(module, "_room_folder", lambda _: room)
    monkeypatch.setitem(sys.modules, "model_core", None)

    def digest() -> str:
        source_digest.cache_clear()
        return source_digest("model_core.a")

    first = digest()
    (room / "unrelated.py").write_text("y = 2\n")
    assert digest() == first
    (room / "b.py").write_text("x = 2\n")
    second = digest()
    assert second != first
    (room / "c.py").write_text("value = 2\n")
    assert digest() not in {first, second}
    source_digest.cache_clear()
