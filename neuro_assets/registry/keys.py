"""Which key a recording has or gets: pure functions of the records that exist.

Identity goes before names: what a recording says of itself decides, wherever its folder is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from neuro_assets.formats.model import Identity, Problem, RawRecording
from neuro_assets.recording_key import RecordingKey
from neuro_assets.registry.index import RecordIndex, session_names
from neuro_assets.registry.records import RecordingRecord, SessionInfo


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
    is_damaged : bool
        Whether the key's record cannot be read, so that nothing may be decided.
    """

    key: str
    known: RecordingRecord | None = None
    collision: RecordingRecord | None = None
    is_damaged: bool = False

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
            f"{other.lab!r} ({other.place}); this recording is {self.key}: rename one subject "
            "at its source to tell them apart more easily",
        )


def find_same(index: RecordIndex, identity: Identity) -> RecordingRecord | None:
    """Find the recording that says the same of itself, wherever its folder is now.

    Parameters
    ----------
    index : RecordIndex
        The registry.
    identity : Identity
        Only a strong one (probe serial, creation time, first sample known) finds anything.

    Returns
    -------
    RecordingRecord or None
        The record.
    """
    return next(iter(index.same(identity)), None) if identity.is_strong else None


def claim_key(index: RecordIndex, session: SessionInfo, recording: RawRecording) -> Claim:
    """Decide the key of a recording: the one it has, or a free one.

    Parameters
    ----------
    index : RecordIndex
        The registry.
    session : SessionInfo
        As its source names it.
    recording : RawRecording
        The recording.

    Returns
    -------
    Claim
        With the collision where the natural key belongs to another recording.
    """
    known = find_same(index, recording.identity)
    if known is not None:
        return Claim(known.key, known)
    for record in index.of_session(session):
        if _is_same_place(record, session, recording):
            return Claim(record.key, record)
    natural = RecordingKey.make(
        session.subject, session.date, session.number, recording.probe, recording.qualifier
    )
    holder = index.taken(str(natural))
    if holder is not None and _agree(holder, session, recording):
        return Claim(holder.key, holder)
    return _new(index, natural, holder)


def claim_expected(index: RecordIndex, session: SessionInfo, label: str, serial: str = "") -> Claim:
    """Decide the key of a probe that a database expects and that has no raw data there yet.

    Parameters
    ----------
    index : RecordIndex
        The registry.
    session : SessionInfo
        As the database names it.
    label : str
        Normalised name of the probe, `probe00`, with a shank that is kept apart, `probe00-s1`.
    serial : str
        Serial number of the probe; empty where it is not registered.

    Returns
    -------
    Claim
        The recording of this session and probe, also one that a folder source found.
    """
    for record in index.of_session(session):
        if record.session.session_id == session.session_id and record.label == label:
            return Claim(record.key, record)
    probe, _, qualifier = label.partition("-")
    natural = RecordingKey.make(session.subject, session.date, session.number, probe, qualifier)
    holder = index.taken(str(natural))
    if holder is not None and _may_be(holder, session, serial):
        return Claim(holder.key, holder)
    return _new(index, natural, holder)


def _new(index: RecordIndex, natural: RecordingKey, holder: RecordingRecord | None) -> Claim:
    if str(natural) in index.damaged:
        return Claim(str(natural), is_damaged=True)
    return Claim(_free(index, natural), None, holder)


def _free(index: RecordIndex, natural: RecordingKey) -> str:
    key, suffix = natural, 2
    while index.is_taken(str(key)):
        key = replace(natural, qualifier=f"{natural.qualifier}x{suffix}")
        suffix += 1
    return str(key)


def _may_be(holder: RecordingRecord, session: SessionInfo, serial: str) -> bool:
    """Tell whether what is expected can be the recording that has the natural key.

    Names are all there is to compare: the same ones, and no serial number that contradicts.
    """
    found = holder.identity.probe_serial if holder.identity else None
    contradicts = bool(found and serial) and found != serial
    return _same_names(holder.session, session) and not contradicts


def _agree(holder: RecordingRecord, session: SessionInfo, recording: RawRecording) -> bool:
    """Tell whether the natural key's holder is this recording, seen by another source.

    Formats without a serial number leave what little they say: all of it must be the same, and
    so must the names.
    """
    if holder.identity is None:
        return _same_names(holder.session, session)
    elsewhere = holder.session.source != session.source
    weak = not recording.identity.is_strong and not holder.identity.is_strong
    return (
        elsewhere
        and weak
        and holder.identity.is_same(recording.identity)
        and _same_names(holder.session, session)
    )


def _same_names(one: SessionInfo, other: SessionInfo) -> bool:
    """Compare names as they are now: a key keeps those that its session had at first."""
    labs = {one.lab, other.lab} - {""}
    return len(labs) < 2 and _day_and_number(one) == _day_and_number(other)


def _day_and_number(session: SessionInfo) -> tuple[Any, ...]:
    return session.subject, session.date, session.number.lstrip("0")


def _is_same_place(record: RecordingRecord, session: SessionInfo, recording: RawRecording) -> bool:
    """Tell whether a record is of the same probe of the same session, as far as names go.

    Two strong identities that differ in more than the size are two recordings, whatever the
    folder is called: one was moved away and another one took its place.
    """
    old, new = record.identity, recording.identity
    if old is not None and old.is_strong and new.is_strong and old.origin != new.origin:
        return False
    if record.label != recording.label:
        return False
    known = record.session
    if known.session_id and session.session_id:
        return (known.source, known.session_id) == (session.source, session.session_id)
    return session_names(known) == session_names(session)
