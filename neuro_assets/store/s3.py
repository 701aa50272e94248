"""The store on an S3 server, through s3fs.

Relied upon: one PUT is atomic, and reads and listings after it see it. Not relied upon, because
servers differ: object versions, metadata, bulk deletion, checksum trailers. Conditional creation
is used where the server was seen to hold it (`neuro_assets.store.store_identity`).
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from neuro_assets.outcomes import PermanentFailure, TransientFailure
from neuro_assets.store.backend import IDENTITY_FILE, Entry, require_identity
from neuro_assets.store.errors import explained, server_code

if TYPE_CHECKING:
    from s3fs import S3FileSystem
    from upath import UPath

_DEFAULT_ATTEMPTS = 5
_PART = 16 << 20
"""Bytes a part of a multipart upload; a file below twice that is one PUT."""

_FILES_AT_ONCE = 4
_PARTS_AT_ONCE = 2
_THREADS = 8
_ONE_PUT = 1 << 30
_NO_SUCH_FEATURE = {"NotImplemented", "MethodNotAllowed", "501", "405", "NoSuchUpload"}
"""Answers to a listing of unfinished uploads from servers that do not know it."""


_EXISTS = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}
"""Answers to the creation of an object that is there, or that another one creates just now."""

_guard = threading.Lock()
_systems: dict[tuple[int, str], S3FileSystem] = {}


def full_options(options: dict[str, Any]) -> dict[str, Any]:
    """Add what every server needs to the options that a person gave.

    Parameters
    ----------
    options : dict
        Options of `s3fs.S3FileSystem`.

    Returns
    -------
    dict
        With time limits, and without the checksum trailers that only some servers know.
    """
    config = {
        "connect_timeout": 10,
        "read_timeout": 60,
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
        "retries": {"total_max_attempts": 2, "mode": "standard"},
        **options.get("config_kwargs", {}),
    }
    return {**options, "config_kwargs": config, "use_listings_cache": False}


def _connection(options: dict[str, Any], attempts: int) -> S3FileSystem:
    """Give this process's connection: making one takes a second, and a fork must not share it."""
    from s3fs import S3FileSystem

    text = json.dumps([options, attempts], sort_keys=True, default=str)
    name = (os.getpid(), hashlib.sha256(text.encode()).hexdigest())
    with _guard:
        if name not in _systems:
            system = S3FileSystem(**options, skip_instance_cache=True)
            system.retries = attempts
            _systems[name] = system
        return _systems[name]


class S3Backend:
    """Keeps files under a prefix of a bucket.

    Parameters
    ----------
    url : str
        `s3://bucket/prefix`.
    options : dict
        Options of `s3fs.S3FileSystem`; `max_attempts` is ours: how often a request is tried.
    """

    local_root: Path | None = None
    guarded = ""

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        parts = url.removeprefix("s3://").rstrip("/").split("/")
        if not all(parts) or ".." in parts:
            raise PermanentFailure(
                f"the store's address {url!r} is not s3://bucket/prefix: correct it in lab.yaml"
            )
        self._bucket = parts[0]
        self._top = "/".join(parts)
        self.url = f"s3://{self._top}"
        rest = dict(options)
        self._attempts = int(rest.pop("max_attempts", _DEFAULT_ATTEMPTS))
        self._options = full_options(rest)

    def require(self) -> None:
        """See `Backend.require`: a bucket that is gone answers every request with an error.

        But another one may stand behind the same address by now.
        """
        if self.guarded:
            try:
                require_identity(self.read(IDENTITY_FILE), self.guarded, self.url)
            except FileNotFoundError:
                raise PermanentFailure(
                    f"the store {self.url} is not there any more ({IDENTITY_FILE} is missing)"
                ) from None

    def __repr__(self) -> str:
        return f"S3Backend({self.url!r})"

    @property
    def _fs(self) -> S3FileSystem:
        return _connection(self._options, self._attempts)

    def _path(self, path: str) -> str:
        return f"{self._top}/{path}" if path else self._top

    def _call(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        bucket, _, key = self._path(path).partition("/")
        return cast(dict[str, Any], self._fs.call_s3(method, Bucket=bucket, Key=key, **more))

    def read(self, path: str) -> bytes:
        """See `Backend.read`."""
        with explained(self.url):
            # One part: else a HEAD precedes each of these small reads.
            return cast(bytes, self._fs.cat_file(self._path(path), max_concurrency=1))

    def write(self, path: str, data: bytes) -> None:
        """See `Backend.write`: a single PUT is whole or not at all.

        What makes an output visible, or count, goes this way: one small GET before it, so that no
        manifest or pointer reaches another store, however long the upload before it took.
        """
        self.require()
        with explained(self.url):
            self._fs.pipe_file(self._path(path), data, chunksize=_ONE_PUT)

    def create(self, path: str, data: bytes) -> bool:
        """See `Backend.create`.

        Of several writers at the same moment, a server that ignores the condition lets the last
        one stay; an earlier one that has read its own content back believes to have won.
        """
        if self.entry(path) is not None or not self.create_exclusively(path, data):
            return False
        return self.read(path) == data

    def create_exclusively(self, path: str, data: bytes) -> bool:
        """See `Backend.create_exclusively`: a PUT on the condition that there is nothing."""
        self.require()
        with explained(self.url):
            try:
                self._call("put_object", path, Body=data, IfNoneMatch="*")
            except OSError as error:
                if server_code(error) in _EXISTS:
                    return False
                if server_code(error) not in _NO_SUCH_FEATURE:
                    raise
                self.write(path, data)
        return True

    def names(self, folder: str) -> list[str]:
        """See `Backend.names`."""
        top = self._path(folder)
        with explained(self.url):
            try:
                found = self._fs.ls(top, detail=False, refresh=True)
            except FileNotFoundError as error:
                if server_code(error) == "NoSuchBucket":
                    raise
                return []
        names = {path.rstrip("/").rsplit("/", 1)[-1] for path in found if path.rstrip("/") != top}
        return sorted(name for name in names if not name.startswith("."))

    def entries(self, folder: str) -> dict[str, Entry]:
        """See `Backend.entries`."""
        top = f"{self._path(folder)}/"
        with explained(self.url):
            found = self._fs.find(top, detail=True)
        return {
            path.removeprefix(top): _as_entry(info)
            for path, info in found.items()
            if path.startswith(top) and not path.endswith("/")
        }

    def entry(self, path: str) -> Entry | None:
        """See `Backend.entry`."""
        with explained(self.url):
            try:
                found = self._call("head_object", path)
            except FileNotFoundError:
                return None
        return _as_entry({**found, "size": found["ContentLength"]})

    def remove(self, path: str) -> None:
        """See `Backend.remove`."""
        with explained(self.url):
            self._call("delete_object", path)

    def remove_tree(self, folder: str) -> None:
        """See `Backend.remove_tree`; one by one, since bulk deletion differs between servers."""
        paths = [f"{folder}/{name}" for name in self.entries(folder)]
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(self.remove, paths))

    def locate(self, path: str) -> UPath:
        """See `Backend.locate`."""
        from upath import UPath

        return UPath(f"s3://{self._path(path)}", **self._options)

    def open(self, path: str) -> BinaryIO:
        """See `Backend.open`."""
        with explained(self.url):
            return cast(BinaryIO, self._fs.open(self._path(path), "rb", block_size=8 << 20))

    @contextmanager
    def lock(self, folder: str) -> Iterator[bool]:
        """See `Backend.lock`: there are none."""
        yield False

    def upload(self, source: Path, names: Sequence[str], folder: str) -> None:
        """See `Backend.upload`. What a broken one leaves has no manifest: `gc` removes it."""
        if not names:
            return
        local = [str(source / name) for name in names]
        remote = [f"{self._path(folder)}/{name}" for name in names]
        with explained(self.url):
            self._fs.put(
                local,
                remote,
                batch_size=_FILES_AT_ONCE,
                chunksize=_PART,
                max_concurrency=_PARTS_AT_ONCE,
            )
        arrived = self.entries(folder)
        for name in names:
            size = (source / name).stat().st_size
            if name not in arrived or arrived[name].size != size:
                raise TransientFailure(
                    f"{folder}/{name} did not arrive whole in the store {self.url}: run the step "
                    "again; nothing of it is visible"
                )

    def download(self, folder: str, names: Sequence[str], target: Path) -> None:
        """See `Backend.download`."""
        if not names:
            return
        remote = [f"{self._path(folder)}/{name}" for name in names]
        local = [str(target / name) for name in names]
        with explained(self.url):
            self._fs.get(
                remote,
                local,
                batch_size=_FILES_AT_ONCE,
                chunksize=_PART,
                max_concurrency=_PARTS_AT_ONCE,
            )

    def abandoned_uploads(self, older_than_s: float, *, remove: bool) -> list[str]:
        """See `Backend.abandoned_uploads`; a server without this listing has none to show."""
        prefix = self._top.partition("/")[2]
        with explained(self.url):
            try:
                found = self._fs.call_s3(
                    "list_multipart_uploads",
                    Bucket=self._bucket,
                    **({"Prefix": f"{prefix}/"} if prefix else {}),
                )
            except OSError as error:
                if server_code(error) in _NO_SUCH_FEATURE:
                    return []
                raise
            old = [
                upload
                for upload in found.get("Uploads", ())
                if upload["Initiated"].timestamp() < time.time() - older_than_s
            ]
            for upload in old if remove else ():
                self._fs.call_s3(
                    "abort_multipart_upload",
                    Bucket=self._bucket,
                    Key=upload["Key"],
                    UploadId=upload["UploadId"],
                )
        return [upload["Key"].removeprefix(f"{prefix}/") for upload in old]


def _as_entry(info: dict[str, Any]) -> Entry:
    modified = info.get("LastModified")
    seconds = modified.timestamp() if modified is not None else time.time()
    return Entry(int(info["size"]), seconds, f"{info.get('ETag', '')}-{seconds}")
