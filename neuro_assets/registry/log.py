"""The registry's transaction log: numbered files that are created exclusively and never changed.

`registry/log/<n>.json` holds all changes of one transaction, `registry/snapshot.json` the records
as they were after a number, in the same form. Both are one JSON document with one record a line,
so that a damaged line costs one record. `registry/<key>.json` is derived: complete up to the
number in `registry/head.json`.

Why not Delta Lake (`deltalake`), which keeps such a log: its blind appends never conflict, so two
writers would still give one recording two keys, and planning anew after a lost number would be
ours anyway; on S3 it needs the same conditional creation or DynamoDB, and brings a second S3
client with credentials of its own; rows of nested records would be text in parquet, rewritten by
the file, and unreadable without it.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from neuro_assets.store import Store
from neuro_assets.store.errors import NotAFileError
from neuro_assets.store.json_values import parsed, pretty
from neuro_assets.store.model import checked_name, now

FOLDER = "registry"
_SNAPSHOT = f"{FOLDER}/snapshot.json"
_HEAD = f"{FOLDER}/head.json"
_KEY = re.compile(rb'\{"key":"([^"\\]+)"')
_NOT_KEYS = {"snapshot", "head"}


@dataclass(frozen=True)
class Document:
    """One transaction, or a snapshot.

    Parameters
    ----------
    number : int
        Of the transaction; of the last one in a snapshot.
    lines : dict of str to bytes
        Records as JSON, by key.
    id : str
        Random; tells whose transaction it is when an answer got lost.
    lost : tuple of str
        Keys whose line is damaged.
    is_damaged : bool
        Whether even its head cannot be read.
    """

    number: int
    lines: Mapping[str, bytes] = field(default_factory=dict)
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    lost: tuple[str, ...] = ()
    is_damaged: bool = False

    def to_bytes(self) -> bytes:
        """Render as JSON, one record a line."""
        head = {
            "number": self.number,
            "id": self.id,
            "at": now().isoformat(),
            "keys": [*self.lines, *self.lost],
        }
        text = json.dumps(head)[:-1].encode()
        return text + b', "records": [\n' + b",\n".join(self.lines.values()) + b"\n]}\n"

    @classmethod
    def parse(cls, data: bytes, number: int) -> Document:
        """Read one; damage is noted in it and not raised."""
        first, *rest = data.split(b"\n")
        try:
            head = parsed(first + b"]}")
            keys, found = [str(key) for key in head["keys"]], int(head["number"])
            identity = str(head["id"])
        except (ValueError, KeyError, TypeError):
            return cls(number, is_damaged=True)
        lines = {}
        for line in rest:
            if match := _KEY.match(line):
                lines[match[1].decode(errors="replace")] = line.removesuffix(b",")
        lost = tuple(key for key in keys if key not in lines)
        return cls(found, {key: lines[key] for key in keys if key in lines}, identity, lost)


class TransactionLog:
    """Reads and writes the files of the registry; decides nothing.

    Parameters
    ----------
    store : Store
        The lab's store.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def read(self, number: int) -> Document | None:
        """Read a transaction; None where there is none yet."""
        data = self._bytes(_path(number))
        return None if data is None else Document.parse(data, number)

    def append(self, document: Document, *, exclusive: bool) -> bool:
        """Write the next transaction; False where another writer has the number.

        Without exclusive creation the caller is the only writer.
        """
        path, data = _path(document.number), document.to_bytes()
        backend = self.store.backend
        if not exclusive:
            if backend.entry(path) is not None:
                return False
            backend.write(path, data)
            return True
        if backend.create_exclusively(path, data):
            return True
        # The answer to a creation that succeeded may have been lost, and the request repeated.
        there = self.read(document.number)
        return there is not None and there.id == document.id

    def snapshot(self) -> Document:
        """Read the last snapshot; an empty one of number 0 where there is none to use."""
        data = self._bytes(_SNAPSHOT)
        found = Document(0) if data is None else Document.parse(data, 0)
        return Document(0) if found.is_damaged else found

    def write_snapshot(
        self, number: int, lines: Mapping[str, bytes], lost: tuple[str, ...] = ()
    ) -> None:
        """Replace the snapshot. An older one over a newer one only costs reading."""
        self.store.backend.write(_SNAPSHOT, Document(number, lines, lost=lost).to_bytes())

    def head(self) -> int:
        """Give the number up to which the derived records are complete."""
        data = self._bytes(_HEAD)
        try:
            return int(parsed(data or b"{}").get("number", 0))
        except (ValueError, AttributeError, TypeError):
            return 0

    def write_head(self, number: int) -> None:
        """Note that the derived records are complete up to a number."""
        self.store.backend.write(_HEAD, pretty({"number": number}))

    def record(self, key: str) -> bytes | None:
        """Read the derived record of a key."""
        return self._bytes(_record_path(key))

    def write_record(self, key: str, line: bytes) -> None:
        """Write the derived record of a key, indented for people."""
        self.store.backend.write(_record_path(key), pretty(json.loads(line)))

    def record_keys(self) -> list[str]:
        """List the keys of the derived records."""
        names = self.store.backend.names(FOLDER)
        keys = (name.removesuffix(".json") for name in names if name.endswith(".json"))
        return [key for key in keys if key not in _NOT_KEYS]

    def _bytes(self, path: str) -> bytes | None:
        try:
            return self.store.backend.read(path)
        except FileNotFoundError:
            return None
        except NotAFileError:
            return b""  # damaged, as an empty file is


def merged(documents: Iterable[Document]) -> dict[str, bytes]:
    """Give the last line of each key that is JSON."""
    lines: dict[str, bytes] = {}
    for document in documents:
        lines.update({key: line for key, line in document.lines.items() if _is_json(line)})
    return lines


def _is_json(line: bytes) -> bool:
    try:
        parsed(line)
    except ValueError:
        return False
    return True


def _path(number: int) -> str:
    return f"{FOLDER}/log/{number:010d}.json"


def _record_path(key: str) -> str:
    return f"{FOLDER}/{checked_name(key, 'key')}.json"
