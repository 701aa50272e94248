"""What a record says of its recording now, compared with before: its state, version and change."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from neuro_assets.formats.modalities import MODALITIES
from neuro_assets.formats.model import RawRecording, Stream
from neuro_assets.formats.opening import BOARDS
from neuro_assets.registry.actions import ActionKind, Seen
from neuro_assets.registry.descriptions import SessionDescription
from neuro_assets.registry.index import RecordIndex
from neuro_assets.registry.records import RawData, RecordingRecord, SessionInfo, State

SHOWN = ("missing", "hold", "conflict", "state", "problems", "eid", "pid", "metadata", "lost")
"""Fields whose change people want to see though nothing has to be computed."""


def session_info(description: SessionDescription) -> SessionInfo:
    """Take what the registry keeps out of a description."""
    return SessionInfo(
        lab=description.lab,
        subject=description.subject,
        dataset=description.dataset,
        project=description.project,
        date=description.date,
        number=description.number,
        date_guessed=description.date_guessed,
        source=description.source,
        root=description.root,
        path=description.path if description.root else description.folder,
        session_id=description.session_id,
    )


def metadata_version(record: RecordingRecord | None) -> str:
    """Give the version of what a database says of a recording; empty without."""
    return record.metadata.version if record and record.metadata else ""


def is_shown_differently(before: RecordingRecord, after: RecordingRecord) -> bool:
    """Tell whether anything that people see of a recording changed."""
    return any(getattr(before, name) != getattr(after, name) for name in SHOWN)


def state_of(record: RecordingRecord) -> State:
    """Judge whether a recording may be processed."""
    if record.hold or record.conflict:
        return "held"
    return "not_ready" if record.missing or record.recording is None else "ready"


def version_of_raw(
    found: RecordingRecord, info: SessionInfo, recording: RawRecording, version: str
) -> tuple[str, str]:
    """Keep the version of data that a database took over, or gave back: it has names of its own.

    Folders, whatever their source, name data by one rule: another version is other data. Only
    earlier releases counted the session's boards to each recording.

    Returns
    -------
    version : str
        Version of the raw data.
    version_alias : str
        The source's name for it, where that is another.
    """
    if version in (found.raw_version, found.version_alias):
        return found.raw_version, found.version_alias
    by_database = _is_of_database(found.session) != _is_of_database(info)
    is_renamed = by_database or held_boards(found)
    taken_over = is_renamed and found.recording is not None and not found.version_alias
    old, new = found.identity, recording.identity
    if taken_over and new.is_strong and old is not None and new.is_same(old):
        return found.raw_version, version
    return version, ""


def _is_of_database(session: SessionInfo) -> bool:
    """Tell whether Alyx describes a session: its ids are UUIDs, those of folders are paths."""
    try:
        return str(UUID(session.session_id)) == session.session_id.lower()
    except ValueError:
        return False


def held_boards(record: RecordingRecord) -> bool:
    """Tell whether a record of an earlier release names auxiliary boards as its own streams."""
    return record.recording is not None and any(b in record.recording.streams for b in BOARDS)


def what_happened(found: RecordingRecord, record: RecordingRecord) -> tuple[ActionKind, str]:
    """Say what happened to a known recording, with one line for people."""
    if found.raw_version and found.raw_version != record.raw_version:
        return ActionKind.CHANGE, f"raw data of {record.key} changed"
    if found.recording is None and record.recording is not None:
        return ActionKind.ADD, f"raw data of {record.key} found in {place_of(record.session)}"
    if found.session.place != record.session.place:
        return ActionKind.MOVE, f"{record.key} moved to {place_of(record.session)}"
    if found.state == "vanished":
        return ActionKind.RETURN, f"raw data of {record.key} are back"
    return ActionKind.KEEP, f"{record.key} is known"


def is_other_data(kind: ActionKind, found: RecordingRecord, record: RecordingRecord) -> bool:
    """Tell whether there are other raw data than the last run was asked for.

    Asked again when they became ready: a step that read them while they changed may have failed
    after the change was seen.
    """
    is_ready_now = found.state == "not_ready" and not record.missing
    differs = found.requested not in (None, record.raw_version)
    return kind is ActionKind.CHANGE or (is_ready_now and differs) or has_completed(found, record)


def grew(found: RecordingRecord, record: RecordingRecord) -> bool:
    """Tell whether a stream is new or longer than before: it was no complete copy then."""
    old, new = found.recording, record.recording
    if old is None or new is None:
        return False
    if has_completed(found, record):
        return True
    # Not the sizes on disk: a compressed file may be decompressed.
    before = {name: stream.n_samples * stream.n_channels for name, stream in old.streams.items()}
    return new.identity.size_bytes > old.identity.size_bytes or any(
        stream.n_samples * stream.n_channels > before.get(name, 0)
        for name, stream in new.streams.items()
    )


def lost_files(found: RecordingRecord, recording: RawRecording | None) -> str:
    """Say which files of a recording with results are gone while others are there.

    Parameters
    ----------
    found : RecordingRecord
        As it is registered.
    recording : RawRecording or None
        What is in its folder now.

    Returns
    -------
    str
        One line; empty where it holds as many samples as before, as raw as they were, or was
        never processed.
    """
    known = found.recording
    if known is None or recording is None or found.request == 0:
        return ""
    own = {name: stream for name, stream in known.streams.items() if name not in BOARDS}
    fewer = _fewer(own, recording.streams)
    there = {file for stream in recording.streams.values() for file in stream.files}
    if recording.processed and not known.processed:
        fewer = [known.main]  # a filtered copy is what is left
    gone = _named([file for stream in fewer for file in stream.files if file not in there])
    return gone and f"{gone} of it cannot be read any more, {_TAKE_BACK}"


_TAKE_BACK = (
    "and results were made of all: copy what is gone back, or `neuro-assets run` with its folder "
    "takes what is left"
)


def _fewer(before: Mapping[str, Stream], now: Mapping[str, Stream]) -> list[Stream]:
    """List the streams that hold fewer samples than before."""
    left = {name: stream.n_samples * stream.n_channels for name, stream in now.items()}
    return [s for name, s in before.items() if s.n_samples * s.n_channels > left.get(name, 0)]


def _named(gone: Sequence[str]) -> str:
    return gone[0] + (f" and {len(gone) - 1} more" if len(gone) > 1 else "") if gone else ""


def is_displaced(
    found: RecordingRecord,
    seen: Mapping[tuple[str, str], Sequence[RawRecording]],
    index: RecordIndex,
) -> bool:
    """Tell whether the folder of a recording holds another one instead: people swap folders.

    Parameters
    ----------
    found : RecordingRecord
        As it is registered.
    seen : mapping
        By source and session id, the recordings of the folders that were looked at.
    index : RecordIndex
        The registry: another recording may have taken the place before.

    Returns
    -------
    bool
        False where nothing is known of its folder.
    """
    place, known = (found.session.source, found.session.session_id), found.recording
    if known is None:
        return False
    if place in seen:
        return all(each.identity.origin != known.identity.origin for each in seen[place])
    others = [r for r in index.at(*place) if r.key != found.key and r.state != "vanished"]
    same = [r.recording for r in others if r.recording and r.label == found.label]
    return any(other.main.files == known.main.files for other in same)


def is_named(record: RecordingRecord, description: SessionDescription) -> bool:
    """Tell whether a database still names a probe of its session."""
    labels = {recording.label for recording in description.recordings} | set(description.expected)
    return description.eid is not None and record.label in labels


def why_gone(record: RecordingRecord, description: SessionDescription) -> str:
    """Say why a session that is there has a recording no more."""
    if description.eid is not None:
        return f"Alyx names no {record.label} of its session any more"
    main = record.recording and record.recording.main
    names = {*main.files, *main.metas, record.label} if main else {record.label}
    found = [p for p in description.problems if p.path in names]
    why = "".join(f"; {problem.kind}: {problem.detail}" for problem in found)
    return f"{place_of(record.session)} holds no {record.label} any more{why}"


def renamed(record: RecordingRecord, key: str, *, is_unmade: bool) -> RecordingRecord:
    """Give the record of a key that its recording has no more; without results it is free again."""
    update: dict[str, Any] = {"state": "vanished", "renamed_to": key, "waiting_since": None}
    update |= {"conflict": "", "hold": "", "unreadable": False}
    results = "nothing was made under it" if is_unmade else "results made under it stay"
    update["missing"] = [f"its recording is {key} now; {results}"]
    if is_unmade:
        update |= {"recording": None, "raw_version": "", "reported": "", "content": ""}
    return record.model_copy(update=update)


def is_unreadable(record: RecordingRecord, description: SessionDescription) -> bool:
    """Tell whether files of a recording that its session has no more are there all the same."""
    files = {dataset.path for dataset in description.datasets}
    return record.recording is not None and not files.isdisjoint(record.recording.main.files)


def missing_of(
    session: Seen, label: str, recording: RawRecording | None, found: RecordingRecord | None
) -> list[str]:
    """Say what a recording, or a probe that is only expected, waits for."""
    description = session.description
    if recording is None:
        return list(description.expected.get(label, ())) or ["raw data"]
    complete = not description.waiting.get(label)
    version = session.versions[label]
    same = found is not None and version in (found.raw_version, found.version_alias)
    if same and found is not None and complete and not found.missing:
        # What was complete and has not changed does not have to settle again.
        return []
    return list(description.missing_of(recording))


def place_of(session: SessionInfo) -> str:
    """Say where a session is."""
    return session.place or f"{session.source}: {session.session_id}"


HasCopy = Callable[[str, str, str], bool]
"""Tells whether the store holds a whole copy of (key, modality, version)."""


def modalities_of(
    session: Seen, known: Sequence[RecordingRecord | None], has_copy: HasCopy, *, take_rest: bool
) -> dict[str, RawData]:
    """Give what a session holds of the other raw modalities; one that lost files stays as it was.

    Parameters
    ----------
    session : Seen
        As it is now.
    known : sequence of RecordingRecord or None
        Recordings at its place as they are registered, and last the one that is looked at.
    has_copy : callable
        See `HasCopy`: what was copied as a whole counts whatever becomes of its files.
    take_rest : bool
        Whether a person takes what is left of files that were lost without a copy.

    Returns
    -------
    dict of str to RawData
        By name of the modality.
    """
    description = session.description
    now = {
        name: RawData(
            item=item,
            version=session.versions[name],
            missing=description.waiting.get(name, ()),
            remote_files=description.remote_files.get(name, ()),
        )
        for name, item in description.modalities.items()
    }
    if description.eid is not None:  # a database says itself what a session holds
        return now
    there = {file.path for file in description.datasets}
    live = [r for r in known if r and (r.state != "vanished" or r is known[-1])]
    waits = any(record.request for record in live) and not take_rest
    registered = {n: d for r in live for n, d in r.modalities.items() if n in MODALITIES}
    for name, data in registered.items():
        gone = _gone_of(name, data, now.get(name), there)
        if gone and any(has_copy(record.key, name, data.version) for record in live):
            lost = f"{gone} is not there any more: its copy in the store goes on counting"
        elif gone and waits:
            lost = f"{gone} is not there any more, {_TAKE_BACK}"
        else:
            continue
        now[name] = data.model_copy(update={"lost": lost})
    return now


def _gone_of(name: str, before: RawData, now: RawData | None, there: Collection[str]) -> str:
    """Name the files of a modality that are gone with their samples; one that was cut is not."""
    modality = MODALITIES[name]
    if modality.streams is None:
        return _named([file for file in modality.files(before.item) if file not in there])
    fewer = _fewer(modality.streams(before.item), modality.streams(now.item) if now else {})
    return _named([file for stream in fewer for file in stream.files if file not in there])


def database_fields(description: SessionDescription, probe: str) -> dict[str, Any]:
    """Fields of a record that only a database gives."""
    if description.eid is None:
        return {}
    return {
        "eid": description.eid,
        "pid": description.pids.get(probe),
        "metadata": description.metadata.get(probe),
        "hold": description.hold or description.holds.get(probe, ""),
        "source_token": description.source_token,
    }


def has_completed(found: RecordingRecord, record: RecordingRecord) -> bool:
    """Tell whether a modality is complete that was not there, or not all of it, before."""
    before = {name for name, data in found.modalities.items() if not data.missing}
    now = {name for name, data in record.modalities.items() if not data.missing}
    return bool(now - before) and not held_boards(found)


def changed_modalities(found: RecordingRecord | None, record: RecordingRecord) -> tuple[str, ...]:
    """Name the complete modalities of which a version was not reported yet."""
    before = {n: d.version for n, d in found.modalities.items() if not d.missing} if found else {}
    return tuple(
        name
        for name, data in record.modalities.items()
        if not data.missing and data.version != before.get(name)
    )
