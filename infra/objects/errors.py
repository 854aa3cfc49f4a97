"""What goes wrong with an object store, in one line of ours that names the store and the cause, and holds no secret."""

from collections.abc import Iterator
from contextlib import contextmanager

from governance.errors import GovernanceError, IntegrityError
from infra.errors import BackendUnavailableError, InfraError

_CREDENTIALS = "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, and that they are for this endpoint"
_REACH = "check AWS_ENDPOINT_URL and that the server runs; what was sent already is not sent again"
_ROOM = "free some space or raise the quota; what was sent already is not sent again"
_LATER = "try again later; what was sent already is not sent again"
_BUCKET = "make the bucket, or name another in GROUNDSWELL_ARTIFACT_ROOT"

_BY_CODE = {
    "NoSuchBucket": ("there is no such bucket", _BUCKET),
    "InvalidBucketName": ("that is no name of a bucket", _BUCKET),
    "InvalidAccessKeyId": ("the server does not know the access key", _CREDENTIALS),
    "SignatureDoesNotMatch": ("the secret key is wrong", _CREDENTIALS),
    "ExpiredToken": ("the credentials have expired", "get new ones and try again; what was sent already is not sent again"),
    "InvalidToken": ("the session token is not valid", _CREDENTIALS),
    "AuthorizationHeaderMalformed": ("the credentials are malformed, or for another region", f"{_CREDENTIALS} and region"),
    "RequestTimeTooSkewed": ("this machine's clock differs from the server's", "set the clock"),
    "AccessDenied": ("the credentials do not allow it", "they must allow to list the bucket, and to read and write its objects"),
    "NoSuchKey": ("an object is gone", "restore the artifact store from a backup"),
    "PreconditionFailed": ("an object was changed while it was read", _LATER),
    "InsufficientStorage": ("it has no room left", _ROOM),
    "SlowDown": ("it asks to slow down", _LATER),
    "ServiceUnavailable": ("it is not available", _LATER),
    "InternalError": ("it has an internal error", _LATER),
    "RequestTimeout": ("it did not get the data in time", _REACH),
}
_SAME_AS = {
    "404": "NoSuchKey",
    "412": "PreconditionFailed",
    "403": "AccessDenied",
    "Forbidden": "AccessDenied",
    "AllAccessDisabled": "AccessDenied",
    "AccountProblem": "AccessDenied",
    "Unauthorized": "InvalidAccessKeyId",
    "ExpiredTokenException": "ExpiredToken",
    "TokenRefreshRequired": "ExpiredToken",
    "RequestExpired": "ExpiredToken",
    "507": "InsufficientStorage",
    "XMinioStorageFull": "InsufficientStorage",
    "XMinioAdminBucketQuotaExceeded": "InsufficientStorage",
    "QuotaExceeded": "InsufficientStorage",
    "EntityTooLarge": "InsufficientStorage",
    "SlowDownRead": "SlowDown",
    "SlowDownWrite": "SlowDown",
    "429": "SlowDown",
    "TooManyRequests": "SlowDown",
    "502": "ServiceUnavailable",
    "503": "ServiceUnavailable",
    "504": "ServiceUnavailable",
    "500": "InternalError",
}
_BY_TYPE = {
    "NoCredentialsError": ("there are no credentials", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
    "PartialCredentialsError": ("the credentials are not complete", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
    "CredentialRetrievalError": ("no credentials could be had", _CREDENTIALS),
    "NoRegionError": ("no region is named", "set AWS_DEFAULT_REGION"),
    "ParamValidationError": ("that is no name of a bucket or object", _BUCKET),
    "InvalidEndpointConfigurationError": ("its endpoint cannot be used", "check AWS_ENDPOINT_URL"),
    "EndpointConnectionError": ("it cannot be reached", _REACH),
    "ProxyConnectionError": ("the proxy before it cannot be reached", "check HTTPS_PROXY"),
    "ConnectTimeoutError": ("it cannot be reached in time", _REACH),
    "ReadTimeoutError": ("it does not answer in time", _REACH),
    "FSTimeoutError": ("it does not answer in time", _REACH),
    "ConnectionClosedError": ("it closed the connection", _REACH),
    "IncompleteReadError": ("the connection broke", _REACH),
    "ResponseStreamingError": ("the connection broke", _REACH),
    "ClientPayloadError": ("the connection broke", _REACH),
    "HTTPClientError": ("the connection broke", _REACH),
    "SSLError": ("its certificate cannot be verified, or it speaks no TLS", "check AWS_ENDPOINT_URL and AWS_CA_BUNDLE"),
    "ResponseParserError": ("its answer is none of an S3 server's", "check AWS_ENDPOINT_URL"),
}
_DAMAGED_ON_THE_WAY = frozenset({"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"})
_FOREIGN = ("botocore.", "aiobotocore.", "aiohttp.", "s3fs.", "fsspec.", "urllib3.", "requests.")


@contextmanager
def translated_store_errors(where: str, *, name: str = "") -> Iterator[None]:
    """Turns what an object store's libraries raise into our errors; ours pass through.

    Args:
        where: The store as an error names it.
        name: The object that is being read or written, if it is one.

    Raises:
        BackendUnavailableError: The store is out of reach, full, or refuses the credentials.
        IntegrityError: An object was damaged on its way.
    """
    try:
        yield
    except (InfraError, GovernanceError):
        raise
    except Exception as error:
        code = error_code(error)
        if not code and not isinstance(error, OSError) and not type(error).__module__.startswith(_FOREIGN):
            raise
        if code in _DAMAGED_ON_THE_WAY:
            raise IntegrityError(
                f"{name or 'an object'} of {where} was damaged on its way: {code}",
                hint="try again; if it stays, check the network",
            ) from error
        cause, hint = _explained(error, code)
        raise BackendUnavailableError(f"the artifact store {where} does not work: {cause}", hint=hint) from error


def error_code(error: BaseException | None) -> str:
    """Returns the S3 code of an error, or of what caused it, such as ``NoSuchBucket``; "" where it is no server's answer."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code") or response["ResponseMetadata"]["HTTPStatusCode"])
        error = error.__cause__
    return ""


def _explained(error: Exception, code: str) -> tuple[str, str]:
    if code:
        return _BY_CODE.get(_SAME_AS.get(code, code), (f"it answers {code:.60}", "see the server's log"))
    for kind in type(error).__mro__:
        if kind.__name__ in _BY_TYPE and kind is not Exception:
            return _BY_TYPE[kind.__name__]
    if isinstance(error, OSError) and error.strerror:
        return error.strerror, "check the disk, its free space and its permissions"
    return type(error).__name__, "see `--debug` for more"
