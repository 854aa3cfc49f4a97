"""Requests to one bucket of S3-compatible storage, through s3fs: bounded in time, their errors told in one line of ours."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from threading import Lock
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from governance.errors import IntegrityError
from infra.errors import BadSettingError
from infra.objects.errors import translated_store_errors
from infra.settings import storage_environment, without_password

Item = TypeVar("Item")

NUM_WORKERS = 8
SHA256 = "sha256"
"""The metadata that holds an object's SHA-256, hexadecimal."""
_PAGE = 1000  # S3's own bound
_CONNECT_TIMEOUT_S = 5
_READ_TIMEOUT_S = 15
_NUM_ATTEMPTS = 3  # by botocore: connections, 5xx, SlowDown, with back-off
_NUM_STREAM_ATTEMPTS = 3  # where a body breaks off
_NO_METADATA_SERVICE = {"metadata_service_num_attempts": (None, "AWS_METADATA_SERVICE_NUM_ATTEMPTS", 0, int)}
_BROKEN_STREAM = frozenset({"ClientPayloadError", "IncompleteReadError", "ResponseStreamingError", "ReadTimeoutError"})


@dataclass(frozen=True, kw_only=True)
class Listed:
    """An object as a listing has it; the name is its key below the prefix."""

    name: str
    size: int


class S3Bucket:
    """The objects below a prefix of a bucket.

    Credentials and endpoint are those of the standard ``AWS_*`` variables, which botocore reads. A machine's own metadata service
    is asked for credentials only where ``AWS_METADATA_SERVICE_NUM_ATTEMPTS`` says so.

    Args:
        location: ``s3://bucket/prefix``.

    Raises:
        BadSettingError: The URL names no bucket.
    """

    def __init__(self, location: str) -> None:
        parts = urlsplit(location)
        self._bucket = unquote(parts.netloc)
        prefix = unquote(parts.path).strip("/")
        if not self._bucket or "@" in self._bucket or parts.query or parts.fragment:
            raise BadSettingError(f"{without_password(location)} names no bucket", hint="write s3://bucket/prefix")
        self.prefix = f"{prefix}/" if prefix else ""
        self._location = f"s3://{self._bucket}/{prefix}".rstrip("/")

    @property
    def where(self) -> str:
        """The prefix as an error names it, with the endpoint."""
        return f"{self._location} at {self._endpoint}"

    def call(self, method: str, **arguments: Any) -> Any:
        """Makes a request of botocore's S3 client, with the bucket filled in.

        Raises:
            BackendUnavailableError: It failed; `infra.objects.errors.error_code` gives S3's code.
            IntegrityError: The server found the bytes damaged.
        """
        with translated_store_errors(self.where, name=self.name(arguments.get("Key", ""))):
            return self._files.call_s3(method, Bucket=self._bucket, **arguments)

    def head(self, key: str) -> Any:
        """Returns what the server says of an object."""
        return self.call("head_object", Key=key, ChecksumMode="ENABLED")

    def fetch(self, **arguments: Any) -> tuple[Any, bytes]:
        """Returns an object, or a range of it, with what the server says of it; a connection that breaks is tried anew."""
        from fsspec.asyn import sync

        for attempt in range(1, _NUM_STREAM_ATTEMPTS + 1):
            answer = self.call("get_object", **arguments)
            with translated_store_errors(self.where, name=self.name(arguments["Key"])):
                try:
                    return answer, bytes(sync(self._files.loop, answer["Body"].read))
                except Exception as error:
                    answer["Body"].close()
                    if type(error).__name__ not in _BROKEN_STREAM or attempt == _NUM_STREAM_ATTEMPTS:
                        raise
        raise AssertionError("the last attempt returns or raises")

    def fetch_range(self, key: str, offset: int, size: int, etag: str) -> bytes:
        """Returns bytes of an object as long as it still has this ETag.

        Raises:
            IntegrityError: The server gives fewer.
        """
        body = self.fetch(Key=key, Range=f"bytes={offset}-{offset + size - 1}", IfMatch=f'"{etag}"')[1]
        if len(body) != size:
            raise IntegrityError(f"{self.name(key)} of {self.where} gives {len(body):,} bytes where {size:,} were asked for")
        return body

    def list(self, *, limit: int) -> list[Listed]:
        """Returns the objects below the prefix, or a few more than the limit of them."""
        found: list[Listed] = []
        token: dict[str, str] = {}
        while True:
            page = self.call("list_objects_v2", Prefix=self.prefix, MaxKeys=min(limit + 1, _PAGE), **token)
            for item in page.get("Contents", ()):
                name, size = self.name(item["Key"]), int(item["Size"])
                if size or (name and not name.endswith("/")):  # consoles mark folders by empty objects
                    found.append(Listed(name=name, size=size))
            if not page.get("IsTruncated") or len(found) > limit:
                return found
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def name(self, key: str) -> str:
        """Returns a key without the prefix."""
        return key.removeprefix(self.prefix)

    @cached_property
    def _files(self) -> Any:
        return _file_system(storage_environment())

    @cached_property
    def _endpoint(self) -> str:
        with translated_store_errors(self._location):
            return without_password(str(self._files.s3.meta.endpoint_url))


@lru_cache(maxsize=2)
def _file_system(_: tuple[str | None, ...]) -> Any:
    """Returns s3fs's file system for what is in the environment now; a client takes a quarter of a second to make."""
    import s3fs

    # Checksums are given where they are wanted; unasked, botocore would send some that not every server knows.
    config = {
        "connect_timeout": _CONNECT_TIMEOUT_S,
        "read_timeout": _READ_TIMEOUT_S,
        "retries": {"total_max_attempts": _NUM_ATTEMPTS, "mode": "standard"},
        "max_pool_connections": NUM_WORKERS,
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
    }
    files = s3fs.S3FileSystem(session_vars=_NO_METADATA_SERVICE, config_kwargs=config, skip_instance_cache=True)
    files.retries = 1  # botocore retries
    return files


class Tally:
    """Adds up the bytes that are done, and tells; safe to share between threads."""

    def __init__(self, total: int, progress: Callable[[int, int], None]) -> None:
        self._total = total
        self._progress = progress
        self._done = 0
        self._lock = Lock()

    def add(self, size: int) -> None:
        """Counts bytes as done, or with a negative size as not done after all."""
        with self._lock:
            self._done += size
            self._progress(self._done, self._total)


@contextmanager
def workers() -> Iterator[ThreadPoolExecutor]:
    """Gives threads for requests; what has not begun when the block ends early is left out."""
    pool = ThreadPoolExecutor(NUM_WORKERS, thread_name_prefix="s3")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def for_each(pool: ThreadPoolExecutor, work: Callable[[Item], object], items: Iterable[Item]) -> None:
    """Does work for each item beside each other, and raises the first error."""
    deque(pool.map(work, items), maxlen=0)


def in_order(pool: ThreadPoolExecutor, work: Callable[[Item], bytes], items: Iterable[Item]) -> Iterator[bytes]:
    """Yields the results for each item in order, with a bounded number of them ahead."""
    waiting: deque[Future[bytes]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) >= NUM_WORKERS:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def stored_sha256(answer: Mapping[str, Any]) -> str | None:
    """Returns the SHA-256 in an object's metadata; None where the server keeps no metadata, or has lost it.

    Names of metadata have no case; some servers answer with another one than they were given.
    """
    return next((str(value) for name, value in answer["Metadata"].items() if name.lower() == SHA256), None)


def etag(answer: Mapping[str, Any]) -> str:
    """Returns the ETag of a server's answer, without its quotes."""
    return str(answer.get("ETag", "")).strip('"')
