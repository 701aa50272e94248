"""Why a recording that is there may not be processed: what another recording contradicts.

Pure functions of the records that exist; a conflict that only a person can end is never ended by
a file that cannot be read for a while.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import takewhile

from neuro_assets.formats.model import Identity, RawRecording
from neuro_assets.formats.session_fields import CONFLICTS
from neuro_assets.recording_key import RecordingKey
from neuro_assets.registry.descriptions import SessionDescription
from neuro_assets.registry.index import RecordIndex
from neuro_assets.registry.records import RecordingRecord, SessionInfo

UNCOMPRESSED = ("spikeglx",)
"""Formats whose files are the same wherever they lie: a hash in the metadata may be another's."""
_NAMES_OTHER = "its key is one of another animal,"


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


def replaced(record: RecordingRecord, recording: RawRecording, version: str, content: str) -> str:
    """Say that other samples lie under the metadata of those that were registered.

    Parameters
    ----------
    record : RecordingRecord
        As it was.
    recording : RawRecording
        As it is now.
    version, content : str
        Of its raw data, and of its samples, now. Only a version by stored hashes stays when the
        samples change.

    Returns
    -------
    str
        One line; empty where the version changed, too, or the samples did not.
    """
    if version != record.raw_version or not differs(record, recording.identity, content):
        return ""
    return (
        f"the samples of {recording.main.files[0]} are not those that were registered, and "
        "fileSHA1 in its metadata is: put the first file back, or correct fileSHA1; where that is "
        "right, remove `use_file_hash` of its source from lab.yaml"
    )


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
    """Find the recording of another session of which a new one is a part, or was made."""
    place = (session.source, session.session_id)
    for other in index.overlapping(recording):
        is_larger = _length(other.raw) > _length(recording)
        is_whole = is_larger or _is_output(recording, other)
        elsewhere = (other.session.source, other.session.session_id) != place
        if is_whole and elsewhere and other.state != "vanished":
            return other
    return None


def part_copy(
    index: RecordIndex, recording: RawRecording, session: SessionInfo, key: str = ""
) -> str:
    """Say of which recording this one holds a part, or which one holds a part of it.

    Parameters
    ----------
    index : RecordIndex
        The registry.
    recording : RawRecording
        The recording.
    session : SessionInfo
        Its session.
    key : str
        Its key; empty before it has one.

    Returns
    -------
    str
        One line; empty where it shares no file and no beginning with another.
    """
    for other in index.overlapping(recording) if recording.processed else ():
        there = not other.conflict and (is_there(other) or other.request > 0)
        if there and other.key != key and _is_output(recording, other):
            return f"it was made of {other.key} ({other.session.place}), which counts; remove it"
    for other in _overlapping(index, recording, session, key):
        place = f"{other.key} ({other.session.place})"
        is_part = _length(other.raw) > _length(recording)
        if _length(other.raw) == _length(recording) and counts(other, key):
            return f"{place} has its samples, with another header; remove one of the two"
        if not other.conflict and is_part and (is_there(other) or other.request > 0):
            return f"it is a part of {place}; put all of its files here, or remove this copy"
        if not is_part and counts(other, key):
            return f"{place} holds a part of it; remove that to process this one"
    return ""


def _is_output(recording: RawRecording, other: RecordingRecord) -> bool:
    """Tell whether a recording was filtered by a program that read one as it was acquired."""
    return bool(recording.processed) and not other.raw.processed


def _length(recording: RawRecording) -> int:
    """Measure a recording to compare it with another; headers of readers differ in size."""
    own = recording.identity
    return own.size_bytes if own.is_strong else recording.main.n_samples


def _overlapping(
    index: RecordIndex, recording: RawRecording, session: SessionInfo, key: str
) -> Iterator[RecordingRecord]:
    """Give other recordings of another length with the same beginning, or a file of this one.

    What says little of itself was compared within its session, and may have the same length.
    """
    is_strong, place = recording.identity.is_strong, (session.source, session.session_id)
    for other in index.overlapping(recording):
        elsewhere = (other.session.source, other.session.session_id) != place
        differs_in_size = other.raw.identity.size_bytes != recording.identity.size_bytes
        if other.key != key and (differs_in_size if is_strong else elsewhere):
            yield other


def shared_subject(
    index: RecordIndex, session: SessionInfo, found: RecordingRecord | None, key: str
) -> str:
    """Say with which animal of another folder, BIDS project or lab a session would be mixed.

    Parameters
    ----------
    index : RecordIndex
        The registry.
    session : SessionInfo
        Of the recording.
    found : RecordingRecord or None
        Its record, as it was.
    key : str
        Its key.

    Returns
    -------
    str
        One line; empty where its subject is that of one place only, or of an earlier recording.
    """
    before = found.session if found and not found.conflict else None
    if not (_whose(session) or index.is_label(session.subject)):
        return ""
    if before and before.subject == session.subject and _stays_one(before, session):
        return ""  # moved: it was of this animal before
    others = [
        each
        for each in index.of_subject(session.subject)
        # Results of what is away stay: they are those of this subject.
        if each.key != key and not each.conflict and (is_there(each) or each.request > 0)
        and (each.session.dataset or each.eid is None) and _is_comparable(each.session, session)
    ]  # fmt: skip
    if not others or any(_is_one_animal(each.session, session) for each in others):
        return ""
    other = others[0]
    if session.dataset and _whose(other.session)[:2] == _whose(session)[:2]:
        what_to_do = "name the folders of one animal alike, or give each animal a label of its own"
    elif session.dataset or other.session.dataset:
        source = "this source" if session.dataset else f"the source {other.session.source!r}"
        what_to_do = (
            f"write `project_in_subject: true` at {source} in lab.yaml (with a `project: NAME` "
            "where both projects have one name), or rename one; where both are one project, write "
            "one `project: NAME` at the source of each"
        )
    else:
        what_to_do = (
            "rename one; where both are one animal, write one `project: NAME` at the source of "
            "each in lab.yaml"
        )
    return (
        f"subject {session.subject!r}{_of(session)} ({session.place}) would be one animal with "
        f"that{_of(other.session) or ' of another folder'} ({other.key}, {other.session.place}); "
        f"{what_to_do}"
    )


def _of(session: SessionInfo) -> str:
    name = session.dataset or session.lab
    return f" of {name!r}" if name else ""


def _stays_one(before: SessionInfo, after: SessionInfo) -> bool:
    """Tell whether a move under one name is no move to another project."""
    return before.dataset == after.dataset or not (before.dataset and after.dataset)


def _is_comparable(one: SessionInfo, other: SessionInfo) -> bool:
    """Tell whether the places of two sessions of one name may be those of two animals."""
    return bool(one.dataset) != bool(other.dataset) or bool(_whose(one) and _whose(other))


def _is_one_animal(one: SessionInfo, other: SessionInfo) -> bool:
    if bool(one.dataset) == bool(other.dataset):
        return _whose(one) == _whose(other)
    label, plain = (one, other) if one.dataset else (other, one)
    # What lies beside the subjects of a project is the project's.
    beside = (plain.source, plain.path.rpartition("/")[0])
    return _whose(label)[:2] in (beside, ("", plain.project or None))


def _whose(session: SessionInfo) -> tuple[str, ...]:
    """Name where a subject is one animal: project and folder, or lab; empty without either."""
    parts = session.path.split("/")
    if session.dataset:
        above = list(takewhile(lambda name: not name.startswith("sub-"), parts))
        place = ("", session.project) if session.project else (session.source, "/".join(above))
        return (*place, "".join(parts[len(above) : len(above) + 1]))
    if not session.lab or "Subjects" not in parts[1:]:
        return ()
    return ("project", session.project) if session.project else ("lab", session.lab)


def misnamed(
    index: RecordIndex, found: RecordingRecord, session: SessionInfo, there: Collection[str]
) -> str:
    """Say that the key of a recording that was moved is one of another animal or session.

    A renamed subject keeps its keys. A recording was in the wrong place where it was held before
    it moved, or where the animal that its key names is there. One that a person gave another key
    has a key as wanted where it is.

    Parameters
    ----------
    index : RecordIndex
        The registry.
    found : RecordingRecord
        As it was.
    session : SessionInfo
        Where it is now.
    there : collection of str
        Subjects, as they are in keys, that are looked at with it.

    Returns
    -------
    str
        One line; empty for what a database names.
    """
    key = RecordingKey.parse(found.key)
    now = RecordingKey.make(session.subject, session.date, session.number, key.probe)
    is_of_other = key.subject.casefold() != now.subject.casefold()
    is_unmade = found.request == 0
    is_other = is_of_other or (is_unmade and (key.date, key.number) != (now.date, now.number))
    is_here = (found.session.source, found.session.session_id) == (
        session.source, session.session_id,
    )  # fmt: skip
    is_wanted = bool(found.first_key) and is_here and not found.conflict
    if found.eid is not None or not is_other or is_wanted:
        return ""
    what_to_do = (
        f"results made under it stay; `neuro-assets run` with its folder ({session.place}) gives "
        "it a key of its own"
    )
    if found.conflict and _NAMES_OTHER not in found.conflict:
        return f"it was held under its key, which names {key.subject}; {what_to_do}"
    others = index.of_subject(key.subject)
    lives = any(each.key != found.key and each.state != "vanished" for each in others)
    if is_of_other and (lives or key.subject in there):
        return f"{_NAMES_OTHER} {key.subject}; {what_to_do}"
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
    if not unread:
        # The same files: another animal of the tree went away, which may be a disk.
        clash = {text: p for text, p in clash.items() if p.kind == "several_subjects"}
    elif unread.isdisjoint(dataset.path for dataset in description.datasets):
        return description
    problems = (*description.problems, *clash.values())
    return description.model_copy(update={"problems": problems, "hold": "; ".join(clash)})


def _files(recording: RawRecording) -> tuple[str, ...]:
    return (*recording.main.files, *recording.main.metas)
