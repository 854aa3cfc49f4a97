"""Verifies a groundswell evidence bundle: ``python verify.py BUNDLE.zip --key public_key.pem [--file PICTURE]``.

Needs Python 3.11 and `cryptography`, nothing of groundswell. Take this file and the log's public key from somewhere else than
the bundle: whoever forges a bundle can put a forged key and a forged verifier into it. "verified" says that the checkpoint is
signed by the key (C2SP tlog-checkpoint); every entry is in the log at its index (RFC 6962 inclusion proof); the last one is
``bundle.exported`` and names the SHA-256 of each file but those that come after it; each signed statement (DSSE) is named by an
entry and signed by a key that an entry names; and no checkpoint, statement or package was signed after its key was revoked.
Exit codes: 0 verified, 2 wrong usage, 3 not a bundle, 4 something does not hold.
"""

import argparse
import base64
import hashlib
import json
import re
import sys
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

CHECKPOINT, ENTRIES, SUMS = "checkpoint", "entries.jsonl", "SHA256SUMS"
UNNAMED = frozenset({CHECKPOINT, ENTRIES, SUMS})  # no entry can name them: they come after the last one
REQUIRED = UNNAMED | {"public_key.pem", "lineage.json", "report.html", "verify.py"}
MAX_FILES, MAX_BYTES = 1000, 256 << 20
_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*){0,3}", re.ASCII)
_WRONG = (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, InvalidSignature, UnsupportedAlgorithm)


class BundleError(Exception):
    """A file is no bundle (exit code 3), or one that must not be read any further (4)."""

    def __init__(self, problem: str, exit_code: int) -> None:
        super().__init__(problem)
        self.exit_code = exit_code


class Verdict(NamedTuple):
    """What a bundle says, to be believed if there are no problems; each problem names the file."""

    problems: list[str]
    subject: str = ""
    exported: str = ""
    num_entries: int = 0
    log_size: int = 0
    root_hash: str = ""


def read_bundle(path: Path) -> dict[str, bytes]:
    """Returns the files of a bundle by name; nothing is unpacked, and no more is read than a bundle may hold."""
    files, name = dict[str, bytes](), ""
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                name = info.filename
                if len(files) >= MAX_FILES or sum(map(len, files.values())) + info.file_size > MAX_BYTES:
                    raise BundleError(f"{path} is larger than any bundle", 4)
                if not _NAME.fullmatch(name) or name in files or (info.external_attr >> 28) not in {0, 8}:
                    raise BundleError(f"{name!r:.100} is there twice, a link, or no name of a file in a bundle", 4)
                files[name] = archive.open(info).read(info.file_size + 1)
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
        raise BundleError(f"{name} is damaged" if name else f"{path} is no bundle: {error}", 4 if name else 3) from error
    return files


def verify_files(files: Mapping[str, bytes], key_pem: bytes) -> Verdict:
    """Verifies the files of a bundle with the log's public key, which must not come from the bundle."""
    if missing := sorted(REQUIRED - files.keys()):
        return Verdict([f"{name} is missing" for name in missing])
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    problems = list(_check_sums(digests, files[SUMS]))
    try:
        size, root = _checkpoint(files[CHECKPOINT].decode(), load_pem_public_key(key_pem))
    except _WRONG:
        return Verdict([*problems, f"{CHECKPOINT} is no checkpoint that the key given has signed"])
    entries: list[dict[str, Any]] = []
    for number, line in enumerate(files[ENTRIES].removesuffix(b"\n").split(b"\n"), start=1):
        try:
            entries.append(_entry(line, size, root, after=entries[-1]["index"] if entries else -1))
        except _WRONG:
            problems.append(f"{ENTRIES}: line {number} holds no entry that is in the log at this index")
    if not entries or (last := entries[-1])["action"] != "bundle.exported":
        return Verdict([*problems, f"{ENTRIES}: the last entry is not that of the export"])
    problems += [*_check_named(digests, last["details"].get("files")), *_check_signed(files, digests, entries, key_pem)]
    return Verdict(problems, last["subject"], last["time"], len(entries), size, root.hex())


def _check_sums(digests: Mapping[str, str], sums: bytes) -> Iterator[str]:
    lines = [f"{digest}  {name}\n".encode() for name, digest in digests.items() if name != SUMS]
    if sums != b"".join(lines):
        wrong = [line[66:-1].decode() for line in lines if line not in sums.splitlines(keepends=True)]
        yield from [f"{name} is not the file that {SUMS} names" for name in wrong] or [f"{SUMS} is malformed"]


def _checkpoint(note: str, key: Any) -> tuple[int, bytes]:
    raw = key.public_bytes_raw()  # other keys than Ed25519 have no such form, or sign nothing
    name = f"groundswell/{hashlib.sha256(raw).hexdigest()[:16]}"
    body, _, signatures = note.rpartition("\n\n")
    [(size, root)] = re.findall(rf"\A{name}\n(\d+)\n(.+)\Z", body)
    key_id = hashlib.sha256(f"{name}\n".encode() + b"\x01" + raw).digest()[:4]
    blobs = [base64.b64decode(line.rpartition(" ")[2], validate=True) for line in signatures.split("\n") if f" {name} " in line]
    [signature] = [blob[4:] for blob in blobs if blob[:4] == key_id]
    key.verify(signature, f"{body}\n".encode())
    return int(size), base64.b64decode(root, validate=True)


def _entry(line: bytes, size: int, root: bytes, *, after: int) -> dict[str, Any]:
    record = json.loads(line, object_pairs_hook=_unique)
    index, text = record["index"], record["entry"]
    entry: dict[str, Any] = json.loads(text, object_pairs_hook=_unique)
    is_entry = isinstance(entry["details"], dict) and all(isinstance(entry[name], str) for name in ("action", "subject", "time"))
    if type(index) is not int or entry["index"] != index or not after < index < size or not is_entry:
        raise ValueError("no entry, not at its index, or out of order")
    node, inner = hashlib.sha256(b"\x00" + text.encode()).digest(), (index ^ (size - 1)).bit_length()  # RFC 6962, section 2.1
    for level, sibling in enumerate(map(bytes.fromhex, record["proof"])):
        is_left = level < inner and not index >> level & 1  # above `inner` levels the leaf is in the last of uneven subtrees
        node = hashlib.sha256(b"\x01" + (node + sibling if is_left else sibling + node)).digest()
    if node != root or len(record["proof"]) != inner + (index >> inner).bit_count():
        raise ValueError("not in the log of the checkpoint")
    return entry


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return dict(pairs)


def _check_named(digests: Mapping[str, str], named: Any) -> Iterator[str]:
    named = named if isinstance(named, dict) else {}
    for name in sorted(named.keys() | digests.keys() - UNNAMED):
        if named.get(name) != digests.get(name, ""):
            how = "not the file that was exported: its SHA-256 is not the one in the log"
            yield f"{name} is {how if name in digests else 'missing, the log names it'}"


def _fingerprint(pem: bytes) -> str:
    return hashlib.sha256(load_pem_public_key(pem).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _check_signed(files: Mapping[str, bytes], digests: Mapping[str, str], entries: list[Any], log_key: bytes) -> Iterator[str]:
    yield from _ended(CHECKPOINT, entries, "key:log", _fingerprint(log_key))
    for place, entry in enumerate(entries):
        if entry["action"] in {"model.registered", "model.signed"} and (signer := entry["details"].get("public_key_sha256")):
            yield from _ended(f"{ENTRIES}: {entry['subject']}", entries[:place], "key:package-signing", signer)
    noted = {entry["subject"]: place for place, entry in enumerate(entries) if entry["action"] == "attestation.signed"}
    named = [(e["subject"], str(e["details"].get("public_key_pem")).encode()) for e in reversed(entries)]
    keys = {hashlib.sha256(pem).hexdigest(): (owner, pem) for owner, pem in named if owner.startswith(("key:", "identity:"))}
    for name in (name for name in digests if name.startswith(("approvals/", "attestations/"))):
        if (place := noted.get(f"attestation:{digests[name]}", -1)) < 0:
            yield f"{name} is a statement that no entry of the log names"
        try:
            envelope = json.loads(files[name], object_pairs_hook=_unique)
            kind, payload = envelope["payloadType"].encode(), base64.b64decode(envelope["payload"], validate=True)
            message = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
            for signature in [envelope["signatures"][0], *envelope["signatures"][1:]]:
                owner, pem = keys[signature["keyid"]]
                key: Any = load_pem_public_key(pem)
                key.verify(base64.b64decode(signature["sig"], validate=True), message, ec.ECDSA(hashes.SHA256()))
                yield from _ended(name, entries[:place], owner, _fingerprint(pem))
        except _WRONG:
            yield f"{name} is not signed by a key that the log names"


def _ended(what: str, before: list[Any], owner: str, fingerprint: Any) -> Iterator[str]:
    """Says that something was signed with a key after entries that revoke it, or its owner, or have the log's key hand over."""
    ends = {"key.revoked": "public_key_sha256", "key.rotated": "previous_sha256" if owner == "key:log" else ""}
    for action, details in ((entry["action"], entry["details"]) for entry in before if entry["subject"] == owner):
        if action == "identity.revoked" or details.get(ends.get(action)) == fingerprint:
            yield f"{what} is signed by key {fingerprint!s:.16} of {owner}, which was {action.partition('.')[2]} before"


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description="Verifies a groundswell evidence bundle.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--key", type=Path, required=True, help="the log's public key, not the bundle's copy")
    parser.add_argument("--file", type=Path, help="a picture or clip: is it what the bundle is about?")
    options = parser.parse_args()
    try:
        verdict = verify_files(read_bundle(options.bundle), options.key.read_bytes())
        if options.file and verdict.subject != f"media:{hashlib.sha256(options.file.read_bytes()).hexdigest()}":
            verdict.problems.append(f"{options.file} is not what the bundle is about")
    except (BundleError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return getattr(error, "exit_code", 3)
    sys.stderr.writelines(f"problem: {problem}\n" for problem in verdict.problems)
    if not verdict.problems:
        sys.stdout.write(f"verified: {verdict.subject}, exported {verdict.exported}; {verdict.num_entries} entries of the log\n")
    return 4 if verdict.problems else 0


if __name__ == "__main__":
    sys.exit(main())
