"""Evidence bundles of a small log in memory: a whole one verifies, and whatever is done to one is reported."""

import ast
import base64
import hashlib
import io
import json
import subprocess
import sys
import zipfile
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from governance import merkle
from governance.bundle import content, verify
from governance.bundle.verify import CHECKPOINT, ENTRIES, SUMS, BundleError, read_bundle, verify_files
from governance.checkpoint import sign_checkpoint
from governance.ledger import LedgerEntry

SUBJECT = "model-version:emoji-dit/1"
LOG_KEY, OTHER_KEY = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2))
SIGNER = ec.derive_private_key(7, ec.SECP256R1())
TIME = "2026-11-26T12:00:00.000000Z"


def pem(key):
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def entry(index, action, subject, details):
    return LedgerEntry(index=index, time=TIME, actor="system", action=action, subject=subject, details=details, run_id=None)


def envelope(payload=b"{}", *, signer=SIGNER, keyid=None):
    kind = "application/vnd.in-toto+json"
    message = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)
    signature = base64.b64encode(signer.sign(message, ec.ECDSA(hashes.SHA256()))).decode()
    keyid = keyid or hashlib.sha256(pem(SIGNER)).hexdigest()
    document = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": kind,
        "signatures": [{"keyid": keyid, "sig": signature}],
    }
    return json.dumps(document).encode()


def make(*, num_others=40, statement=None, named=None, lineage=b"[\n{}\n]\n", log_key=LOG_KEY, subject=SUBJECT, after=()):
    """Returns the files of a bundle over a log with some entries that are not in it."""
    statement = envelope() if statement is None else statement
    files = {
        "public_key.pem": pem(LOG_KEY),
        "lineage.json": lineage,
        "report.html": b"<!doctype html>\n",
        "verify.py": content.verifier(),
        "MODEL_CARD.md": b"# A model\n",
        "attestations/0123456789abcdef.json": statement,
    }
    made = [("key.created", "key:package-signing", {"public_key_pem": pem(SIGNER).decode()})]
    made += [("test.appended", f"x:{number}", {}) for number in range(num_others)]
    made += [("attestation.signed", f"attestation:{hashlib.sha256(named or statement).hexdigest()}", {})]
    made += [("bundle.exported", subject, content.exported_details(files)), *after]
    data = [entry(index, *one).to_bytes() for index, one in enumerate(made)]
    nodes = merkle.MemoryNodes()
    nodes.update(merkle.extend(0, [merkle.leaf_hash(each) for each in data], nodes))
    size = len(data)
    root = merkle.root_hash(size, nodes)
    files[CHECKPOINT] = sign_checkpoint(size=size, root_hash=root, private_key=log_key).encode()
    chosen = [0, num_others + 1, num_others + 2]
    files[ENTRIES] = b"".join(content.entry_line(i, data[i], merkle.inclusion_proof(i, size, nodes)) for i in chosen)
    return content.with_checksums(files)


WHOLE = make()
KEY = pem(LOG_KEY)


def problems(files, key=KEY):
    return verify_files(files, key).problems


def resummed(files):
    return content.with_checksums({name: data for name, data in files.items() if name != SUMS})


def test_a_whole_bundle_verifies_and_says_what_it_is_about():
    verdict = verify_files(WHOLE, KEY)
    assert verdict.problems == []
    assert (verdict.subject, verdict.exported, verdict.num_entries, verdict.log_size) == (SUBJECT, TIME, 3, 43)


@pytest.mark.parametrize("after", [(), (("test.appended", "x", {}),)])
def test_the_log_may_have_gone_on_before_the_checkpoint(after):
    assert problems(make(after=after)) == []


@pytest.mark.parametrize("name", sorted(WHOLE))
@given(data=st.data())
def test_every_changed_byte_is_reported_by_file(name, data):
    position = data.draw(st.integers(0, len(WHOLE[name]) - 1))
    flip = data.draw(st.integers(1, 255))
    changed = bytearray(WHOLE[name])
    changed[position] ^= flip
    files = {**WHOLE, name: bytes(changed)}
    found = problems(files)
    assert any(problem.startswith(name) or (name == SUMS and SUMS in problem) for problem in found), found


@pytest.mark.parametrize("name", sorted(set(WHOLE) - verify.UNNAMED))
def test_a_file_edited_under_recomputed_checksums_is_refused(name):
    found = problems(resummed({**WHOLE, name: WHOLE[name] + b" "}))
    assert any(problem.startswith(f"{name} is not the file that was exported") for problem in found), found


def test_a_file_added_or_taken_away_under_recomputed_checksums_is_refused():
    assert problems(resummed({**WHOLE, "more.txt": b"?"})) == [
        "more.txt is not the file that was exported: its SHA-256 is not the one in the log"
    ]
    assert problems(resummed({name: data for name, data in WHOLE.items() if name != "MODEL_CARD.md"})) == [
        "MODEL_CARD.md is missing, the log names it"
    ]


@pytest.mark.parametrize("name", sorted(verify.REQUIRED))
def test_a_missing_part_is_named(name):
    assert problems({other: data for other, data in WHOLE.items() if other != name}) == [f"{name} is missing"]


def test_a_bundle_of_another_log_is_refused():
    assert "no checkpoint that the key given has signed" in problems(WHOLE, pem(OTHER_KEY))[-1]
    forged = make(log_key=OTHER_KEY)
    assert "no checkpoint that the key given has signed" in problems(forged)[-1]
    swapped = resummed({**make(lineage=b"[]\n"), CHECKPOINT: WHOLE[CHECKPOINT]})
    assert any(problem.startswith(ENTRIES) for problem in problems(swapped))


def test_entries_out_of_order_or_under_another_index_are_refused():
    lines = WHOLE[ENTRIES].splitlines(keepends=True)
    for changed in ([lines[1], lines[0], lines[2]], [lines[0], *lines], lines[:2], [], [*lines, lines[0]]):
        assert any(problem.startswith(ENTRIES) for problem in problems(resummed({**WHOLE, ENTRIES: b"".join(changed)})))
    record = json.loads(lines[0])
    for index in (1, -1, 43, True, "0", None):
        moved = json.dumps({**record, "index": index}).encode() + b"\n"
        assert any(
            problem.startswith(f"{ENTRIES}: line 1") for problem in problems(resummed({**WHOLE, ENTRIES: moved + lines[2]}))
        )


@pytest.mark.parametrize(
    "text", [b"", b"\n", b"[]\n", b"null\n", b"{\n", b'{"index":0,"entry":{},"proof":[]}\n', b"\xff\n", b"[" * 50_000]
)
def test_malformed_entries_are_reported_and_never_crash(text):
    assert any(problem.startswith(ENTRIES) for problem in problems(resummed({**WHOLE, ENTRIES: text})))


def test_a_name_that_stands_twice_in_an_entry_is_refused():
    line = json.loads(WHOLE[ENTRIES].splitlines()[-1])
    twice = json.dumps(line)[:-1] + f', "index": {line["index"]}}}\n'
    assert any(problem.startswith(ENTRIES) for problem in problems(resummed({**WHOLE, ENTRIES: twice.encode()})))


def test_a_proof_leads_to_the_root_at_its_own_place_in_a_tree_of_its_own_size_alone():
    data = [entry(number, "test.appended", f"x:{number}", {}).to_bytes() for number in range(33)]
    leaves = [merkle.leaf_hash(each) for each in data]
    for size in range(1, len(leaves) + 1):
        nodes = merkle.MemoryNodes()
        nodes.update(merkle.extend(0, leaves[:size], nodes))
        root = merkle.root_hash(size, nodes)
        for index in range(size):
            proof = merkle.inclusion_proof(index, size, nodes)
            read = partial(verify._entry, size=size, root=root, after=-1)
            assert read(content.entry_line(index, data[index], proof))["index"] == index
            swapped = [[*proof[:at], proof[at + 1], proof[at], *proof[at + 2 :]] for at in range(len(proof) - 1)]
            longer = [[*proof[:at], root, *proof[at:]] for at in range(len(proof) + 1)]
            for wrong in [*swapped, *longer, proof[1:] if proof else [root], proof[:-1] if proof else [bytes(32)]]:
                with pytest.raises(ValueError):
                    read(content.entry_line(index, data[index], wrong))
            for other in {index - 1, index + 1} & set(range(size)):
                with pytest.raises(ValueError):
                    read(content.entry_line(other, data[other], proof))


@pytest.mark.parametrize(
    ("statement", "named", "said"),
    [
        (envelope(), b"other", "is a statement that no entry of the log names"),
        (envelope(signer=ec.derive_private_key(8, ec.SECP256R1())), None, "is not signed by a key that the log names"),
        (envelope(keyid="00" * 32), None, "is not signed by a key that the log names"),
        (b'{"payload":"","payloadType":"x","signatures":[]}', None, "is not signed by a key that the log names"),
        (b"[]", None, "is not signed by a key that the log names"),
    ],
)
def test_a_statement_that_the_log_does_not_vouch_for_is_refused(statement, named, said):
    assert problems(make(statement=statement, named=named)) == [f"attestations/0123456789abcdef.json {said}"]


@pytest.mark.parametrize("key", [b"", b"?", pem(SIGNER)])
def test_a_key_that_is_none_verifies_nothing(key):
    assert problems(WHOLE, key)


def write(path, files=WHOLE, **changes):
    with path.open("wb") as file:
        content.write_zip(file, files)
    return path


def test_the_same_files_give_the_same_bundle(tmp_path):
    first, second = write(tmp_path / "a.zip"), write(tmp_path / "b.zip", dict(reversed(WHOLE.items())))
    assert first.read_bytes() == second.read_bytes()
    assert read_bundle(first) == dict(sorted(WHOLE.items()))


def archive_with(path, name, data=b"?", *, mode=0o100644):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        info.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(info, data)
    return path


@pytest.mark.parametrize(
    "name", ["../x", "/x", "a/../x", "a//x", ".hidden", "a\\x", "x/", "é", "a b", "con:", "a/b/c/d/e", "x\n"]
)
def test_a_path_that_is_no_plain_name_is_refused(tmp_path, name):
    with pytest.raises(BundleError, match="no name of a file") as caught:
        read_bundle(archive_with(tmp_path / "x.zip", name))
    assert caught.value.exit_code == 4
    assert "\n" not in str(caught.value)


def test_links_and_doubled_names_are_refused(tmp_path):
    with pytest.raises(BundleError, match="a link"):
        read_bundle(archive_with(tmp_path / "link.zip", "x", b"/etc/passwd", mode=0o120777))
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
        archive.writestr("x", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("x", b"2")
    with pytest.raises(BundleError, match="there twice"):
        read_bundle(tmp_path / "twice.zip")


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    bomb = archive_with(tmp_path / "bomb.zip", "x", bytes(verify.MAX_BYTES + 1))
    assert bomb.stat().st_size < 1 << 20
    with pytest.raises(BundleError, match="larger than any bundle"):
        read_bundle(bomb)
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        for number in range(verify.MAX_FILES + 1):
            archive.writestr(f"f{number}", b"")
    with pytest.raises(BundleError, match="larger than any bundle"):
        read_bundle(tmp_path / "many.zip")


def test_a_bomb_that_lies_about_its_size_is_read_no_further_than_it_says(tmp_path):
    path = archive_with(tmp_path / "bomb.zip", "x", bytes(1 << 20))
    raw = path.read_bytes()
    path.write_bytes(raw.replace((1 << 20).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises(BundleError, match="x is damaged"):
        read_bundle(path)


@pytest.mark.parametrize("data", [b"", b"PK", b"not a zip" * 100])
def test_what_is_no_archive_is_bad_input(tmp_path, data):
    (tmp_path / "x").write_bytes(data)
    for path in (tmp_path / "x", tmp_path / "missing", tmp_path):
        with pytest.raises(BundleError, match="is no bundle") as caught:
            read_bundle(path)
        assert caught.value.exit_code == 3


@given(data=st.data())
def test_any_damage_of_the_archive_is_reported_or_harmless(data):
    buffer = io.BytesIO()
    content.write_zip(buffer, WHOLE)
    raw = bytearray(buffer.getvalue())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        files = read_bundle(io.BytesIO(bytes(raw[: data.draw(st.sampled_from([len(raw), len(raw) // 2]))])))
    except BundleError:
        return
    assert files == WHOLE or problems(files)


def test_the_verifier_is_short_and_needs_nothing_but_cryptography():
    source = content.verifier().decode()
    assert len(source.splitlines()) <= 200
    modules = {
        name.partition(".")[0]
        for node in ast.walk(ast.parse(source))
        for name in (
            [a.name for a in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert modules - sys.stdlib_module_names == {"cryptography"}


def run_verifier(folder, *arguments):
    program = folder / "verify.py"
    program.write_bytes(content.verifier())
    command = [sys.executable, "-I", str(program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=60, check=False)


def test_the_verifier_runs_alone(tmp_path):
    bundle, key, picture = tmp_path / "b.zip", tmp_path / "key.pem", tmp_path / "p.png"
    key.write_bytes(KEY)
    picture.write_bytes(b"picture")
    write(bundle, make(subject=f"media:{hashlib.sha256(b'picture').hexdigest()}"))
    held = run_verifier(tmp_path, bundle, "--key", key, "--file", picture)
    assert (held.returncode, held.stderr) == (0, "")
    assert held.stdout.startswith("verified: media:")
    picture.write_bytes(b"another")
    other = run_verifier(tmp_path, bundle, "--key", key, "--file", picture)
    assert other.returncode == 4
    assert "is not what the bundle is about" in other.stderr
    write(bundle, resummed({**WHOLE, "lineage.json": b"[]\n"}))
    edited = run_verifier(tmp_path, bundle, "--key", key)
    assert edited.returncode == 4
    assert "problem: lineage.json is not the file that was exported" in edited.stderr
    for arguments, code in (([bundle], 2), ([key, "--key", key], 3), ([bundle, "--key", tmp_path / "no"], 3)):
        failed = run_verifier(tmp_path, *arguments)
        assert failed.returncode == code, failed.stderr
        assert "Traceback" not in failed.stderr


def test_more_than_a_bundle_may_hold_is_refused():
    from governance.errors import BadRecordError

    with pytest.raises(BadRecordError, match="more than a bundle may"):
        content.exported_details({f"f{number}": b"" for number in range(verify.MAX_FILES)})


def test_a_statement_is_filed_by_its_kind():
    assert content.statement_name("approval", "ab" * 32) == f"approvals/{'ab' * 8}.json"
    assert Path(content.statement_name("provenance", "ab" * 32)).parent.name == "attestations"
