"""The registry's records in memory, findable by what a recording is and by where it is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime
from typing import Any

from neuro_assets.formats.model import Identity, RawRecording
from neuro_assets.recording_key import RecordingKey, safe_name
from neuro_assets.registry.records import RecordingRecord, SessionInfo


class Records(Mapping[str, RecordingRecord]):
    """Records by key, kept as JSON and parsed when asked for: as objects they are ten times larger.

    Parameters
    ----------
    lines : dict of str to bytes
        Records as JSON, by key.
    """

    def __init__(self, lines: dict[str, bytes] | None = None) -> None:
        self.lines = lines or {}

    def __getitem__(self, key: str) -> RecordingRecord:
        return RecordingRecord.model_validate_json(self.lines[key])

    def __iter__(self) -> Iterator[str]:
        return iter(self.lines)

    def __len__(self) -> int:
        return len(self.lines)

    def __contains__(self, key: object) -> bool:
        return key in self.lines


class RecordIndex:
    """Records with what finds them, changed on trial and taken back.

    With tens of thousands of recordings, looking through all of them for each one that a tick
    brings would take longer than the tick may.

    Parameters
    ----------
    records : mapping of str to RecordingRecord
        By key.

    Attributes
    ----------
    records : Records
        By key.
    damaged : dict of str to str
        Keys whose record cannot be read, with the reason; they stay taken.
    damaged_lines : dict of str to bytes
        What stands in the log for them, where anything does: a newer release may read it.
    due : dict of str to (date, datetime)
        Keys that are ready and for which no run was requested, with day and time first seen.
    requested : dict of str to (str, datetime)
        Keys that are ready and whose run was requested, with by whom and when.
    aliases : dict of str to str
        Keys that are only names, with the key that was given instead.
    renaming : dict of str to str
        Keys whose renaming was begun and not finished, with the new key.
    """

    def __init__(self, records: Mapping[str, RecordingRecord] | None = None) -> None:
        self.records = Records()
        self.damaged: dict[str, str] = {}
        self.damaged_lines: dict[str, bytes] = {}
        self.due: dict[str, tuple[date, datetime]] = {}
        self.requested: dict[str, tuple[str, datetime]] = {}
        self.aliases: dict[str, str] = {}
        self.renaming: dict[str, str] = {}
        self._by_identity: dict[Any, dict[str, None]] = defaultdict(dict)
        self._by_session: dict[Any, dict[str, None]] = defaultdict(dict)
        self._by_eid: dict[str, dict[str, None]] = defaultdict(dict)
        self._by_file: dict[str, dict[str, None]] = defaultdict(dict)
        self._by_subject: dict[str, dict[str, None]] = defaultdict(dict)
        self._by_label: dict[str, dict[str, None]] = defaultdict(dict)
        self._by_old_subject: dict[str, dict[str, None]] = defaultdict(dict)
        self._by_trigger: dict[Any, dict[str, None]] = defaultdict(dict)
        self._by_folded: dict[str, str] = {}
        self._before: dict[str, bytes | None] = {}
        for record in (records or {}).values():
            self.load(record)

    def put(self, record: RecordingRecord) -> None:
        """Add a record, or replace the one with its key, until `rollback`."""
        before = self.records.lines.get(record.key)
        self.load(record)
        self._before.setdefault(record.key, before)

    def load(self, record: RecordingRecord, line: bytes | None = None) -> None:
        """Add or replace a record for good; with its JSON where that is at hand."""
        line = line or record.model_dump_json().encode()  # first: it may be refused
        self._drop(record.key)
        self.records.lines[record.key] = line
        # A file system that ignores case would mix `m1` and `M1`.
        self._by_folded[record.key.casefold()] = record.key
        for index, name in self._places(record):
            index[name][record.key] = None
        if record.alias_of:
            self.aliases[record.key] = record.alias_of
        if record.renaming_to:
            self.renaming[record.key] = record.renaming_to
        elif record.state == "ready" and record.requested is None:
            self.due[record.key] = (record.session.date, record.first_seen)
        elif record.state == "ready" and record.requested_at is not None:
            self.requested[record.key] = (record.requested_by, record.requested_at)

    def damage(self, key: str, reason: str, line: bytes | None = None) -> None:
        """Note that a key's record cannot be read; with its line in the log, to be kept."""
        self._drop(key)
        if line is not None:
            self.damaged_lines[key] = line
        self.damaged[key] = reason
        self._by_folded[key.casefold()] = key

    def rollback(self) -> dict[str, tuple[RecordingRecord | None, RecordingRecord]]:
        """Take back what was put.

        Returns
        -------
        dict
            Record before and after of each key that really changed; the time of the change does
            not count.
        """
        changes: dict[str, tuple[RecordingRecord | None, RecordingRecord]] = {}
        put, self._before = self._before, {}
        for key, line in put.items():
            after = self.records[key]
            self._drop(key)
            before = None if line is None else RecordingRecord.model_validate_json(line)
            if before is not None:
                self.load(before, line)
            if before is None or after.model_copy(update={"updated": before.updated}) != before:
                changes[key] = (before, after)
        return changes

    def same(self, identity: Identity, content: str = "") -> list[RecordingRecord]:
        """List the records of recordings that say the same of themselves, and hold the same."""
        origin = _origin(identity, content)
        same = (self.records[key] for key in self._by_identity.get(origin, ()))
        return [
            each for each in same if each.identity is not None and each.identity.is_same(identity)
        ]

    def overlapping(self, recording: RawRecording) -> list[RecordingRecord]:
        """List the records with the beginning of a recording, or a file of it in another place."""
        own, names = recording.identity, _triggers(recording)
        origin = own.origin if own.is_strong else _head(own)
        keys = dict(self._by_identity.get(origin, {}) if origin else {})
        for place, name in enumerate(names):
            for key in self._by_trigger.get(name, ()):
                # Rigs make triggers of one schedule under one name every day: the beginning tells.
                if (_triggers(self.records[key].raw).index(name) == 0) != (place == 0):
                    keys[key] = None
        return [self.records[key] for key in keys]

    def of_session(self, session: SessionInfo) -> list[RecordingRecord]:
        """List the records of a session, found by its id or by its names."""
        keys = {
            **self._by_session.get((session.source, session.session_id), {}),
            **self._by_session.get(session_names(session), {}),
        }
        return [self.records[key] for key in keys]

    def at(self, source: str, session_id: str) -> list[RecordingRecord]:
        """List the records that a source has under an id."""
        return [self.records[key] for key in self._by_session.get((source, session_id), ())]

    def of_file(self, place: str, path: str) -> list[RecordingRecord]:
        """List the records of recordings in a data file, under a place as records have it."""
        return [self.records[key] for key in self._by_file.get(f"{place}/{path}", ())]

    def of_subject(self, subject: str) -> list[RecordingRecord]:
        """List the records of a subject, or of a BIDS label in whatever project."""
        return [
            self.records[key] for key in self._by_subject.get(safe_name(subject).casefold(), ())
        ]

    def is_label(self, subject: str) -> bool:
        """Tell whether a subject's name is also a label of BIDS."""
        return bool(self._by_label.get(safe_name(subject).casefold()))

    def named_for(self, subject: str) -> list[RecordingRecord]:
        """List the records whose key names a subject and whose session is of another one now."""
        return [self.records[key] for key in self._by_old_subject.get(subject.casefold(), ())]

    def with_eid(self, eid: str) -> list[RecordingRecord]:
        """List the records of an Alyx session, whichever source found them."""
        return [self.records[key] for key in self._by_eid.get(eid, ())]

    def is_registered(self, source: str, session_id: str) -> bool:
        """Tell whether a source's session, or an Alyx session of that id, has a record."""
        return bool(self._by_session.get((source, session_id)) or self._by_eid.get(session_id))

    def session_ids(self, source: str) -> list[str]:
        """List the ids of the registered sessions of a source, and of Alyx."""
        own = [place[1] for place, keys in self._by_session.items() if place[0] == source and keys]
        return list(dict.fromkeys([*own, *(eid for eid, keys in self._by_eid.items() if keys)]))

    def is_taken(self, key: str) -> bool:
        """Tell whether a key is in use, in whatever case, its record damaged or not."""
        return key.casefold() in self._by_folded

    def taken(self, key: str) -> RecordingRecord | None:
        """Give the record that has or had a key, in whatever case."""
        found = self._by_folded.get(key.casefold())
        while found in self.aliases:
            found = self.aliases[found]
        return None if found is None else self.records.get(found)

    def recordings(self) -> Records:
        """Give the records as they are now, sorted by key, without those that are only names."""
        lines = self.records.lines
        return Records({key: lines[key] for key in sorted(lines) if key not in self.aliases})

    def _drop(self, key: str) -> None:
        old = self.records.get(key)
        if old is not None:
            del self.records.lines[key]
            for index, name in self._places(old):
                index[name].pop(key, None)
        own = (self.due, self.requested, self.damaged, self.damaged_lines)
        for each in (*own, self.aliases, self.renaming):
            each.pop(key, None)
        self._by_folded.pop(key.casefold(), None)

    def _places(self, record: RecordingRecord) -> Iterable[tuple[dict[Any, Any], Any]]:
        session = record.session
        if record.renamed_to or record.alias_of:
            return  # another record has all of it
        if record.recording is not None:
            origin = _origin(record.recording.identity, record.content)
            if origin is not None:
                yield self._by_identity, origin
            if head := _head(record.recording.identity):
                yield self._by_identity, head
            for name in _triggers(record.recording):
                yield self._by_trigger, name
            yield self._by_file, f"{session.place}/{record.recording.main.files[0]}"
        yield self._by_subject, (subject := safe_name(session.subject).casefold())
        if session.dataset:
            yield self._by_label, subject
        if (named := RecordingKey.parse(record.key).subject.casefold()) != subject:
            yield self._by_old_subject, named
        yield self._by_session, (session.source, session.session_id)
        yield self._by_session, session_names(session)
        if record.eid:
            yield self._by_eid, record.eid


def _origin(identity: Identity, content: str) -> Any:
    """Under what a recording is found again; what says little of itself, by its samples alone."""
    return identity.origin if identity.is_strong else content or None


def _head(identity: Identity) -> tuple[str, str] | None:
    """Under what a recording that says little of itself is found by its beginning."""
    return None if identity.is_strong or not identity.head else ("head", identity.head)


def _triggers(recording: RawRecording) -> list[Any]:
    """Name each file of a strong recording by what it is, wherever it lies."""
    own, main = recording.identity, recording.main
    if not own.is_strong:
        return []
    return [
        (own.probe_serial, own.stream, file.rpartition("/")[2], first, size)
        for file, first, size in zip(main.files, main.first_samples, main.sizes, strict=False)
    ]


def session_names(session: SessionInfo) -> tuple[Any, ...]:
    """Give what names a session to people, as one value."""
    return (None, session.source, session.lab, session.subject, session.date, session.number)
