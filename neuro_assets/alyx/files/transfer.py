"""The parent's side of the helper process that moves bytes: jobs, answers, and its end.

Starts it when it is first needed, watches that files grow, and kills it when they do not. Which
files, and whether what came is right, is decided by `files_fetch`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from neuro_assets.outcomes import PermanentFailure, TransientFailure

N_THREADS = 4
"""Files at once, as ONE does."""

_LOOK_S = 0.5
_SIZE_PATIENCE_S = 120.0
_MAIN = (
    "import sys, json; setup = json.loads(sys.stdin.readline()); sys.path[:] = setup['path']; "
    "from neuro_assets.alyx.files.worker import main; main(setup)"
)


class Gone(PermanentFailure):
    """The place does not have the file under this name."""


class TooLong(PermanentFailure):
    """More came than was registered."""


_Answer = Future[dict[str, Any]]


@dataclass
class _Helper:
    """One helper process."""

    process: subprocess.Popen[str]
    said: IO[bytes]
    waiting: dict[int, _Answer] = field(default_factory=dict)
    has_ended: bool = False
    guard: threading.Lock = field(default_factory=threading.Lock)

    def expect(self, number: int, answer: _Answer) -> bool:
        """Note who waits for an answer; False when none can come any more."""
        with self.guard:
            self.waiting[number] = answer
            return not self.has_ended

    def end(self) -> None:
        """Kill it; who waits for an answer is told by its reader."""
        self.process.kill()
        self.process.wait()


class Transfers:
    """Moves bytes in another process; may be used from several threads.

    Parameters
    ----------
    options : dict
        Options of `s3fs.S3FileSystem`; they may hold secrets and are handed over through a pipe.
    timeout_s : float
        Longest silence of a server, seconds.
    """

    def __init__(self, options: dict[str, Any], timeout_s: float) -> None:
        self._options = options
        self._timeout_s = timeout_s
        self._helper: _Helper | None = None
        self._guard = threading.Lock()
        self._number = 0
        self._pid = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {"options": self._options, "timeout_s": self._timeout_s}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """End the helper; transfers that run break off."""
        helper, self._helper = self._helper, None
        # After a fork the helper is our parent's, not ours.
        if helper is not None and self._pid == os.getpid():
            helper.end()

    def size(self, source: str) -> int | None:
        """Ask how long a file is.

        Parameters
        ----------
        source : str
            `https://...` or `s3://...`.

        Returns
        -------
        int or None
            Bytes; None where the server does not say.

        Raises
        ------
        Gone, PermanentFailure, TransientFailure
            As for `get`.
        """
        end = time.monotonic() + max(_SIZE_PATIENCE_S, 2 * self._timeout_s)

        def watch() -> None:
            if time.monotonic() > end:
                self._give_up(f"{source}: no answer about its size")

        found: int | None = self._ask({"do": "size", "source": source}, watch)["size"]
        return found

    def get(
        self,
        source: str,
        folder: Path,
        *,
        most: int,
        patience_s: float,
        progress: Callable[[int], None] | None = None,
    ) -> tuple[Path, str]:
        """Fetch one file.

        Parameters
        ----------
        source : str
            `https://...` or `s3://...`.
        folder : Path
            Its own empty folder.
        most : int
            Bytes that it can have at most.
        patience_s : float
            Seconds in which something must arrive: a server may send a byte a minute for ever.
        progress : callable, optional
            Gets the bytes that have arrived, now and then.

        Returns
        -------
        path : Path
            Where it is.
        md5 : str
            Of what came.

        Raises
        ------
        Gone
            It is not there.
        TooLong
            More came.
        PermanentFailure
            Trying again gives the same.
        TransientFailure
            It broke off.
        """
        grown, when = 0, time.monotonic()

        def watch() -> None:
            nonlocal grown, when
            n_bytes = sum(path.stat().st_size for path in folder.iterdir())
            if n_bytes > most:
                self._give_up("", kind=None)
                raise TooLong(f"more than {most} bytes")
            if n_bytes > grown:
                grown, when = n_bytes, time.monotonic()
            elif time.monotonic() - when > patience_s:
                self._give_up(f"{source}: nothing came for {patience_s:.0f} s")
            if progress is not None:
                progress(grown)

        answer = self._ask({"do": "get", "source": source, "folder": str(folder)}, watch)
        return Path(answer["path"]), str(answer["md5"])

    def _ask(self, job: dict[str, Any], watch: Callable[[], None]) -> dict[str, Any]:
        answer: _Answer = Future()
        with self._guard:
            helper = self._running()
            self._number += 1
            if not helper.expect(self._number, answer):
                raise TransientFailure("the helper that fetches files ended")
            self._send(helper, {**job, "id": self._number})
        while True:
            try:
                found = answer.result(_LOOK_S)
                break
            except TimeoutError:
                watch()
        if "error" not in found:
            return found
        kind = {"gone": Gone, "transient": TransientFailure}.get(found["error"], PermanentFailure)
        raise kind(f"{job['source']}: {self._clean(found['text'])}")

    def _give_up(self, words: str, kind: type[Exception] | None = TransientFailure) -> None:
        """End the helper, since one transfer in it cannot be ended alone."""
        with self._guard:
            self.close()
        if kind is not None:
            raise kind(words)

    def _running(self) -> _Helper:
        if self._pid != os.getpid():
            self._helper, self._pid = None, os.getpid()
        if self._helper is None or self._helper.process.poll() is not None:
            self._helper = self._start()
        return self._helper

    def _start(self) -> _Helper:
        said = tempfile.TemporaryFile()  # noqa: SIM115, lives as long as the helper
        # Isolated, then with our own path: else a file `json.py` beside us would be imported.
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", _MAIN],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            encoding="utf-8",
        )
        helper = _Helper(process, said)
        setup = {
            "path": sys.path,
            "parent": os.getpid(),
            "options": self._options,
            "timeout_s": self._timeout_s,
            "n_threads": N_THREADS,
        }
        self._send(helper, setup)
        threading.Thread(target=_read, args=(helper,), name="alyx-files", daemon=True).start()
        return helper

    def _send(self, helper: _Helper, message: dict[str, Any]) -> None:
        stdin = helper.process.stdin
        if stdin is None:
            raise TransientFailure("the helper that fetches files has no input")
        try:
            stdin.write(json.dumps(message) + "\n")
            stdin.flush()
        except (BrokenPipeError, ValueError):
            # It has ended; its reader fails the job, with the reason.
            return

    def _clean(self, text: str) -> str:
        """Take out what must not be read by others, should a library have quoted it."""
        for secret in (os.environ.get("HTTP_DATA_SERVER_PWD"), *_secrets(self._options)):
            if secret:
                text = text.replace(secret, "***")
        return text


def _secrets(options: dict[str, Any]) -> list[str]:
    return [str(options[name]) for name in ("secret", "token", "password") if options.get(name)]


def _read(helper: _Helper) -> None:
    """Hand answers to who waits for them; at the end of the helper, tell the others."""
    for line in helper.process.stdout or ():
        answer = json.loads(line)
        helper.waiting.pop(answer["id"]).set_result(answer)
    code = helper.process.wait()
    helper.said.seek(0)
    words = helper.said.read()[-300:].decode(errors="replace").strip().splitlines()
    reason = f": {words[-1]}" if words and code > 0 else ""
    text = f"the helper that fetches files ended (exit code {code}{reason})"
    with helper.guard:
        helper.has_ended = True
    while helper.waiting:
        _, answer_to = helper.waiting.popitem()
        answer_to.set_result({"error": "transient", "text": text})
