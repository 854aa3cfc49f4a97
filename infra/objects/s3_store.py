"""A folder of files below a prefix of an S3 bucket: many at once, verified, taken up where an attempt was interrupted."""

import hashlib
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from governance.digest import sha256_file
from governance.errors import IntegrityError
from infra.objects.s3_bucket import Listed, S3Bucket, Tally, etag, for_each, in_order, stored_sha256, workers
from infra.objects.s3_upload import PART_BYTES, LocalFile, Uploader
from infra.objects.store import MAX_OBJECTS, PARTIAL, Progress, changed, check_names, checked_listing, checked_name, local_errors


class S3Store:
    """The files below a prefix.

    Args:
        location: ``s3://bucket/prefix``.

    Raises:
        BadSettingError: The URL names no bucket.
    """

    def __init__(self, location: str) -> None:
        self._bucket = S3Bucket(location)

    def check(self) -> None:
        """Asks whether the bucket is there and can be listed."""
        self._bucket.list(limit=1)

    def put(self, files: Mapping[str, Path], progress: Progress) -> None:
        """Stores files that the bucket does not hold yet, and verifies that it holds all of them then."""
        bucket = self._bucket
        with local_errors(Path("a file to be stored")):
            listed = {item.name for item in bucket.list(limit=MAX_OBJECTS)}
            local = self._hashed(files)
            uploader = Uploader(bucket, Tally(sum(file.size for file in local.values()), progress))
            small = [(name, file) for name, file in local.items() if len(file.parts) == 1]
            with workers() as pool:
                for_each(pool, lambda item: uploader.put(item[1], is_listed=item[0] in listed), small)
                for name, file in local.items():
                    if len(file.parts) > 1:
                        uploader.put_parts(file, pool, is_listed=name in listed)
                sizes = {item.name: item.size for item in bucket.list(limit=MAX_OBJECTS)}
                for_each(pool, uploader.verify, [file for name, file in local.items() if sizes.get(name) != file.size])

    def verify(self, files: Mapping[str, Path], unchecked: Collection[str]) -> None:
        """Verifies that exactly these files are stored: by each object's metadata and the server's checksum or ETag."""
        with local_errors(Path("a file that was stored")), workers() as pool:
            names = [item.name for item in self._bucket.list(limit=MAX_OBJECTS)]
            check_names(names, files, where=self._bucket.where)
            checked = self._hashed({name: path for name, path in files.items() if name not in unchecked})
            for_each(pool, Uploader(self._bucket, Tally(0, lambda *_: None)).verify, checked.values())

    def get(self, folder: Path, progress: Progress) -> None:
        """Brings every object into a folder."""
        listed = self._bucket.list(limit=MAX_OBJECTS)
        checked_listing({item.name: item.size for item in listed}, where=self._bucket.where, folder=folder)
        done = Tally(sum(item.size for item in listed), progress)
        with local_errors(folder), workers() as pool:
            small = [item for item in listed if item.size <= PART_BYTES]
            for_each(pool, lambda item: self._get(item, folder, done), small)
            for item in listed:
                if item.size > PART_BYTES:
                    self._get_ranges(item, folder, done, pool)

    def _hashed(self, files: Mapping[str, Path]) -> dict[str, LocalFile]:
        bucket = self._bucket
        return {
            checked_name(name, where=bucket.where): LocalFile.read(path, bucket.prefix + name)
            for name, path in sorted(files.items())
        }

    def _get(self, item: Listed, folder: Path, done: Tally) -> None:
        answer, body = self._bucket.fetch(Key=self._bucket.prefix + item.name)
        self._expect(item, hashlib.sha256(body).hexdigest(), answer)
        partial = _partial(folder, item.name)
        partial.write_bytes(body)
        _publish(partial, folder / item.name)
        done.add(item.size)

    def _get_ranges(self, item: Listed, folder: Path, done: Tally, pool: ThreadPoolExecutor) -> None:
        """Brings a large object; what an interrupted attempt brought of the same object is kept."""
        answer = self._bucket.head(self._bucket.prefix + item.name)
        target = folder / item.name
        if target.is_file() and sha256_file(target) == stored_sha256(answer):
            done.add(item.size)
            return
        partial = _partial(folder, f"{item.name}\n{etag(answer)}")
        is_resumed = partial.exists()
        digest = self._append(item, answer, partial, done, pool)
        if is_resumed and digest != stored_sha256(answer):
            partial.unlink()
            done.add(-item.size)
            digest = self._append(item, answer, partial, done, pool)
        try:
            self._expect(item, digest, answer)
        except IntegrityError:
            partial.unlink()
            raise
        _publish(partial, target)

    def _append(self, item: Listed, answer: Mapping[str, Any], partial: Path, done: Tally, pool: ThreadPoolExecutor) -> str:
        """Appends what a partial file lacks of an object, and returns the SHA-256 of all of it."""

        def fetch(offset: int) -> bytes:
            size = min(PART_BYTES, item.size - offset)
            return self._bucket.fetch_range(self._bucket.prefix + item.name, offset, size, etag(answer))

        digest = hashlib.sha256()
        with partial.open("a+b") as file:
            file.truncate(min(file.tell(), item.size))
            file.seek(0)
            while block := file.read(PART_BYTES):
                digest.update(block)
                done.add(len(block))
            for block in in_order(pool, fetch, range(file.tell(), item.size, PART_BYTES)):
                file.write(block)
                digest.update(block)
                done.add(len(block))
        return digest.hexdigest()

    def _expect(self, item: Listed, digest: str, answer: Mapping[str, Any]) -> None:
        expected = stored_sha256(answer)
        if expected is not None and digest != expected:
            raise changed(item.name, self._bucket.where, expected=expected, found=digest)


def _partial(folder: Path, identity: str) -> Path:
    path = folder / PARTIAL / hashlib.sha256(identity.encode()).hexdigest()
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _publish(partial: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial.replace(target)
