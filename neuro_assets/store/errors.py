"""Turns what a file system or an S3 server throws into one line that says what to do.

Only the wording and the choice between permanent and transient live here.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from neuro_assets.outcomes import NeuroAssetsError, PermanentFailure, TransientFailure

_FULL = {errno.ENOSPC, errno.EDQUOT}
_ODD = {errno.EISDIR, errno.ELOOP}
_DENIED = {errno.EACCES, errno.EPERM}
_GONE = {
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.ENOTCONN,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.ECONNRESET,
    errno.ECONNREFUSED,
    errno.ECONNABORTED,
    errno.EPIPE,
    errno.EBUSY,
    errno.EREMOTEIO if hasattr(errno, "EREMOTEIO") else errno.EIO,
}
WRITE_ERRORS = _FULL | {errno.EFBIG, errno.EROFS}
"""Numbers that only a write can give."""

_WRONG_KEY = {"SignatureDoesNotMatch", "InvalidAccessKeyId", "InvalidToken", "ExpiredToken"}


class NotAFileError(PermanentFailure):
    """Where a file of the store should be there is a folder, a pipe or a device."""


_HDF5_ERRNO = re.compile(r"errno = (\d+)")


def error_number(error: BaseException) -> int | None:
    """Find the errno of an error, also where a library only prints it.

    Parameters
    ----------
    error : BaseException
        Any exception; HDF5 hides the number in its text, others in the cause.

    Returns
    -------
    int or None
        The errno.
    """
    for link in causes(error):
        if isinstance(link, OSError) and link.errno:
            return link.errno
        if found := _HDF5_ERRNO.search(str(link)):
            return int(found[1])
    return None


def causes(error: BaseException) -> list[BaseException]:
    """List what led to an error, the error itself first."""
    found: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in found:
        found.append(link)
        link = link.__cause__ or link.__context__
    return found


def server_code(error: BaseException) -> str | None:
    """Find the error code that an S3 server answered with.

    Parameters
    ----------
    error : BaseException
        An exception of s3fs or botocore.

    Returns
    -------
    str or None
        `NoSuchBucket`, `SignatureDoesNotMatch`, `403`, ...
    """
    for link in (error, error.__cause__, error.__context__):
        response = getattr(link, "response", None)
        if isinstance(response, dict):
            return response.get("Error", {}).get("Code")
    return None


def explain(error: BaseException, where: str) -> NeuroAssetsError | None:
    """Say in one line what happened to the store and what a person has to do.

    Parameters
    ----------
    error : BaseException
        What a file system, fsspec or botocore raised.
    where : str
        The store's address, or a folder. Never holds a secret.

    Returns
    -------
    NeuroAssetsError or None
        Permanent where trying again cannot help; transient where it may; None where the error is
        none of the store's surroundings (a bug, a missing file).
    """
    code = server_code(error)
    if code is not None:
        return _explain_server(code, where)
    if _is_network(error):
        return TransientFailure(
            f"the connection to the store {where} failed ({type(error).__name__}): check that the "
            "server is up and the address is right; the step can be run again, nothing was lost"
        )
    if "Credentials" in type(error).__name__:
        return PermanentFailure(
            f"no credentials for the store {where}: set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY (or a profile) in the environment of the platform"
        )
    return _explain_number(error_number(error), where)


def _explain_server(code: str, where: str) -> NeuroAssetsError:
    if code in _WRONG_KEY:
        return PermanentFailure(
            f"the store {where} refused the credentials ({code}): check the access key and the "
            "secret key of the platform"
        )
    if code in {"AccessDenied", "AllAccessDisabled", "403"}:
        return PermanentFailure(
            f"the store {where} denied access ({code}): check the access key, and that it may "
            "list, read, write and delete in this bucket"
        )
    if code == "NoSuchBucket":
        return PermanentFailure(f"the bucket of the store {where} does not exist: create it")
    if code in {"RequestTimeTooSkewed"}:
        return PermanentFailure(
            f"the store {where} says that this machine's clock is wrong ({code}): set the clock"
        )
    if code.startswith("5") or code in {"SlowDown", "ServiceUnavailable", "InternalError"}:
        return TransientFailure(
            f"the store {where} is not able to answer now ({code}): run the step again later"
        )
    if code in {"RequestTimeout", "IncompleteBody", "BadDigest", "OperationAborted"}:
        return TransientFailure(
            f"a transfer to the store {where} broke off ({code}): run the step again"
        )
    return PermanentFailure(
        f"the store {where} refused a request ({code}): check its address, bucket and region"
    )


def _is_network(error: BaseException) -> bool:
    """Recognise the errors of aiohttp, of botocore's transport and of sockets."""
    names = {kind.__name__ for kind in type(error).__mro__}
    transport = {
        "ClientError",  # aiohttp's; botocore's namesake has a response and was handled before
        "HTTPClientError",
        "EndpointConnectionError",
        "ConnectionError",
        "IncompleteRead",
        "ResponseParserError",
        "ResponseStreamingError",
        "FSTimeoutError",
        "TimeoutError",
        "gaierror",
    }
    return bool(names & transport)


def _explain_number(number: int | None, where: str) -> NeuroAssetsError | None:
    if number in _FULL:
        return PermanentFailure(
            f"no space left in {where}: free space or raise the quota (`neuro-assets gc` lists "
            "what can go), then run the step again; nothing committed was lost"
        )
    if number == errno.EFBIG:
        return PermanentFailure(
            f"a file became too large for {where}: raise the file size limit (ulimit -f) or use "
            "another file system"
        )
    if number == errno.EROFS:
        return PermanentFailure(f"{where} is on a read-only file system: mount it writable")
    if number in _DENIED:
        return PermanentFailure(
            f"no permission in {where}: give the user that runs the platform the right to read "
            "and write there"
        )
    if number == errno.ENAMETOOLONG:
        return PermanentFailure(f"a name is too long for the file system of {where}")
    if number == errno.ENOTDIR:
        return PermanentFailure(
            f"{where} is a file, or holds a file where a folder should be: give the store a "
            "folder of its own"
        )
    if number in _ODD:
        return PermanentFailure(
            f"{where} holds a folder, or a link to itself, where a file should be: move it away"
        )
    if number in _GONE:
        return TransientFailure(
            f"{where} does not answer ({errno.errorcode[number or 0]}): check the disk or the "
            "network mount, then run the step again"
        )
    return None


@contextmanager
def explained(where: str) -> Iterator[None]:
    """Raise what `explain` says in place of the raw error; pass everything else on.

    Parameters
    ----------
    where : str
        The store's address, or a folder.

    Yields
    ------
    None
        For the block that may fail.

    Raises
    ------
    PermanentFailure, TransientFailure
        Where the surroundings failed. A missing file stays a `FileNotFoundError`.
    """
    try:
        yield
    except NeuroAssetsError:
        raise
    except Exception as error:
        if isinstance(error, FileNotFoundError) and server_code(error) != "NoSuchBucket":
            raise
        explanation = explain(error, where)
        if explanation is None:
            raise
        raise explanation from error
