"""Uploads of single files to S3, verified, in parallel parts where they are large, and taken up where they were interrupted.

An object's SHA-256 is in its metadata; S3's own checksums (``x-amz-checksum-sha256``) and MD5 go with each request, so that a
server refuses damaged bytes. Then the server's checksum or ETag is compared with the local bytes; where it gives neither, as with
SSE-KMS on a server without checksums, the object is read back.

An interrupted upload of many parts is found again by its key, and its parts are compared with the local bytes; only those that it
lacks are sent. Reference: Amazon S3 User Guide, "Uploading and copying objects using multipart upload in Amazon S3" and "Checking
object integrity in Amazon S3".
"""

import base64
import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from governance.errors import IntegrityError
from infra.errors import BackendUnavailableError
from infra.objects.errors import error_code
from infra.objects.s3_bucket import SHA256, S3Bucket, Tally, etag, stored_sha256

PART_BYTES = 16 << 20
_MAX_PARTS = 10_000  # S3's own bound
_GONE = frozenset({"404", "NoSuchKey", "NotFound"})
_NO_UPLOADS = frozenset({"NoSuchUpload"})  # what rclone's server answers where there are none at all
_CANNOT_LIST = frozenset({"AccessDenied", "403", "NotImplemented", "MethodNotAllowed", "501", "405"})

Answer = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A range of a local file, with its digests."""

    offset: int
    size: int
    sha256: bytes
    md5: bytes


@dataclass(frozen=True, kw_only=True)
class LocalFile:
    """A local file with the digests that a server may answer with.

    Attributes:
        key: The key of its object.
        path: Where it is.
        size: Bytes.
        sha256: Of all of it, hexadecimal.
        parts: The parts that it is sent in; one, unless it is larger than a part.
    """

    key: str
    path: Path
    size: int
    sha256: str
    parts: tuple[Part, ...]

    @classmethod
    def read(cls, path: Path, key: str) -> "LocalFile":
        """Hashes a file."""
        size = path.stat().st_size
        part_size = max(PART_BYTES, -(-size // _MAX_PARTS))  # the same at each attempt, so that parts can be compared
        whole = hashlib.sha256()
        parts = []
        with path.open("rb") as file:
            for offset in range(0, max(size, 1), part_size):
                block = file.read(part_size)
                whole.update(block)
                md5 = hashlib.md5(block, usedforsecurity=False).digest()
                parts.append(Part(offset=offset, size=len(block), sha256=hashlib.sha256(block).digest(), md5=md5))
        return cls(key=key, path=path, size=size, sha256=whole.hexdigest(), parts=tuple(parts))

    def block(self, part: Part) -> bytes:
        """Returns the bytes of a part.

        Raises:
            IntegrityError: They changed since they were hashed.
        """
        with self.path.open("rb") as file:
            file.seek(part.offset)
            block = file.read(part.size)
        if hashlib.sha256(block).digest() != part.sha256:
            raise IntegrityError(f"{self.path} changed while it was stored", hint="try again")
        return block

    def agrees(self, answer: Answer) -> bool:
        """Returns whether a server's checksum, or else its ETag, shows that it holds these bytes."""
        checksum = answer.get("ChecksumSHA256")
        return str(checksum).partition("-")[0] in self._checksums if checksum else etag(answer) == self._etag

    @cached_property
    def _etag(self) -> str:
        """MD5; of many parts, MD5 of the parts' MD5s, and their number."""
        if len(self.parts) == 1:
            return self.parts[0].md5.hex()
        joined = b"".join(part.md5 for part in self.parts)
        return f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(self.parts)}"

    @cached_property
    def _checksums(self) -> frozenset[str]:
        """SHA-256 of the whole, and of the parts' SHA-256s."""
        joined = b"".join(part.sha256 for part in self.parts)
        return frozenset({_base64(bytes.fromhex(self.sha256)), _base64(hashlib.sha256(joined).digest())})


class Uploader:
    """Stores files in a bucket that does not hold them yet.

    Args:
        bucket: Where they go.
        done: Counts their bytes.
    """

    def __init__(self, bucket: S3Bucket, done: Tally) -> None:
        self._bucket = bucket
        self._done = done

    def put(self, file: LocalFile, *, is_listed: bool) -> None:
        """Stores a file that is no larger than a part.

        Args:
            file: The file.
            is_listed: Whether there is an object of its key; it is left alone if it holds the file.

        Raises:
            IntegrityError: The bucket does not hold what was sent.
            BackendUnavailableError: The store is out of reach, full, or refuses the credentials.
        """
        if not (is_listed and self._holds(file)):
            part = file.parts[0]
            metadata = {SHA256: file.sha256}
            answer = self._bucket.call(
                "put_object", Key=file.key, Body=file.block(part), Metadata=metadata, **_checksums_of(part)
            )
            if not file.agrees(answer):
                self.verify(file)
        self._done.add(file.size)

    def put_parts(self, file: LocalFile, pool: ThreadPoolExecutor, *, is_listed: bool) -> None:
        """Stores a file that is larger than a part, as `put` does; an unfinished upload of it is taken up."""
        if is_listed and self._holds(file):
            self._done.add(file.size)
            return
        upload_id, kept = self._unfinished(file)
        # What an upload was begun for cannot be asked: its object may turn out to carry the metadata of other content.
        if upload_id:
            completed = self._complete(file, upload_id, kept, pool)
            if self._holds(file):
                return
            if completed:
                self._done.add(-file.size)
        metadata = {SHA256: file.sha256}
        begun = self._bucket.call("create_multipart_upload", Key=file.key, ChecksumAlgorithm="SHA256", Metadata=metadata)
        self._complete(file, begun["UploadId"], {}, pool)
        self.verify(file)

    def verify(self, file: LocalFile) -> None:
        """Verifies that the bucket holds a file; reads it back where the server says too little.

        Raises:
            IntegrityError: The bucket does not hold what was sent.
        """
        if self._holds(file):
            return
        name = self._bucket.name(file.key)
        answer = self._ask(file)
        if answer is None:
            raise IntegrityError(f"{name} of {self._bucket.where} is gone", hint="check the store, and try again")
        digest = hashlib.sha256()
        size = answer["ContentLength"]
        for offset in range(0, size, PART_BYTES):
            digest.update(self._bucket.fetch_range(file.key, offset, min(PART_BYTES, size - offset), etag(answer)))
        if digest.hexdigest() != file.sha256 or stored_sha256(answer) not in {None, file.sha256}:
            raise IntegrityError(f"{name} of {self._bucket.where} is not what was sent", hint="check the store, and try again")

    def _holds(self, file: LocalFile) -> bool:
        """Returns whether the bucket holds a file, by what the server says of it."""
        answer = self._ask(file)
        if answer is None or answer["ContentLength"] != file.size or stored_sha256(answer) != file.sha256:
            return False
        return file.agrees(answer)

    def _ask(self, file: LocalFile) -> Answer | None:
        try:
            answer: Answer = self._bucket.head(file.key)
        except BackendUnavailableError as error:
            if error_code(error) not in _GONE:
                raise
            return None
        return answer

    def _complete(self, file: LocalFile, upload_id: str, kept: Mapping[int, Answer], pool: ThreadPoolExecutor) -> bool:
        """Sends the parts that an upload lacks, and completes it; returns whether it was still there."""
        counted: list[int] = []

        def send(number: int) -> dict[str, Any]:
            part = file.parts[number - 1]
            answer = kept.get(number) or self._bucket.call(
                "upload_part",
                Key=file.key,
                UploadId=upload_id,
                PartNumber=number,
                Body=file.block(part),
                **_checksums_of(part),
            )
            counted.append(part.size)
            self._done.add(part.size)
            checksum = answer.get("ChecksumSHA256")
            return {"PartNumber": number, "ETag": answer["ETag"]} | ({"ChecksumSHA256": checksum} if checksum else {})

        try:
            parts = list(pool.map(send, range(1, len(file.parts) + 1)))
            self._bucket.call("complete_multipart_upload", Key=file.key, UploadId=upload_id, MultipartUpload={"Parts": parts})
        except BackendUnavailableError as error:
            if error_code(error) != "NoSuchUpload":
                raise
            self._done.add(-sum(counted))  # another process completed or aborted it
            return False
        return True

    def _unfinished(self, file: LocalFile) -> tuple[str, dict[int, Answer]]:
        """Returns the upload of this file that has come furthest, and its parts by number; all others of its key are aborted."""
        best: tuple[str, dict[int, Answer]] = ("", {})
        try:
            uploads = self._bucket.call("list_multipart_uploads", Prefix=file.key).get("Uploads", ())
        except BackendUnavailableError as error:
            if error_code(error) not in _CANNOT_LIST | _NO_UPLOADS:
                raise
            return best
        for upload_id in [upload["UploadId"] for upload in uploads if upload["Key"] == file.key]:
            parts = self._parts(file, upload_id)
            stale = upload_id
            if len(parts) > len(best[1]) and all(_is_part(file, number, part) for number, part in parts.items()):
                best, stale = (upload_id, parts), best[0]
            if stale:
                self._abort(file, stale)
        return best

    def _parts(self, file: LocalFile, upload_id: str) -> dict[int, Answer]:
        found: dict[int, Answer] = {}
        while True:
            try:
                page = self._bucket.call("list_parts", Key=file.key, UploadId=upload_id, PartNumberMarker=max(found, default=0))
            except BackendUnavailableError as error:
                if error_code(error) != "NoSuchUpload":
                    raise
                return {}
            new = {part["PartNumber"]: part for part in page.get("Parts", ())}
            if not new.keys() - found.keys() or len(found) > _MAX_PARTS:
                return found
            found |= new
            if not page.get("IsTruncated"):
                return found

    def _abort(self, file: LocalFile, upload_id: str) -> None:
        try:
            self._bucket.call("abort_multipart_upload", Key=file.key, UploadId=upload_id)
        except BackendUnavailableError as error:
            if error_code(error) not in {"NoSuchUpload", *_CANNOT_LIST}:
                raise


def _is_part(file: LocalFile, number: int, answer: Answer) -> bool:
    if not 1 <= number <= len(file.parts):
        return False
    part = file.parts[number - 1]
    checksum = answer.get("ChecksumSHA256")
    same = checksum == _base64(part.sha256) if checksum else etag(answer) == part.md5.hex()
    return bool(answer["Size"] == part.size and same)


def _checksums_of(part: Part) -> dict[str, str]:
    return {"ContentMD5": _base64(part.md5), "ChecksumSHA256": _base64(part.sha256)}


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()
