"""What is passed from step to step: a place in the home, and nothing that leads out of it."""

import json
from pathlib import Path

import pytest

from components.handles import read_handle, write_handle
from components.store import ArtifactRef
from governance.errors import IntegrityError


def test_a_place_is_found_again_where_the_home_is_mounted_elsewhere(tmp_path: Path) -> None:
    here, there = tmp_path / "home", tmp_path / "mounted"
    reference = ArtifactRef(kind="latents", digest="a" * 64, path=here / "work" / "f" / "outputs" / "latents")
    write_handle(tmp_path / "kfp" / "task" / "latents", here, reference)
    found = read_handle(tmp_path / "kfp" / "task" / "latents", there)
    assert (found.folder, found.digest) == (there / "work" / "f" / "outputs" / "latents", "a" * 64)


def test_a_folder_that_a_pipeline_is_given_is_itself(tmp_path: Path) -> None:
    found = read_handle(tmp_path, tmp_path / "home")
    assert (found.folder, found.digest) == (tmp_path, None)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        json.dumps({"format": "groundswell-output/1", "place": "../elsewhere", "kind": "latents", "digest": "a"}),
        json.dumps({"format": "groundswell-output/1", "place": "/etc", "kind": "latents", "digest": "a"}),
        json.dumps({"format": "other/1", "place": "work", "kind": "latents", "digest": "a"}),
        "\0" * 5000,
    ],
)
def test_what_no_step_has_passed_on_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "output").write_text(content)
    with pytest.raises(IntegrityError, match="nothing that a step has passed on"):
        read_handle(tmp_path / "output", tmp_path / "home")
