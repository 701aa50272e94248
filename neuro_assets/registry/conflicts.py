"""Why a recording that is there may not be processed: what another recording contradicts.

Pure functions of the records that exist; a conflict that only a person can end is never ended by
a file that cannot be read for a while.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from neuro_assets.formats.model import Identity, RawRecording
from neuro_assets.formats.session_fields import CONFLICTS
from neuro_assets.registry.descriptions import SessionDescription
from neuro_assets.registry.index import RecordIndex
from neuro_assets.registry.records import RecordingRecord, SessionInfo

UNCOMPRESSED = ("spikeglx",)
"""Formats whose files are the same wherever they lie: a hash in the metadata may be another's."""


def differs(record: RecordingRecord, identity: Identity, content: str) -> bool:
    """Tell whether a record that says the same is known to hold other samples.

    Parameters
    ----------
    record : RecordingRecord
        Of the same header.
    identity : Identity
        What the recording says of itself.
    content : str
        Of its samples; empty where it is not known.

    Returns
    -------
    bool
        False where nothing is known.
    """
    known, kind = record.content, content.partition(":")[0]
    comparable = bool(content) and known.partition(":")[0] == kind
    if comparable and kind in UNCOMPRESSED:
        return known != content
    stored = record.identity.hash if record.identity else None
    if stored and identity.hash:
        return stored != identity.hash
    return comparable and known != content


def counts(other: RecordingRecord, key: str) -> bool:
    """Tell whether a record may hold back that of a key: it is there, and not itself held."""
    return other.key != key and not other.conflict and is_there(other)


def is_there(record: RecordingRecord) -> bool:
    """Tell whether a recording's files are there, also where they cannot be read."""
    return record.state != "vanished" or record.unreadable


def taken_names(holder: RecordingRecord) -> str:
    """Say that another recording has the names of this one."""
    return (
        f"{holder.key} ({holder.session.place}) has the same names, and the samples of the two "
        "differ or cannot be compared; rename the folder of one to process it, remove a copy"
    )


def other_samples(index: RecordIndex, identity: Identity, content: str, key: str = "") -> str:
    """Say which recording has the same header and other samples.

    Parameters
    ----------
    index : RecordIndex
        The registry.
    identity, content : Identity, str
        Of the recording.
    key : str
        Its key; empty before it has one.

    Returns
    -------
    str
        One line; empty without one.
    """
    twins = (each for each in index.same(identity, content) if counts(each, key))
    twin = next((each for each in twins if differs(each, identity, content)), None)
    return "" if twin is None else (
        f"its header is that of {twin.key} ({twin.session.place}) but its samples differ; correct "
        "its metadata, or remove the wrong one of the two"
    )  # fmt: skip


def whole_of(
    index: RecordIndex, recording: RawRecording, session: SessionInfo
) -> RecordingRecord | None:
    """Find the recording of another session that is there and of which a new one is a part."""
    place = (session.source, session.session_id)
    for other in _overlapping(index, recording, ""):
        is_larger = other.raw.identity.size_bytes > recording.identity.size_bytes
        elsewhere = (other.session.source, other.session.session_id) != place
        if is_larger and elsewhere and other.state != "vanished":
            return other
    return None


def part_copy(index: RecordIndex, recording: RawRecording, key: str = "") -> str:
    """Say of which recording this one holds a part, or which one holds a part of it.

    Parameters
    ----------
    index : RecordIndex
        The registry.
    recording : RawRecording
        The recording.
    key : str
        Its key; empty before it has one.

    Returns
    -------
    str
        One line; empty where it shares no file and no beginning with another.
    """
    for other in _overlapping(index, recording, key):
        place = f"{other.key} ({other.session.place})"
        is_part = other.raw.identity.size_bytes > recording.identity.size_bytes
        if not other.conflict and is_part and (is_there(other) or other.request > 0):
            return f"it is a part of {place}; put all of its files here, or remove this copy"
        if not is_part and counts(other, key):
            return f"{place} holds a part of it; remove that to process this one"
    return ""


def _overlapping(
    index: RecordIndex, recording: RawRecording, key: str
) -> Iterator[RecordingRecord]:
    """Give other recordings of another length with the same beginning, or a file of this one."""
    for other in index.overlapping(recording):
        if other.key != key and other.raw.identity.size_bytes != recording.identity.size_bytes:
            yield other


def shared_subject(index: RecordIndex, session: SessionInfo, key: str) -> str:
    """Say with which animal of another BIDS dataset a session would be mixed.

    Parameters
    ----------
    index : RecordIndex
        The registry.
    session : SessionInfo
        Of the recording.
    key : str
        Its key.

    Returns
    -------
    str
        One line; empty where its label is that of one dataset only, or of an earlier recording.
    """
    for other in index.of_subject(session.subject) if session.dataset else ():
        is_other = other.session.dataset != session.dataset and other.key != key
        # Results of what is away stay: they are those of this subject.
        has_results = is_there(other) or other.request > 0
        if is_other and not other.conflict and has_results:
            return (
                f"subject {session.subject!r} of {session.dataset!r} would be one animal with that "
                f"of {other.session.dataset!r} ({other.key}); write `project_in_subject: true` at "
                "this source in lab.yaml, or rename one"
            )
    return ""


def still_held(
    description: SessionDescription, records: Sequence[RecordingRecord]
) -> SessionDescription:
    """Keep the hold of a session while a part of the conflict is there and cannot be read.

    Parameters
    ----------
    description : SessionDescription
        As its source sees it now.
    records : sequence of RecordingRecord
        What is registered of it.

    Returns
    -------
    SessionDescription
        With the conflict of before, where nothing that can be read has ended it.
    """
    if description.hold or description.eid is not None:
        return description
    clash = {p.detail: p for each in records for p in each.problems if p.kind in CONFLICTS}
    parts = {file for each in records if each.recording for file in _files(each.recording)}
    unread = parts - {file for each in description.recordings for file in _files(each)}
    if not clash or unread.isdisjoint(dataset.path for dataset in description.datasets):
        return description
    problems = (*description.problems, *clash.values())
    return description.model_copy(update={"problems": problems, "hold": "; ".join(clash)})


def _files(recording: RawRecording) -> tuple[str, ...]:
    return (*recording.main.files, *recording.main.metas)
