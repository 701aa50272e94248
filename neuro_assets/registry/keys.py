"""Which key a recording has or gets: pure functions of the records that exist.

Identity goes before names: what a recording says of itself decides, wherever its folder is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from neuro_assets.formats.model import Identity, Problem, RawRecording
from neuro_assets.formats.names import subject_label
from neuro_assets.recording_key import RecordingKey, safe_name
from neuro_assets.registry.conflicts import (
    counts,
    differs,
    other_samples,
    part_copy,
    taken_names,
    whole_of,
)
from neuro_assets.registry.descriptions import SessionDescription
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
    is_here : bool
        Whether the known record is of the very same file on this machine.
    conflict : str
        Why it may not be processed: it may be another recording that is registered, or not.
    whole : RecordingRecord or None
        Another recording that is there, of which this one is a part: it gets no key.
    place : str
        Of its session, as records have it.
    """

    key: str
    known: RecordingRecord | None = None
    collision: RecordingRecord | None = None
    is_damaged: bool = False
    is_here: bool = False
    conflict: str = ""
    whole: RecordingRecord | None = None
    place: str = ""

    @property
    def problem(self) -> Problem | None:
        """The report for people where a suffix had to be given."""
        if self.collision is None:
            return None
        other = self.collision.session
        if other.place == self.place:
            file = self.collision.raw.main.files[0] if self.collision.recording else "raw data"
            detail = (
                f"{self.collision.key} is the key of {file}, which was here before; other samples "
                f"in a file of another name are another recording, which is {self.key}: where they "
                "are the same recording, give the file its old name"
            )
            return Problem(kind="key_collision", path="", detail=detail)
        return Problem(
            kind="key_collision",
            path="",
            detail=f"the key {self.collision.key} belongs to subject {other.subject!r} of lab "
            f"{other.lab!r} ({other.place}); this recording is {self.key}: rename one subject "
            "at its source to tell them apart more easily",
        )


def has_subject(key: str, subject: str) -> bool:
    """Tell whether a key is one of a subject, as it is written now."""
    return RecordingKey.parse(key).subject.casefold() == safe_name(subject).casefold()


def subject_by(session: SessionInfo, project: str, *, in_subject: bool) -> str:
    """Name the subject of a BIDS session as settings of its source do.

    Parameters
    ----------
    session : SessionInfo
        As registered.
    project : str
        Declared name of the project; empty for that of its folder.
    in_subject : bool
        Whether the project is a part of the subject's name.

    Returns
    -------
    str
        As it is for other layouts.
    """
    folder = next((part for part in session.path.split("/") if part.startswith("sub-")), "")
    if not (folder and session.dataset):
        return session.subject
    label = subject_label(folder)
    return f"{project or session.dataset}-{label}" if in_subject else label


def find_same(index: RecordIndex, identity: Identity, content: str = "") -> RecordingRecord | None:
    """Find the recording that is the same, wherever its folder is now.

    Parameters
    ----------
    index : RecordIndex
        The registry.
    identity : Identity
        What it says of itself. A weak one (probe serial, creation time or first sample unknown)
        finds only what is known to hold the same samples.
    content : str
        Of its samples; empty where it is not known.

    Returns
    -------
    RecordingRecord or None
        The record.
    """
    found = index.same(identity, content)
    return next((each for each in found if not differs(each, identity, content)), None)


def claim_key(
    index: RecordIndex,
    session: SessionInfo,
    recording: RawRecording,
    description: SessionDescription | None = None,
    content: str = "",
) -> Claim:
    """Decide the key of a recording: the one it has, or a free one.

    Parameters
    ----------
    index : RecordIndex
        The registry.
    session : SessionInfo
        As its source names it.
    recording : RawRecording
        The recording.
    description : SessionDescription, optional
        All of the session: its other recordings, and its absolute path, under which it may have
        been named before it had a source. A database knows files by their names alone.
    content : str
        Of its samples; empty where it is not known.

    Returns
    -------
    Claim
        With the collision where the natural key belongs to another recording.
    """
    siblings = description.recordings if description else (recording,)
    folder = description.folder if description else ""
    of_database = description is not None and description.eid is not None
    here = {} if of_database else _of_same_file(index, session, recording, folder)
    known = find_same(index, recording.identity, content) or _at_place(
        index, session, recording, list(here.values()), siblings, content
    )
    natural = RecordingKey.make(
        session.subject, session.date, session.number, recording.probe, recording.qualifier
    )
    holder = index.taken(str(natural))
    if known is not None:
        of_files = known.eid is None or known.eid != known.session.session_id
        why = other_samples(index, recording.identity, content, known.key)
        if not (why or of_database or holder is None) and counts(holder, known.key):
            of_alyx = holder.session.session_id == holder.eid
            why = "" if of_alyx or not _agree(holder, session, recording) else taken_names(holder)
        part = "" if of_database else part_copy(index, recording, session, known.key)
        why = "; ".join(each for each in (why, part) if each)
        return Claim(known.key, known, is_here=of_files and known.key in here, conflict=why)
    if not of_database and (whole := whole_of(index, recording, session)):
        return Claim(whole.key, whole=whole)
    if holder is not None and holder.identity is None and _same_names(holder.session, session):
        return Claim(holder.key, holder)
    why = other_samples(index, recording.identity, content)
    why = why or ("" if of_database else part_copy(index, recording, session))
    if holder is not None and not _agree(holder, session, recording):
        return replace(_new(index, natural, holder, why), place=session.place)
    if holder is None or of_database or holder.session.session_id == holder.eid:
        claim = Claim(holder.key, holder) if holder else _new(index, natural, None)
        return replace(claim, conflict=why)
    return _new(index, natural, holder, taken_names(holder))


def _of_same_file(
    index: RecordIndex, session: SessionInfo, recording: RawRecording, folder: str
) -> dict[str, RecordingRecord]:
    """Find the records of a data file: of its session, or under another source's name for it."""
    return {
        record.key: record
        for place in {session.place, folder} - {""}
        for record in index.of_file(place, recording.main.files[0])
        if record.session.source != session.source or _is_same_session(record.session, session)
    }


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


def _new(
    index: RecordIndex, natural: RecordingKey, holder: RecordingRecord | None, conflict: str = ""
) -> Claim:
    if str(natural) in index.damaged:
        return Claim(str(natural), is_damaged=True)
    return Claim(_free(index, natural), None, holder, conflict=conflict)


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
    """Tell whether the natural key's holder may be this recording, seen by another source.

    Formats without a serial number leave what little they say: all of it must be the same, and
    so must the names.
    """
    elsewhere = holder.session.source != session.source
    weak = not recording.identity.is_strong and not (holder.identity and holder.identity.is_strong)
    same = holder.identity is not None and holder.identity.is_same(recording.identity)
    return elsewhere and weak and same and _same_names(holder.session, session)


def _same_names(one: SessionInfo, other: SessionInfo) -> bool:
    """Compare names as they are now: a key keeps those that its session had at first."""
    labs = {one.lab, other.lab} - {""}
    return len(labs) < 2 and _day_and_number(one) == _day_and_number(other)


def _day_and_number(session: SessionInfo) -> tuple[Any, ...]:
    return session.subject, session.date, session.number.lstrip("0")


def _at_place(
    index: RecordIndex,
    session: SessionInfo,
    recording: RawRecording,
    here: Sequence[RecordingRecord],
    siblings: Sequence[RawRecording],
    content: str,
) -> RecordingRecord | None:
    """Find the record of what was in this data file, or else under this label of the session."""
    path, files = recording.main.files[0], [each.main.files[0] for each in siblings]
    here = [record for record in here if _may_follow(record, recording, content)]
    for record in here:
        # A label may have gone to another file that sorts first.
        if record.label == recording.label or (len(here) == 1 and files.count(path) == 1):
            return record
    for record in index.of_session(session):
        of_file = record.recording.main.files[0] if record.recording else ""
        is_free = of_file == path or of_file not in files
        if (
            is_free
            and record.label == recording.label
            and _may_follow(record, recording, content)
            and (of_file == path or _may_be_renamed(record, recording))
            and _is_same_session(record.session, session)
        ):
            return record
    return None


def _is_same_session(known: SessionInfo, session: SessionInfo) -> bool:
    """Compare the source's own names for two sessions; what people call them where it has none."""
    if known.session_id and session.session_id:
        return (known.source, known.session_id) == (session.source, session.session_id)
    return session_names(known) == session_names(session)


def _may_follow(record: RecordingRecord, recording: RawRecording, content: str) -> bool:
    """Tell whether a recording may be what became of another one in its place.

    Two strong identities that differ in more than the size are two recordings, whatever the
    folder is called: one was moved away and another one took its place. The same samples under
    corrected metadata are the same. One that was never processed and has got more files is, too:
    its first trigger came after a later one; and one that was held and whose metadata were
    corrected.
    """
    old, new = record.identity, recording.identity
    if old is None or not (old.is_strong and new.is_strong) or old.origin == new.origin:
        return True
    if content and content == record.content:
        return True
    before, after = set(record.raw.main.files), set(recording.main.files)
    is_mended = bool(record.conflict) and before == after
    return record.request == 0 and (is_mended or before < after)


def _may_be_renamed(record: RecordingRecord, recording: RawRecording) -> bool:
    """Tell whether a recording may be another one whose file had another name.

    What says nothing of itself is found by its samples. Other ones, in a file of another name, are
    another recording once there are results: nobody can tell that one was corrected.
    """
    if record.recording is None or record.request == 0:
        return True
    if recording.identity.probe_serial or recording.identity.created:
        return True
    before, after = (each.main.files[0].rpartition(".")[0] for each in (record.raw, recording))
    return before == after


def present_name(record: RecordingRecord) -> str:
    """Name the session of a recording as it is now, where its key says another.

    Parameters
    ----------
    record : RecordingRecord
        As registered.

    Returns
    -------
    str
        `now M1, 2026-01-15, session 2`; empty where the key says the same.
    """
    session, key = record.session, RecordingKey.parse(record.key)
    named = RecordingKey.make(session.subject, session.date, session.number, key.probe)
    same = (key.subject, key.date, key.number) == (named.subject, named.date, named.number)
    # A suffix is there because a recording that had the name before kept its key.
    if same and re.search(r"x\d+$", key.qualifier) is None:
        return ""
    return f"now {session.subject}, {session.date}, session {session.number}"
