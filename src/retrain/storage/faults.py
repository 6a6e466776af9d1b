"""What goes wrong between here and a remote folder: what is tried again, how long, and what is said at the end.

Exceptions are told apart by the names of their classes and by codes, so that no protocol's package is imported here.
Their texts are never shown: some hold URLs with signatures.
"""

import errno
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from retrain.errors import CredentialsError, RetrainError, StorageError

_FINAL: dict[type[OSError], int] = {
    FileNotFoundError: errno.ENOENT, PermissionError: errno.EACCES, FileExistsError: errno.EEXIST,
    IsADirectoryError: errno.EISDIR, NotADirectoryError: errno.ENOTDIR,
}  # fmt: skip
_BUSY_STATUS = {408, 425, 429, 500, 502, 503, 504}
_BUSY_CODES = {"SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "OperationAborted", "Throttling"}
_UNREACHED = {
    "EndpointConnectionError", "ClientConnectorError", "ConnectionRefusedError", "gaierror", "ServiceRequestError",
    "ConnectTimeoutError",
}  # fmt: skip
_BROKEN = {
    "HTTPClientError", "ConnectionError", "ClientConnectionError", "ClientPayloadError", "TimeoutError",
    "FSTimeoutError", "IncompleteRead", "ResponseParserError", "ConnectionLost", "DisconnectError",
    "ServiceResponseError", "SFTPConnectionLost", "SFTPNoConnection", "ChannelOpenError", "BrokenPipeError",
}  # fmt: skip
_NO_CREDENTIALS = {
    "NoCredentialsError", "PartialCredentialsError", "NoAuthTokenError", "DefaultCredentialsError", "ProfileNotFound",
    "CredentialRetrievalError", "ClientAuthenticationError", "RefreshError",
}  # fmt: skip
_BAD_HOST_KEY = {"HostKeyNotVerifiable", "KeyExchangeFailed"}
_BAD_KEY_CODES = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired"}
_WHERE_CREDENTIALS_LIE = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ~/.aws/credentials",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or gcloud auth application-default login",
    "abfs": "AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY",
    "abfss": "AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY",
    "sftp": "a key in ~/.ssh, or an agent",
}
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Backoff:
    """How often something is tried, and the longest pause in seconds before each further attempt.

    The n-th pause is drawn between 0 and `first` times 2 to the n-th, at most `longest`: exponential backoff with full
    jitter (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/). A host that does not answer at
    all is tried `unreached` times, for it is more often misspelled than away.
    """

    attempts: int = 9
    first: float = 0.2
    longest: float = 20.0
    unreached: int = 3
    sleep: Callable[[float], None] = time.sleep

    def pause(self, attempt: int) -> None:
        """Wait before the attempt behind the `attempt`-th, counted from 0."""
        self.sleep(random.uniform(0, min(self.longest, self.first * 2**attempt)))

    def goes_on(self, error: BaseException, attempt: int) -> bool:
        """Return whether something that failed at the `attempt`-th time, counted from 0, is worth another one."""
        if not is_transient(error):
            return False
        return attempt + 1 < (self.unreached if _names(error) & _UNREACHED else self.attempts)


def retried(work: Callable[[int], _Result], what: object, backoff: Backoff) -> _Result:
    """Return what `work` returns, called with the number of the attempt until it succeeds.

    Raises:
        OSError: `what` is not there or not to be used, which no attempt changes: the built-in class that says so.
        StorageError: All attempts failed, or the storage cannot be used as it is configured.
    """
    attempt = 0
    while True:
        try:
            return work(attempt)
        except RetrainError:
            raise
        except Exception as error:
            if not backoff.goes_on(error, attempt):
                raise final(error, what) from error
        backoff.pause(attempt)
        attempt += 1


def is_transient(error: BaseException) -> bool:
    """Return whether the same request may well succeed later."""
    if isinstance(error, tuple(_FINAL)) or _credentials_fail(error) or _names(error) & _BAD_HOST_KEY:
        return False
    if codes(error) & _BUSY_CODES or _statuses(error) & _BUSY_STATUS:
        return True
    return not _statuses(error) and bool(_names(error) & (_UNREACHED | _BROKEN))


def final(error: BaseException, what: object) -> OSError | StorageError:
    """Return what to raise for an error that is not tried again, without the texts of other packages.

    Of what is missing or forbidden, it is the same built-in class with the URL; of everything else a `StorageError`.
    """
    if _credentials_fail(error):
        where = _WHERE_CREDENTIALS_LIE.get(str(what).partition("://")[0], "the tools of its service")
        return CredentialsError(f"{what}: no valid credentials. They are read from {where}.")
    for kind, usual in _FINAL.items():
        if isinstance(error, kind):
            number = error.errno or usual
            return kind(number, os.strerror(number), str(what))
    return StorageError(f"{what}: {_reason(error)}")


def _reason(error: BaseException) -> str:
    names = _names(error)
    if names & _BAD_HOST_KEY:
        return "the host's key is not in ~/.ssh/known_hosts. Connect once with ssh, and check the key there."
    if names & _UNREACHED:
        return "the server does not answer. Check the URL, the endpoint (AWS_ENDPOINT_URL for s3://) and the network."
    if codes(error) & _BUSY_CODES or _statuses(error) & _BUSY_STATUS:
        return "the server is too busy, at every attempt. Run again later: nothing that was done is lost."
    if names & _BROKEN:
        return "the connection broke, at every attempt. Run again: nothing that was done is lost."
    if {"NoRegionError", "InvalidRegionError"} & names:
        return "no region is configured. Set AWS_DEFAULT_REGION."
    if isinstance(error, ValueError):
        return "its configuration makes no sense. Check the URL, and the endpoint (AWS_ENDPOINT_URL for s3://)."
    said = sorted(codes(error)) or sorted(map(str, _statuses(error))) or [type(error).__name__]
    return f"the storage refuses it ({said[0]}). Check the URL and the permissions."


def _credentials_fail(error: BaseException) -> bool:
    return bool(_names(error) & _NO_CREDENTIALS or codes(error) & _BAD_KEY_CODES) or (
        # asyncssh: the user may not log in. A file's own permissions are another class.
        any(type(each).__module__.startswith("asyncssh") and type(each).__name__ == "PermissionDenied"
            for each in _chain(error))
    )  # fmt: skip


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and those that caused it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _names(error: BaseException) -> set[str]:
    return {kind.__name__ for each in _chain(error) for kind in type(each).__mro__}


def codes(error: BaseException) -> set[str]:
    """Return the codes in the answers of an S3 or Azure server, "SlowDown" say."""
    found = set()
    for each in _chain(error):
        answer = getattr(each, "response", None)
        if isinstance(answer, dict):
            found.add(str(answer.get("Error", {}).get("Code", "")))
        found.add(str(getattr(each, "error_code", None) or ""))
    return found - {""}


def _statuses(error: BaseException) -> set[int]:
    """Return the HTTP statuses in the answers of a server."""
    found = set()
    for each in _chain(error):
        if type(each).__module__ == "aiohttp.http_exceptions":  # what broke off, to which aiohttp itself gives a status
            continue
        answer = getattr(each, "response", None)
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(answer, dict) else None
        found |= {
            status,
            getattr(each, "status_code", None),
            getattr(each, "status", None),
            getattr(each, "code", None),
        }
    return {status for status in found if isinstance(status, int) and 100 <= status < 600}
