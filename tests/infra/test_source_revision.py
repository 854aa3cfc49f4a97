"""Which commit the code comes from, asked of real checkouts."""

import json
import subprocess

import pytest

from infra.source_revision import source_revision

BILL = {"metadata": {"component": {"properties": [{"name": "io.groundswell.revision", "value": f"{'ab' * 20}-dirty"}]}}}


def git(folder, *arguments):
    command = ["git", "-C", str(folder), "-c", "user.name=x", "-c", "user.email=x@example.org", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(autouse=True)
def _asked_anew():
    source_revision.cache_clear()
    yield
    source_revision.cache_clear()


@pytest.fixture
def checkout(tmp_path):
    """A checkout with one module and one page."""
    root = tmp_path / "checkout"
    (root / "infra").mkdir(parents=True)
    (root / "infra" / "home.py").write_text("HOME = 1\n")
    (root / "README.md").write_text("read me\n")
    git(tmp_path, "init", "-q", str(root))
    git(root, "add", ".")
    git(root, "commit", "-qm", "Begin")
    return root


def commit_of(checkout):
    return git(checkout, "rev-parse", "HEAD")


def test_a_checkout_is_named_by_its_commit(checkout, tmp_path):
    assert source_revision(checkout, tmp_path / "none") == commit_of(checkout)


@pytest.mark.parametrize("name", ["infra/home.py", "infra/new.py", "model_core/new.py"])
def test_modules_that_differ_from_the_commit_are_told(checkout, tmp_path, name):
    (checkout / name).parent.mkdir(exist_ok=True)
    (checkout / name).write_text("HOME = 2\n")
    assert source_revision(checkout, tmp_path / "none") == f"{commit_of(checkout)}-dirty"


def test_what_is_no_module_makes_no_difference(checkout, tmp_path):
    (checkout / "README.md").write_text("changed\n")
    (checkout / "pictures").mkdir()
    (checkout / "pictures" / "cat.png").write_bytes(b"?")
    assert source_revision(checkout, tmp_path / "none") == commit_of(checkout)


def test_a_worktree_is_a_checkout_and_a_hooks_variables_mislead_nobody(checkout, tmp_path, monkeypatch):
    git(checkout, "worktree", "add", "-q", str(tmp_path / "tree"))
    (tmp_path / "tree" / "infra" / "home.py").write_text("HOME = 2\n")
    git(tmp_path / "tree", "commit", "-qam", "Go on")
    monkeypatch.setenv("GIT_DIR", str(checkout / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(checkout))
    found = source_revision(tmp_path / "tree", tmp_path / "none")
    monkeypatch.undo()
    assert found == commit_of(tmp_path / "tree") != commit_of(checkout)


def test_somebody_elses_checkout_around_an_installed_library_is_not_its_source(checkout, tmp_path):
    installed = checkout / "site-packages"
    (installed / "infra").mkdir(parents=True)
    assert source_revision(installed, tmp_path / "none") == ""


def test_an_image_says_what_it_was_built_from(tmp_path):
    (tmp_path / "bill.json").write_text(json.dumps(BILL))
    assert source_revision(tmp_path, tmp_path / "bill.json") == f"{'ab' * 20}-dirty"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"metadata": {"component": {"properties": []}}}', json.dumps(BILL)[:-9]])
def test_a_bill_of_materials_that_says_nothing_leaves_it_unknown(tmp_path, text):
    (tmp_path / "bill.json").write_text(text)
    assert source_revision(tmp_path, tmp_path / "bill.json") == ""


def test_where_git_is_missing_or_has_no_commit_it_is_unknown(checkout, tmp_path, monkeypatch):
    git(tmp_path, "init", "-q", str(tmp_path / "empty"))
    assert source_revision(tmp_path / "empty", tmp_path / "none") == ""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert source_revision(checkout, tmp_path / "none") == ""
