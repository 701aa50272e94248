"""Which key a recording has or gets: pure functions of the records that exist.

Identity goes before names: what a recording says of itself decides, wherever its folder is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from neuro_assets.partitions import RecordingKey
from neuro_assets.resources.registry_records import RecordingRecord, SessionInfo
from neuro_assets.science.formats.model import Identity, Problem, RawRecording

_SHANK = re.compile(r"(?:^|-)s\d+(?:-|$)")


@dataclass(frozen=True)
class Claim:
    """Which key a recording has or will have.

    Parameters
    ----------
    key : str
        The key.
    known : RecordingRecord or None
        The record, where the recording is registered already (perhaps under another folder).
    collision : RecordingRecord or None
        Another recording that has the key which this one would have got.
    """

    key: str
    known: RecordingRecord | None = None
    collision: RecordingRecord | None = None

    @property
    def problem(self) -> Problem | None:
        """The report for people where a suffix had to be given."""
        if self.collision is None:
            return None
        other = self.collision.session
        return Problem(
            kind="key_collision",
            path="",
            detail=f"the key {self.collision.key} belongs to subject {other.subject!r} of lab "
            f"{other.lab!r} ({other.folder}); this recording is {self.key}: rename one subject "
            "at its source if they should be told apart more easily",
        )


def find_same(
    records: Mapping[str, RecordingRecord], identity: Identity, qualifier: str | None = None
) -> RecordingRecord | None:
    """Find the recording that says the same of itself, wherever its folder is now.

    Parameters
    ----------
    records : mapping of str to RecordingRecord
        The registry, by key.
    identity : Identity
        Only a strong one (probe serial, creation time, first sample known) finds anything.
    qualifier : str, optional
        Prefer the record with it; a shank's (`s2`) must be the same.

    Returns
    -------
    RecordingRecord or None
        The record.
    """
    if not identity.is_strong:
        return None
    same = [record for record in records.values() if record.identity == identity]
    if qualifier is None:
        return same[0] if same else None
    exact = [record for record in same if record.recording.qualifier == qualifier]
    loose = [
        record
        for record in same
        if not _SHANK.search(qualifier) and not _SHANK.search(record.recording.qualifier)
    ]
    return next(iter(exact + loose), None)


def claim_key(
    records: Mapping[str, RecordingRecord], session: SessionInfo, recording: RawRecording
) -> Claim:
    """Decide the key of a recording: the one it has, or a free one.

    Parameters
    ----------
    records : mapping of str to RecordingRecord
        The registry, by key.
    session : SessionInfo
        As its source names it.
    recording : RawRecording
        The recording.

    Returns
    -------
    Claim
        With the collision where the natural key belongs to another recording.
    """
    known = find_same(records, recording.identity, recording.qualifier)
    if known is not None:
        return Claim(known.key, known)
    for record in records.values():
        if _is_same_place(record, session, recording):
            return Claim(record.key, record)
    natural = RecordingKey.make(
        session.subject, session.date, session.number, recording.probe, recording.qualifier
    )
    # A file system that ignores case would mix `m1` and `M1`.
    taken = {key.casefold(): record for key, record in records.items()}
    key, suffix = natural, 2
    while str(key).casefold() in taken:
        key = replace(natural, qualifier=f"{natural.qualifier}x{suffix}")
        suffix += 1
    return Claim(str(key), None, taken.get(str(natural).casefold()))


def _is_same_place(record: RecordingRecord, session: SessionInfo, recording: RawRecording) -> bool:
    """Tell whether a record is of the same probe of the same session, as far as names go.

    Two strong identities that differ in more than the size are two recordings, whatever the
    folder is called: one was moved away and another one took its place.
    """
    old, new = record.identity, recording.identity
    if old.is_strong and new.is_strong and _core(old) != _core(new):
        return False
    same_probe = (record.recording.probe, record.recording.qualifier) == (
        recording.probe,
        recording.qualifier,
    )
    known = record.session
    same_session = (known.source, known.lab, known.subject, known.date, known.number) == (
        session.source,
        session.lab,
        session.subject,
        session.date,
        session.number,
    )
    if known.session_id and session.session_id:
        same_session = (known.source, known.session_id) == (session.source, session.session_id)
    return same_probe and same_session


def _core(identity: Identity) -> tuple[Any, ...]:
    return identity.probe_serial, identity.created, identity.first_sample
