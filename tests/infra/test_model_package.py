import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import model_signing
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from governance.digest import file_digests
from governance.errors import BadRecordError, IntegrityError, RefusedError
from governance.package_contents import build_package
from governance.package_layout import SIGNATURE
from infra.errors import BadSettingError
from infra.model_package import open_package, package_root_digest, sign_package
from tests.infra.package_inputs import NAME, make_package, make_sources, write_inputs, write_key


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_key(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory, keys: tuple[Path, Path]) -> Path:
    package = make_package(tmp_path_factory.mktemp("signed"))
    sign_package(package, keys[0])
    return package


@pytest.fixture(scope="module")
def digest(signed: Path) -> str:
    return package_root_digest(signed)


@pytest.fixture
def copy(signed: Path, tmp_path: Path) -> Path:
    return shutil.copytree(signed, tmp_path / "copy")


def test_signed_package_opens(signed: Path, digest: str, keys: tuple[Path, Path]) -> None:
    package = open_package(signed, expected_digest=digest, public_key_pem=keys[1])
    assert package.root_digest == digest
    assert package.config["training_data"]["name"] == "openmoji"
    assert package.evaluation["num_samples"] == 256
    assert package.model_card.startswith("# emoji-dit\n")
    assert SIGNATURE not in package.digests


def test_same_work_gives_same_bytes_elsewhere_and_later(tmp_path: Path) -> None:
    first, second = make_package(tmp_path / "a"), make_package(tmp_path / "deep" / "er" / "b")
    for path in second.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    assert file_digests(first) == file_digests(second)
    assert package_root_digest(first) == package_root_digest(second)


def test_other_weights_give_another_digest(tmp_path: Path) -> None:
    first, second = make_package(tmp_path / "a"), make_package(tmp_path / "b", weight=0.75)
    assert package_root_digest(first) != package_root_digest(second)


def test_no_file_holds_its_place(tmp_path: Path) -> None:
    package = make_package(tmp_path)
    for path in package.rglob("*"):
        if path.is_file():
            assert str(tmp_path).encode() not in path.read_bytes()


def test_signature_leaves_the_root_digest(copy: Path, digest: str, keys: tuple[Path, Path]) -> None:
    before = (copy / SIGNATURE).read_bytes()
    sign_package(copy, keys[0])
    assert (copy / SIGNATURE).read_bytes() != before
    assert package_root_digest(copy) == digest
    open_package(copy, expected_digest=digest, public_key_pem=keys[1])


def test_root_digest_is_what_the_card_says(signed: Path, digest: str, keys: tuple[Path, Path]) -> None:
    card = open_package(signed, expected_digest=digest, public_key_pem=keys[1]).model_card
    command = next(line for line in card.splitlines() if line.startswith("find ."))
    output = subprocess.run(["sh", "-c", command], cwd=signed, capture_output=True, text=True, check=True).stdout
    assert output.split()[0] == digest


def test_openssf_library_accepts_the_package(signed: Path, copy: Path, keys: tuple[Path, Path]) -> None:
    model_signing.verifying.Config().use_elliptic_key_verifier(public_key=keys[1]).verify(copy, copy / SIGNATURE)
    command = [sys.executable, "-m", "model_signing", "verify", "key", str(signed)]
    options = ["--signature", str(signed / SIGNATURE), "--public_key", str(keys[1])]
    assert subprocess.run(command + options, capture_output=True, check=False).returncode == 0


def test_openssf_library_refuses_what_is_refused(copy: Path, keys: tuple[Path, Path]) -> None:
    (copy / "config.json").write_bytes((copy / "config.json").read_bytes() + b" ")
    with pytest.raises(ValueError, match=r"config\.json"):
        model_signing.verifying.Config().use_elliptic_key_verifier(public_key=keys[1]).verify(copy, copy / SIGNATURE)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_byte_is_found(signed: Path, digest: str, keys: tuple[Path, Path], data: st.DataObject) -> None:
    names = sorted([*file_digests(signed)])
    path = signed / data.draw(st.sampled_from(names))
    original = path.read_bytes()
    position = data.draw(st.integers(0, len(original) - 1))
    flipped = bytearray(original)
    flipped[position] ^= data.draw(st.integers(1, 255))
    path.write_bytes(flipped)
    try:
        with pytest.raises(IntegrityError, match=path.name):
            open_package(signed, expected_digest=digest, public_key_pem=keys[1])
    finally:
        path.write_bytes(original)


def test_every_byte_of_the_signature_counts(copy: Path, digest: str, keys: tuple[Path, Path]) -> None:
    original = (copy / SIGNATURE).read_bytes()
    for position in range(0, len(original), 7):
        (copy / SIGNATURE).write_bytes(original[:position] + bytes([original[position] ^ 1]) + original[position + 1 :])
        with pytest.raises(IntegrityError):
            open_package(copy, expected_digest=digest, public_key_pem=keys[1])


def test_added_file_is_named(copy: Path, digest: str, keys: tuple[Path, Path]) -> None:
    (copy / "evaluation" / "more.png").write_bytes(b"x")
    with pytest.raises(IntegrityError, match=r"evaluation/more\.png"):
        open_package(copy, expected_digest=digest, public_key_pem=keys[1])


def test_added_empty_folder_is_named(copy: Path, digest: str, keys: tuple[Path, Path]) -> None:
    (copy / "codec" / "extra").mkdir()
    with pytest.raises(IntegrityError, match="codec/extra"):
        open_package(copy, expected_digest=digest, public_key_pem=keys[1])


@pytest.mark.parametrize("name", ["config.json", "codec/codec.safetensors", "evaluation/samples.png", SIGNATURE])
def test_removed_file_is_named(copy: Path, digest: str, keys: tuple[Path, Path], name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(IntegrityError, match=name):
        open_package(copy, expected_digest=digest, public_key_pem=keys[1])


def test_renamed_file_is_named(copy: Path, digest: str, keys: tuple[Path, Path]) -> None:
    (copy / "evaluation" / "samples.png").rename(copy / "evaluation" / "other.png")
    with pytest.raises(IntegrityError, match=r"evaluation/other\.png"):
        open_package(copy, expected_digest=digest, public_key_pem=keys[1])


@pytest.mark.parametrize("name", ["config.json", "codec", SIGNATURE])
def test_link_is_refused_even_to_the_same_bytes(
    copy: Path, digest: str, keys: tuple[Path, Path], tmp_path: Path, name: str
) -> None:
    (copy / name).rename(tmp_path / "elsewhere")
    (copy / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(IntegrityError, match=name):
        open_package(copy, expected_digest=digest, public_key_pem=keys[1])


def test_link_to_the_package_is_refused(signed: Path, digest: str, keys: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(signed)
    with pytest.raises(IntegrityError, match="link"):
        open_package(tmp_path / "link", expected_digest=digest, public_key_pem=keys[1])


def test_missing_package_is_refused(digest: str, keys: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="missing"):
        open_package(tmp_path / "none", expected_digest=digest, public_key_pem=keys[1])


def test_other_key_is_refused(signed: Path, digest: str, tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="public key"):
        open_package(signed, expected_digest=digest, public_key_pem=write_key(tmp_path)[1])


def test_other_signed_package_is_refused(tmp_path: Path, digest: str, keys: tuple[Path, Path]) -> None:
    other = make_package(tmp_path, weight=0.75)
    sign_package(other, keys[0])
    with pytest.raises(IntegrityError, match="on record"):
        open_package(other, expected_digest=digest, public_key_pem=keys[1])


def test_signature_without_a_link_to_packages_is_refused(copy: Path, digest: str, keys: tuple[Path, Path]) -> None:
    model_signing.signing.Config().use_elliptic_key_signer(private_key=keys[0]).set_hashing_config(
        model_signing.hashing.Config().set_ignored_paths(paths=[SIGNATURE, "config.json"], ignore_git_paths=False)
    ).sign(copy, copy / SIGNATURE)
    with pytest.raises(IntegrityError, match="something else"):
        open_package(copy, expected_digest=digest, public_key_pem=keys[1])


@pytest.mark.parametrize("name", ["weights.pkl", "evaluation/model.pt", "codec/x.BIN"])
def test_pickle_is_never_signed(tmp_path: Path, keys: tuple[Path, Path], name: str) -> None:
    package = make_package(tmp_path)
    (package / name).write_bytes(b"\x80\x04.")
    with pytest.raises(IntegrityError, match="pickle"):
        sign_package(package, keys[0])


def test_pickle_under_a_false_name_is_refused(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    package = make_package(tmp_path)
    (package / "transformer.safetensors").write_bytes(b"\x80\x04\x95" + bytes(40))
    with pytest.raises(IntegrityError, match=r"transformer\.safetensors"):
        sign_package(package, keys[0])


def test_read_after_a_change_is_refused(copy: Path, digest: str, keys: tuple[Path, Path]) -> None:
    package = open_package(copy, expected_digest=digest, public_key_pem=keys[1])
    (copy / "MODEL_CARD.md").write_text("changed")
    with pytest.raises(IntegrityError, match=r"MODEL_CARD\.md"):
        _ = package.model_card
    with pytest.raises(IntegrityError, match="has no"):
        package.read_bytes("../secret")


def test_unusable_keys_are_named(signed: Path, copy: Path, digest: str, keys: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(BadSettingError, match="nokey"):
        open_package(signed, expected_digest=digest, public_key_pem=tmp_path / "nokey")
    with pytest.raises(BadSettingError, match=r"package-signing\.pub\.pem"):
        sign_package(copy, keys[1])


def test_sources_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path / "inputs")
    (inputs["dataset"] / "dataset.json").write_text("{}")
    (tmp_path / "out").mkdir()
    with pytest.raises(IntegrityError, match="dataset"):
        build_package(tmp_path / "out", make_sources(inputs), name=NAME)


def test_failed_validation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="validation"):
        make_package(tmp_path, validation_success=False)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path / "inputs")
    (inputs["model"] / "transformer.safetensors").unlink()
    (tmp_path / "out").mkdir()
    with pytest.raises(BadRecordError, match=r"model/transformer\.safetensors"):
        build_package(tmp_path / "out", make_sources(inputs), name=NAME)


def test_statement_names_every_file(signed: Path) -> None:
    payload = json.loads(base64.b64decode(json.loads((signed / SIGNATURE).read_bytes())["dsseEnvelope"]["payload"]))
    assert {r["name"]: r["digest"] for r in payload["predicate"]["resources"]} == file_digests(signed, exclude={SIGNATURE})
