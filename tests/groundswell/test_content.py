"""`groundswell content verify`, as somebody calls it who was handed a file."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from governance import lineage
from infra.home import Home
from infra.lineage import record_event
from tests.content_world import RUN, VERSION, Published, drawing, encoded, publish_files
from tests.groundswell.conftest import Cli

DATASET = "da" * 32


@pytest.fixture
def made(home: Home, tmp_path: Path) -> Published:
    """A picture handed out, of a model whose data are on record."""
    with home.database.unit_of_work() as uow:
        event = lineage.run_event(
            "COMPLETE",
            lineage.StepIdentity(run_id="22222222-2222-3333-4444-555555555555", pipeline="training", step="register_model"),
            time=uow.time,
            inputs=[lineage.ArtifactRef(kind="dataset", digest=DATASET)],
            outputs=[lineage.ArtifactRef(kind="package", digest=VERSION.root_digest)],
            code_digest="c" * 64,
        )
        record_event(uow, event)
    return publish_files(home, tmp_path, {"image.png": encoded(drawing(1), "PNG")})


def verify(cli: Cli, made: Published, *arguments: object) -> object:
    return cli("--home", made.home.path, "content", "verify", *arguments)


def test_an_honest_picture_says_who_made_it(cli: Cli, made: Published) -> None:
    called = cli("--home", made.home.path, "content", "verify", made.path)
    assert (called.exit_code, called.stderr) == (0, "")
    assert called.stdout.startswith(
        "made by model emoji-small version 3, which was no champion then, trained on dataset dadadada"
    )
    assert "proven by  manifest, digest, pixels" in called.stdout


def test_one_document_says_the_same(cli: Cli, made: Published) -> None:
    document = cli("--home", made.home.path, "--json", "content", "verify", made.path).document
    assert (document["ok"], document["exit_code"], document["media_type"]) == (True, 0, "image/png")
    assert document["sha256"] == made.files[0].sha256
    attribution = document["attribution"]
    assert (attribution["model"], attribution["run_id"], attribution["position"]) == ("emoji-small/3", RUN, 0)
    assert (attribution["proven_by"], attribution["datasets"]) == (["manifest", "digest", "pixels"], [DATASET])
    checks = {check["name"]: check["outcome"] for check in document["checks"]}
    assert checks.pop("watermark") == "absent", "nobody marked it"
    assert checks == dict.fromkeys(("manifest", "digest", "pixels", "fingerprint", "label"), "held")


def test_saved_again_without_metadata_it_is_still_attributed_by_its_pixels(cli: Cli, made: Published, tmp_path: Path) -> None:
    Image.fromarray(np.asarray(Image.open(made.path))).save(tmp_path / "again.png")
    called = cli("--home", made.home.path, "--json", "content", "verify", tmp_path / "again.png")
    assert called.exit_code == 0
    assert called.document["attribution"]["proven_by"] == ["pixels"]


def test_what_looks_alike_is_a_candidate_and_no_proof(cli: Cli, made: Published, tmp_path: Path) -> None:
    Image.open(made.path).resize((70, 70)).save(tmp_path / "small.jpg")
    called = cli("--home", made.home.path, "content", "verify", tmp_path / "small.jpg")
    assert called.exit_code == 4
    assert "made by" not in called.stdout
    assert "Looks like, which proves nothing" in called.stdout
    assert called.stderr.splitlines()[0].endswith("which does not mean that it was not made here")
    assert called.stderr.splitlines()[1].startswith("hint: a person has to look")
    document = cli("--home", made.home.path, "--json", "content", "verify", tmp_path / "small.jpg").document
    assert (document["attribution"], document["exit_code"]) == (None, 4)
    assert document["candidates"][0]["sha256"] == made.files[0].sha256


def test_an_unknown_picture_has_no_proof(cli: Cli, made: Published, tmp_path: Path) -> None:
    drawing(90).save(tmp_path / "other.png")
    called = cli("--home", made.home.path, "content", "verify", tmp_path / "other.png")
    assert called.exit_code == 4
    assert "no proof holds" in called.stderr
    assert called.stderr.count("\n") == 1


def test_a_changed_picture_says_what_does_not_hold(cli: Cli, made: Published, tmp_path: Path) -> None:
    changed = bytearray(made.path.read_bytes())
    at = changed.index(b"iTXt") + 40
    changed[at] ^= 1
    (tmp_path / "x.png").write_bytes(changed)
    called = cli("--home", made.home.path, "content", "verify", tmp_path / "x.png")
    assert called.exit_code in {3, 4}
    assert called.stderr.startswith("error: ")


def test_something_appended_is_told_as_what_it_is(cli: Cli, made: Published, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(made.path.read_bytes() + b"more")
    called = cli("--home", made.home.path, "content", "verify", tmp_path / "x.png")
    assert called.exit_code == 4
    assert "the manifest does not hold: the file is not the one that was signed" in called.stderr
    assert "made by model emoji-small version 3" in called.stdout, "its pixels are still those on record"


@pytest.mark.parametrize("content", [None, b"", b"hello", b"\x89PNG\r\n\x1a\n" + b"\0" * 100])
def test_what_is_no_picture_is_bad_input(cli: Cli, made: Published, tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "x.png").write_bytes(content)
    for flags in ([], ["--json"]):
        called = cli("--home", made.home.path, *flags, "content", "verify", tmp_path / "x.png")
        assert called.exit_code == 3
        assert called.stderr.startswith("error: ")
        assert called.stderr.count("\n") <= 2
    assert called.document["exit_code"] == 3


def test_a_symbolic_link_is_refused_with_the_remedy(cli: Cli, made: Published, tmp_path: Path) -> None:
    (tmp_path / "link.png").symlink_to(made.path)
    called = cli("--home", made.home.path, "content", "verify", tmp_path / "link.png")
    assert called.exit_code == 3
    assert "hint: name the file that it leads to" in called.stderr


def test_with_a_root_from_outside_no_home_is_needed_and_none_is_made(cli: Cli, made: Published, tmp_path: Path) -> None:
    root = shutil.copy(made.home.keys.public_path("content-root-certificate"), tmp_path / "root.pem")
    called = cli("content", "verify", made.path, "--root", root)
    assert (called.exit_code, called.stderr) == (0, "")
    assert "made by model emoji-small version 3" in called.stdout
    assert "there is no home here to ask" in called.stdout
    assert not Path(".groundswell").exists()


def test_a_root_from_outside_takes_the_place_of_the_homes_own(cli: Cli, made: Published, tmp_path: Path) -> None:
    from infra.content_keys import signing_keys
    from infra.settings import Settings

    stranger = Home.open(Settings.load(tmp_path / "stranger"))
    (tmp_path / "theirs.pem").write_text(signing_keys(stranger).root_pem)
    called = cli("--home", made.home.path, "--json", "content", "verify", made.path, "--root", tmp_path / "theirs.pem")
    assert called.exit_code == 4
    checks = {check["name"]: check["outcome"] for check in called.document["checks"]}
    assert (checks["manifest"], checks["digest"]) == ("failed", "held")


@pytest.mark.parametrize("text", ["", "no", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "\udcff"])
def test_what_is_no_root_is_bad_input(cli: Cli, made: Published, tmp_path: Path, text: str) -> None:
    (tmp_path / "root.pem").write_bytes(text.encode("utf-8", "surrogateescape"))
    called = cli("content", "verify", made.path, "--root", tmp_path / "root.pem")
    assert called.exit_code == 3
    assert "is not one certificate in PEM" in called.stderr
    assert cli("content", "verify", made.path, "--root", tmp_path / "missing.pem").exit_code == 3


def test_without_a_home_and_a_root_there_is_nothing_to_ask(cli: Cli, made: Published) -> None:
    called = cli("content", "verify", made.path)
    assert called.exit_code == 3
    assert "there is no home" in called.stderr


def test_nothing_is_written_to_the_home(cli: Cli, made: Published) -> None:
    def state() -> dict[str, str]:
        files = (path for path in made.home.path.rglob("*") if path.is_file() and not path.name.endswith(("-wal", "-shm")))
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    before = state()
    cli("--home", made.home.path, "content", "verify", made.path)
    assert state() == before


def test_a_title_with_control_characters_reaches_no_terminal(cli: Cli, made: Published, tmp_path: Path) -> None:
    name = tmp_path / "a\x1b[31m\nb.png"
    drawing(91).save(name, format="PNG")
    called = cli("--home", made.home.path, "content", "verify", name)
    assert "\x1b" not in called.stdout + called.stderr
    assert called.stderr.count("\n") == 1


def test_the_help_and_audit_commands_import_none_of_it(made: Published) -> None:
    code = (
        "import sys; from groundswell.cli.main import main; main(sys.argv[1:]); "
        "print(sorted({'c2pa', 'PIL', 'imagehash', 'av', 'numpy', 'scipy'} & set(sys.modules)), file=sys.stderr)"
    )
    for arguments in (["content", "verify", "--help"], ["--home", str(made.home.path), "audit", "verify"]):
        told = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
        assert told.stderr.strip().splitlines()[-1] == "[]", arguments


def test_its_keys_are_listed_rotated_and_revoked_like_the_others(cli: Cli, made: Published) -> None:
    def keys() -> list[tuple[str, str]]:
        document = cli("--home", made.home.path, "--json", "key", "list").document
        return [(key["name"], key["state"]) for key in document["keys"] if key["name"].startswith("content-")]

    assert sorted(keys()) == [("content-credentials", "current"), ("content-root", "current")]
    assert cli("--home", made.home.path, "key", "rotate", "content-credentials").exit_code == 0
    assert ("content-credentials", "retired") in keys()
    document = cli("--home", made.home.path, "--json", "key", "list").document
    old, root = (
        next(key["fingerprint"] for key in document["keys"] if (key["name"], key["state"]) == wanted)
        for wanted in (("content-credentials", "retired"), ("content-root", "current"))
    )
    assert cli("--home", made.home.path, "content", "verify", made.path).exit_code == 0
    assert cli("--home", made.home.path, "key", "revoke", old, "--reason", "a leak").exit_code == 0
    called = cli("--home", made.home.path, "content", "verify", made.path)
    assert called.exit_code == 4
    assert "was revoked on" in called.stderr
    assert cli("--home", made.home.path, "key", "revoke", root, "--reason", "a leak").exit_code == 3, "the root stays"
    assert cli("--home", made.home.path, "audit", "verify").exit_code == 0


def test_a_key_that_was_never_made_is_not_rotated(cli: Cli, home: Home) -> None:
    called = cli("--home", home.path, "key", "rotate", "content-credentials")
    assert called.exit_code == 3
    assert "has signed no file yet" in called.stderr


def test_the_ledgers_entry_says_what_the_table_says(cli: Cli, made: Published) -> None:
    called = cli("--home", made.home.path, "--json", "audit", "log", "--subject", f"media:{made.files[0].sha256}")
    text = json.dumps(called.document)
    assert made.files[0].pixels_sha256 in text
    assert made.files[0].fingerprint in text


def test_lineage_finds_the_published_file(cli: Cli, made: Published) -> None:
    called = cli("--home", made.home.path, "--json", "lineage", made.path)
    assert called.exit_code == 0, called.stderr
    assert called.document["subject"] == f"media:{made.files[0].sha256}"
