"""From what a session source saw to what has to be done: a pure difference function.

No file, no network, no Dagster: the sensor and the command line carry the actions out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from neuro_assets.formats.model import RawRecording
from neuro_assets.registry.descriptions import SessionDescription
from neuro_assets.registry.keys import Claim, RecordIndex, claim_announced, claim_key
from neuro_assets.registry.records import RawData, RecordingRecord, SessionInfo


class ActionKind(StrEnum):
    """What happened to a recording since it was last looked at."""

    ADD = "add"
    CHANGE = "change"
    MOVE = "move"
    RETURN = "return"
    NOT_READY = "not_ready"
    VANISH = "vanish"
    HOLD = "hold"
    COPY = "copy"
    UPDATE = "update"
    KEEP = "keep"


@dataclass(frozen=True)
class Action:
    """One thing to do.

    Parameters
    ----------
    kind : ActionKind
        What happened.
    record : RecordingRecord
        The record as it has to be from now on.
    run : bool
        Whether the recording has to be processed.
    words : str
        One line for people.
    tell : bool
        Whether the version of the raw data has to be reported.
    tell_metadata : bool
        Whether what the database says has to be reported.
    tell_modalities : tuple of str
        Other raw modalities of which the version has to be reported.
    news : bool
        Whether people see anything new.
    """

    kind: ActionKind
    record: RecordingRecord
    run: bool
    words: str
    tell: bool = False
    tell_metadata: bool = False
    tell_modalities: tuple[str, ...] = ()
    news: bool = False


@dataclass(frozen=True)
class Seen:
    """One session as the source describes it, with the versions of its raw data.

    Parameters
    ----------
    description : SessionDescription
        The session.
    versions : mapping of str to str
        Data version of each recording, by its label.
    """

    description: SessionDescription
    versions: Mapping[str, str]


ASK_AGAIN = timedelta(hours=1)
"""How long the same run is asked for again: a tick that was killed is repeated before that.

The run key makes it start once. Later, only a person or the comparison of registry and runs asks.
"""

SHOWN = ("missing", "hold", "state", "problems", "eid", "pid", "metadata")
"""Fields whose change people want to see though nothing has to be computed."""


def plan(
    known: Mapping[str, RecordingRecord] | RecordIndex,
    seen: Sequence[Seen],
    vanished: Iterable[tuple[str, str]],
    now: datetime,
    *,
    excluded: Mapping[tuple[str, str], str] | None = None,
    reprocess_changed: bool = False,
) -> list[Action]:
    """Compare what is registered with what was seen.

    Parameters
    ----------
    known : mapping of str to RecordingRecord, or RecordIndex
        The registry, by key; an index is brought up to date.
    seen : sequence of Seen
        Sessions that are new or changed.
    vanished : iterable of (str, str)
        Source and session id of sessions that are no longer there.
    now : datetime
        Time to write into the records, UTC.
    excluded : mapping of (str, str) to str, optional
        Source and id of sessions that the lab does not want, with the reason.
    reprocess_changed : bool
        Whether changed raw data starts a run.

    Returns
    -------
    list of Action
        Vanished sessions first, so that a renamed folder is a move and not a copy. The same input
        gives the same actions: carrying them out twice does no harm.
    """
    index = known if isinstance(known, RecordIndex) else RecordIndex(known)
    planner = _Planner(index, now, reprocess_changed)
    for place in dict.fromkeys(vanished):
        planner.vanish(*place)
    for place, reason in (excluded or {}).items():
        planner.exclude(*place, reason)
    for session in seen:
        planner.see(session)
    return planner.actions


def session_info(description: SessionDescription) -> SessionInfo:
    """Take what the registry keeps out of a description."""
    return SessionInfo(
        lab=description.lab,
        subject=description.subject,
        date=description.date,
        number=description.number,
        source=description.source,
        root=description.root,
        path=description.path if description.root else description.folder,
        session_id=description.session_id,
    )


class _Planner:
    """One pass: each decision counts for the next one."""

    def __init__(self, index: RecordIndex, now: datetime, reprocess_changed: bool) -> None:
        self.index = index
        self.now = now
        self.reprocess_changed = reprocess_changed
        self.actions: list[Action] = []

    def vanish(self, source: str, session_id: str) -> None:
        """Mark the recordings of a session that is gone; another source may have their files."""
        for record in self.index.at(source, session_id):
            if record.state == "vanished":
                continue
            in_alyx = record.eid == session_id
            words = "its session was deleted in Alyx" if in_alyx else (
                f"raw data are no longer at {record.session.place}"
            )  # fmt: skip
            self._lose(record, words)
        self._hold_attached(source, session_id, "its session was deleted in Alyx")

    def _lose(self, record: RecordingRecord, why: str) -> None:
        gone = record.model_copy(
            update={"state": "vanished", "missing": [why], "waiting_since": None}
        )
        self._do(ActionKind.VANISH, gone, f"{record.key}: {why}; results are kept", news=True)

    def exclude(self, source: str, session_id: str, reason: str) -> None:
        """Hold the recordings of a session that the lab does not want any more."""
        for record in self.index.at(source, session_id):
            self._hold(record, reason)
        self._hold_attached(source, session_id, reason)

    def see(self, session: Seen) -> None:
        """Compare every recording, and every probe that is only announced."""
        description = session.description
        for recording in description.recordings:
            claim = claim_key(self.index, session_info(description), recording)
            self._compare(session, recording.label, recording, claim)
        for label in description.announced:
            serial = description.serials.get(label.partition("-")[0], "")
            claim = claim_announced(self.index, session_info(description), label, serial)
            self._compare(session, label, None, claim)
        if description.eid is not None:
            self._drop(description)

    def _drop(self, description: SessionDescription) -> None:
        """Mark the probes of a session that its database does not name any more."""
        named = {recording.label for recording in description.recordings}
        named |= set(description.announced)
        for record in self.index.at(description.source, description.session_id):
            if record.label in named or record.state == "vanished":
                continue
            self._lose(record, f"Alyx names no {record.label} of its session any more")

    def _hold_attached(self, source: str, eid: str, reason: str) -> None:
        for record in self.index.with_eid(eid):
            if (record.session.source, record.session.session_id) != (source, eid):
                self._hold(record, reason)

    def _hold(self, record: RecordingRecord, reason: str) -> None:
        if record.hold == reason or record.state == "vanished":
            return
        held = record.model_copy(update={"hold": reason})
        self._judge(ActionKind.UPDATE, record, held, f"{record.key}: {reason}")

    def _compare(
        self, session: Seen, label: str, recording: RawRecording | None, claim: Claim
    ) -> None:
        description, found = session.description, claim.known
        said = self._said(session, label, claim)
        if found is None:
            if description.hold and claim.collision is not None:
                # One of two sessions of one name: a second key would outlive the mistake.
                self._copy(claim.collision, description, description.hold)
                return
            info = session_info(description)
            record = RecordingRecord(
                key=claim.key,
                session=info,
                recording=recording,
                announced="" if recording else label,
                raw_version=session.versions.get(label, ""),
                missing=self._missing(session, label, recording, None),
                first_seen=self.now,
                **said,
            )
            self._judge(ActionKind.ADD, None, record, f"{claim.key} found in {_place(info)}")
            return
        if self._is_elsewhere(found, description):
            self._attach(found, description, said)
            return
        self._known(session, label, recording, found, said)

    def _said(self, session: Seen, label: str, claim: Claim) -> dict[str, Any]:
        """Fields that come from the session and its database, not from the files."""
        description = session.description
        probe = label.partition("-")[0]
        own = [claim.problem] if claim.problem else []
        metadata = description.metadata.get(probe)
        of_database = list(metadata.problems) if metadata else []
        said: dict[str, Any] = {"problems": [*description.problems, *of_database, *own]}
        said["remote_files"] = description.remote_files.get(label, ())
        said["modalities"] = _modalities(session)
        if description.eid is not None:
            said.update(
                eid=description.eid,
                pid=description.pids.get(probe),
                metadata=metadata,
                hold=description.hold or description.holds.get(probe, ""),
                source_token=description.source_token,
            )
        return said

    def _missing(
        self,
        session: Seen,
        label: str,
        recording: RawRecording | None,
        found: RecordingRecord | None,
    ) -> list[str]:
        description = session.description
        if recording is None:
            return list(description.announced.get(label, ())) or ["raw data"]
        complete = not description.waiting.get(label)
        version = session.versions[label]
        same = found is not None and version in (found.raw_version, found.known_as)
        if same and found is not None and complete and not found.missing:
            # What was complete and has not changed does not have to settle again.
            return []
        return list(description.missing_of(recording))

    def _is_elsewhere(self, found: RecordingRecord, description: SessionDescription) -> bool:
        """Tell whether the recording is registered at another place, and still there."""
        here = (description.source, description.session_id)
        there = (found.session.source, found.session.session_id)
        if here == there or found.state == "vanished":
            return False
        # Announced only, and the files are with this source: they are the recording.
        return found.recording is not None or description.eid is not None

    def _attach(
        self, found: RecordingRecord, description: SessionDescription, said: dict[str, Any]
    ) -> None:
        """Add what a database says to a recording that a folder source found first."""
        if description.eid is None:
            if found.eid is not None and found.session.session_id == found.eid:
                place = session_info(description).place
                aliases = list(dict.fromkeys([*found.aliases, place]))
                words = f"{found.key} is also in {place}"
                self._judge(
                    ActionKind.KEEP, found, found.model_copy(update={"aliases": aliases}), words
                )
                return
            self._copy(
                found, description, f"{session_info(description).place} holds the same recording"
            )
            return
        twin = found.eid not in (None, description.eid)
        if found.session.source == description.source or (twin and not description.hold):
            self._copy(found, description, "two sessions of Alyx have this recording")
            return
        ids = {k: said[k] for k in ("eid", "pid", "metadata", "hold", "source_token")}
        if twin:
            ids = {"hold": description.hold}
        words = f"{found.key} is session {description.eid} of Alyx"
        self._judge(ActionKind.KEEP, found, found.model_copy(update=ids), words)

    def _copy(self, found: RecordingRecord, description: SessionDescription, why: str) -> None:
        words = (
            f"{why}: {found.key} ({_place(found.session)}) has it already; "
            f"{description.session_id} is left alone"
        )
        if description.hold:
            self._hold(found, description.hold)
        self.actions.append(Action(ActionKind.COPY, self.index.records[found.key], False, words))

    def _known(
        self,
        session: Seen,
        label: str,
        recording: RawRecording | None,
        found: RecordingRecord,
        said: dict[str, Any],
    ) -> None:
        """Judge a recording that has a key already: changed, moved, back, or as it was."""
        info = session_info(session.description)
        new: dict[str, Any] = {**said, "session": info}
        new["missing"] = self._missing(session, label, recording, found)
        if recording is not None:
            version, known_as = _version(found, info, recording, session.versions[label])
            new.update(recording=recording, raw_version=version, known_as=known_as)
        before = found.session.place
        if before and before != info.place and before not in found.aliases:
            new["aliases"] = [*found.aliases, before]
        record = found.model_copy(update=new)
        kind, words = _what_happened(found, record)
        if kind is ActionKind.CHANGE and self.reprocess_changed:
            record = record.model_copy(update={"requested": None})
        self._judge(kind, found, record, words)

    def _judge(
        self, kind: ActionKind, found: RecordingRecord | None, record: RecordingRecord, words: str
    ) -> None:
        """Give a record its state, and decide whether it has to be processed."""
        state = _state(record)
        since = None
        if state == "not_ready":
            since = (found.waiting_since if found else None) or self.now
        run = state == "ready" and self._is_due(record)
        if run and record.requested is None:
            asked = {"requested": record.raw_version, "requested_at": self.now}
            record = record.model_copy(update=asked)
        new = state != "not_ready" and record.told != record.raw_version
        record = record.model_copy(
            update={
                "state": state,
                "waiting_since": since,
                "told": record.raw_version if new else record.told,
            }
        )
        news = found is None or is_shown_differently(found, record)
        if state == "not_ready":
            kind, words = ActionKind.NOT_READY, f"{record.key} waits: {record.reason}"
        elif state == "held":
            kind, words = ActionKind.HOLD, f"{record.key} is held: {record.reason}"
        elif kind is ActionKind.KEEP and news:
            kind, words = ActionKind.UPDATE, f"{record.key}: what is known about it changed"
        # A tick that was killed may not have reported it: the same again does no harm.
        tell = new or run
        said = _metadata_version(record)
        self._do(
            kind,
            record,
            words,
            run=run,
            tell=tell,
            tell_metadata=bool(said) and (tell or said != _metadata_version(found)),
            tell_modalities=_changed_modalities(None if tell else found, record),
            news=news or kind not in (ActionKind.KEEP, ActionKind.NOT_READY, ActionKind.HOLD),
        )

    def _is_due(self, record: RecordingRecord) -> bool:
        """Tell whether a run is due, or was asked for so lately that the asking may be lost."""
        if record.requested is None:
            return True
        if record.requested != record.raw_version or record.requested_at is None:
            return False
        return self.now - record.requested_at < ASK_AGAIN

    def _do(self, kind: ActionKind, record: RecordingRecord, words: str, **more: Any) -> None:
        record = record.model_copy(update={"updated": self.now})
        self.index.put(record)
        self.actions.append(Action(kind, record, **{"run": False, **more}, words=words))


def _metadata_version(record: RecordingRecord | None) -> str:
    return record.metadata.version if record and record.metadata else ""


def is_shown_differently(before: RecordingRecord, after: RecordingRecord) -> bool:
    """Tell whether anything that people see of a recording changed."""
    return any(getattr(before, name) != getattr(after, name) for name in SHOWN)


def _state(record: RecordingRecord) -> str:
    if record.hold:
        return "held"
    return "not_ready" if record.missing or record.recording is None else "ready"


def _version(
    found: RecordingRecord, info: SessionInfo, recording: RawRecording, version: str
) -> tuple[str, str]:
    """Keep the version of data that another source took over and names in its own way.

    Returns
    -------
    version : str
        Version of the raw data.
    known_as : str
        The source's name for it, where that is another.
    """
    if version == found.known_as:
        return found.raw_version, version
    taken_over = found.session.source != info.source and found.recording is not None
    old, new = found.identity, recording.identity
    if taken_over and new.is_strong and old is not None and new.is_same(old):
        return found.raw_version, version
    return version, ""


def _what_happened(found: RecordingRecord, record: RecordingRecord) -> tuple[ActionKind, str]:
    if found.raw_version and found.raw_version != record.raw_version:
        return ActionKind.CHANGE, f"raw data of {record.key} changed"
    if found.recording is None and record.recording is not None:
        return ActionKind.ADD, f"raw data of {record.key} found in {_place(record.session)}"
    if found.session.place != record.session.place:
        return ActionKind.MOVE, f"{record.key} moved to {_place(record.session)}"
    if found.state == "vanished":
        return ActionKind.RETURN, f"raw data of {record.key} are back"
    return ActionKind.KEEP, f"{record.key} is known"


def _modalities(session: Seen) -> dict[str, RawData]:
    description = session.description
    return {
        name: RawData(
            item=item,
            version=session.versions[name],
            missing=description.waiting.get(name, ()),
            remote_files=description.remote_files.get(name, ()),
        )
        for name, item in description.modalities.items()
    }


def _changed_modalities(found: RecordingRecord | None, record: RecordingRecord) -> tuple[str, ...]:
    """Name the complete modalities of which a version was not reported yet."""
    before = {n: d.version for n, d in found.modalities.items() if not d.missing} if found else {}
    return tuple(
        name
        for name, data in record.modalities.items()
        if not data.missing and data.version != before.get(name)
    )


def _place(session: SessionInfo) -> str:
    return session.place or f"{session.source}: {session.session_id}"
