"""From what a session source saw to what has to be done: a pure difference function.

No file, no network, no Dagster: the sensor and the command line carry the actions out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from neuro_assets.formats.model import RawRecording
from neuro_assets.recording_key import safe_name
from neuro_assets.registry.actions import Action, ActionKind, Requests, Seen
from neuro_assets.registry.conflicts import misnamed, replaced, shared_subject, still_held
from neuro_assets.registry.descriptions import SessionDescription
from neuro_assets.registry.index import RecordIndex
from neuro_assets.registry.judging import (
    HasCopy,
    changed_modalities,
    database_fields,
    grew,
    is_displaced,
    is_named,
    is_other_data,
    is_shown_differently,
    is_unreadable,
    lost_files,
    metadata_version,
    missing_of,
    modalities_of,
    place_of,
    renamed,
    session_info,
    state_of,
    version_of_raw,
    what_happened,
    why_gone,
)
from neuro_assets.registry.keys import Claim, claim_expected, claim_key
from neuro_assets.registry.records import RecordingRecord
from neuro_assets.registry.requests import request_runs

EVERY_RUN = Requests()


def plan(
    known: Mapping[str, RecordingRecord] | RecordIndex,
    seen: Sequence[Seen],
    vanished: Iterable[tuple[str, str]],
    now: datetime,
    *,
    excluded: Mapping[tuple[str, str], str] | None = None,
    reprocess_changed: bool = False,
    requests: Requests = EVERY_RUN,
    is_unfinished: Callable[[str], bool] = lambda key: False,
    rename: bool = False,
    has_copy: HasCopy = lambda key, modality, version: False,
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
    is_unfinished : callable
        Tells whether results of a key failed or were never made: its raw data were repaired when
        they change, and it runs again whatever `reprocess_changed` says. So does one that grew.
    requests : Requests
        Which runs to request.
    rename : bool
        Whether a recording with results under a key of another animal gets one of its own (one
        without results does in any case), and one that lost files counts as it is now.
    has_copy : callable
        As in `modalities_of`.

    Returns
    -------
    list of Action
        Vanished sessions first, so that a renamed folder is a move and not a copy. The same input
        gives the same actions: carrying them out twice does no harm.
    """
    index = known if isinstance(known, RecordIndex) else RecordIndex(known)
    planner = _Planner(index, now, reprocess_changed, is_unfinished, seen, rename, has_copy)
    for place in dict.fromkeys(vanished):
        planner.vanish(*place)
    for place, reason in (excluded or {}).items():
        planner.exclude(*place, reason)
    for session in seen:
        planner.see(session)
    for session in seen:
        planner.drop(session.description)
    planner.hold_misnamed()
    request_runs(index, planner.actions, requests, now)
    return planner.actions


class _Planner:
    """One pass: each decision counts for the next one."""

    def __init__(
        self,
        index: RecordIndex,
        now: datetime,
        reprocess_changed: bool,
        is_unfinished: Callable[[str], bool],
        seen: Sequence[Seen],
        rename: bool,
        has_copy: HasCopy,
    ) -> None:
        self.rename = rename
        self.has_copy = has_copy
        self.subjects = {safe_name(s.description.subject) for s in seen if s.description.recordings}
        self.here = {
            (s.description.source, s.description.session_id): s.description.recordings for s in seen
        }
        self.is_unfinished = is_unfinished
        self.index = index
        self.now = now
        self.reprocess_changed = reprocess_changed
        self.actions: list[Action] = []
        self.claimed: set[tuple[tuple[str, str], str]] = set()

    def vanish(self, source: str, session_id: str) -> None:
        """Mark the recordings of a session that is gone; another source may have their files."""
        for record in self.index.at(source, session_id):
            if record.state == "vanished" and not record.unreadable:
                continue
            in_alyx = record.eid == session_id
            message = "its session was deleted in Alyx" if in_alyx else (
                f"raw data are no longer at {record.session.place}"
            )  # fmt: skip
            self._lose(record, message)
        self._hold_attached(source, session_id, "its session was deleted in Alyx")

    def _lose(self, record: RecordingRecord, why: str, *, unreadable: bool = False) -> None:
        update: dict[str, Any] = {"state": "vanished", "missing": [why], "waiting_since": None}
        gone = record.model_copy(update={**update, "unreadable": unreadable})
        self._do(ActionKind.VANISH, gone, f"{record.key}: {why}; results are kept", changed=True)

    def exclude(self, source: str, session_id: str, reason: str) -> None:
        """Hold the recordings of a session that the lab does not want any more."""
        for record in self.index.at(source, session_id):
            self._hold(record, reason)
        self._hold_attached(source, session_id, reason)

    def see(self, session: Seen) -> None:
        """Compare every recording, and every probe that is only expected."""
        place = (session.description.source, session.description.session_id)
        description = still_held(session.description, self.index.at(*place))
        session = replace(session, description=description)
        for recording in description.recordings:
            content = session.contents.get(recording.label, "")
            claim = self._claim(description, recording, content)
            if claim.whole is not None:
                why = "holds a part of the same recording, or output"
                self._copy(claim.whole, description, f"{session_info(description).place} {why}")
                continue
            self.claimed.add((place, claim.key))
            if claim.is_damaged:
                continue
            self._compare(session, recording.label, recording, claim)
        for label in description.expected:
            serial = description.serials.get(label.partition("-")[0], "")
            claim = claim_expected(self.index, session_info(description), label, serial)
            if claim.is_damaged:
                continue
            self._compare(session, label, None, claim)

    def _claim(
        self, description: SessionDescription, recording: RawRecording, content: str
    ) -> Claim:
        """Decide the key of a recording; one that was in a wrong place gets a key of its own."""
        info = session_info(description)
        claim = claim_key(self.index, info, recording, description, content)
        found = claim.known
        if found is None or description.eid or description.hold or claim.conflict:
            return claim
        why = misnamed(self.index, found, info, self.subjects)
        if not why or self._is_elsewhere(found, description):
            return claim
        is_unmade = found.request == 0 and self.is_unfinished(found.key)
        if not (is_unmade or self.rename):
            return replace(claim, conflict=why)
        if shared_subject(self.index, info, None, found.key):
            return claim
        self.index.put(gone := renamed(found, "another", is_unmade=is_unmade))
        claim = claim_key(self.index, info, recording, description, content)
        gone = renamed(found, claim.key, is_unmade=is_unmade)
        self._do(ActionKind.VANISH, gone, f"{gone.key}: {gone.reason}", changed=True)
        return claim

    def drop(self, description: SessionDescription) -> None:
        """Mark what is no longer in a session that is there, nor has moved to another."""
        place = (description.source, description.session_id)
        for record in self.index.at(*place):
            if (place, record.key) in self.claimed or is_named(record, description):
                continue
            unreadable = is_unreadable(record, description)
            if record.state != "vanished" or record.unreadable != unreadable:
                self._lose(record, why_gone(record, description), unreadable=unreadable)

    def hold_misnamed(self) -> None:
        """Hold what was moved in an earlier look, where the animal of its key is there now."""
        judged = {key for _, key in self.claimed}
        for subject in sorted(self.subjects):
            for record in self.index.named_for(subject):
                if record.key in judged or record.state == "vanished" or record.conflict:
                    continue
                if why := misnamed(self.index, record, record.session, self.subjects):
                    held = record.model_copy(update={"conflict": why})
                    self._judge(ActionKind.UPDATE, record, held, f"{record.key}: {why}")

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
        fields = self._session_fields(session, label, claim)
        if found is None:
            if description.eid and description.hold and claim.collision is not None:
                # One of two sessions of one name: a second key would outlive the mistake.
                self._copy(claim.collision, description, description.hold)
                return
            info = session_info(description)
            record = RecordingRecord(
                key=claim.key,
                session=info,
                recording=recording,
                expected="" if recording else label,
                raw_version=session.versions.get(label, ""),
                missing=(missing := missing_of(session, label, recording, None)),
                content="" if missing else session.contents.get(label, ""),
                first_seen=self.now,
                **fields,
            )
            self._judge(ActionKind.ADD, None, record, f"{claim.key} found in {place_of(info)}")
            return
        if not claim.is_here and self._is_elsewhere(found, description):
            self._attach(found, description, fields)
            return
        self._known(session, label, recording, found, fields)

    def _session_fields(self, session: Seen, label: str, claim: Claim) -> dict[str, Any]:
        """Fields that come from the session and its database, not from the files."""
        description = session.description
        probe, info = label.partition("-")[0], session_info(description)
        own = [claim.problem] if claim.problem else []
        metadata = description.metadata.get(probe)
        of_database = list(metadata.problems) if metadata else []
        fields: dict[str, Any] = {"problems": [*description.problems, *of_database, *own]}
        fields["remote_files"] = description.remote_files.get(label, ())
        known = (*self.index.at(info.source, info.session_id), claim.known)
        fields["modalities"] = modalities_of(session, known, self.has_copy, take_rest=self.rename)
        shared, held = shared_subject(self.index, info, claim.known, claim.key), description.hold
        if description.eid is not None:  # a database names its animals
            shared = held = ""
        fields["conflict"] = "; ".join(why for why in (held, claim.conflict, shared) if why)
        return fields | database_fields(description, probe)

    def _is_elsewhere(self, found: RecordingRecord, description: SessionDescription) -> bool:
        """Tell whether the recording is registered at another place, and still there."""
        there = (found.session.source, found.session.session_id)
        if there == (description.source, description.session_id) or found.state == "vanished":
            return False
        if is_displaced(found, self.here, self.index):
            return False
        # Announced only, and the files are with this source: they are the recording.
        return found.recording is not None or description.eid is not None

    def _attach(
        self, found: RecordingRecord, description: SessionDescription, fields: dict[str, Any]
    ) -> None:
        """Add what a database says to a recording that a folder source found first."""
        if description.eid is None:
            if found.eid is not None and found.session.session_id == found.eid:
                place = session_info(description).place
                aliases = list(dict.fromkeys([*found.aliases, place]))
                message = f"{found.key} is also in {place}"
                self._judge(
                    ActionKind.KEEP, found, found.model_copy(update={"aliases": aliases}), message
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
        ids = {k: fields[k] for k in ("eid", "pid", "metadata", "hold", "source_token")}
        if twin:
            ids = {"hold": description.hold}
        message = f"{found.key} is session {description.eid} of Alyx"
        self._judge(ActionKind.KEEP, found, found.model_copy(update=ids), message)

    def _copy(self, found: RecordingRecord, description: SessionDescription, why: str) -> None:
        message = (
            f"{why}: {found.key} ({place_of(found.session)}) has it already; "
            f"{description.session_id} is left alone"
        )
        if description.eid and description.hold:
            self._hold(found, description.hold)
        record, place = self.index.records[found.key], description.session_id
        self.actions.append(Action(ActionKind.COPY, record, False, message, copy_in=place))

    def _known(
        self,
        session: Seen,
        label: str,
        recording: RawRecording | None,
        found: RecordingRecord,
        fields: dict[str, Any],
    ) -> None:
        """Judge a recording that has a key already: changed, moved, back, or as it was."""
        info = session_info(session.description)
        new: dict[str, Any] = {**fields, "session": info, "unreadable": False, "renamed_to": ""}
        new["missing"] = missing_of(session, label, recording, found)
        of_database = session.description.eid is not None
        if lost := "" if self.rename or of_database else lost_files(found, recording):
            new["missing"] = [lost]
        elif recording is not None:
            version, version_alias = version_of_raw(found, info, recording, session.versions[label])
            new.update(recording=recording, raw_version=version, version_alias=version_alias)
            content = session.contents.get(label, "")
            if why := "" if of_database else replaced(found, recording, version, content):
                new["conflict"] = "; ".join(filter(None, (new["conflict"], why)))
            elif not new["missing"]:
                new["content"] = content
        before = found.session.place
        if before and before != info.place and before not in found.aliases:
            new["aliases"] = [*found.aliases, before]
        record = found.model_copy(update=new)
        kind, message = what_happened(found, record)
        again = self.reprocess_changed or grew(found, record)
        if is_other_data(kind, found, record) and (again or self.is_unfinished(found.key)):
            record = record.model_copy(update={"requested": None})
        self._judge(kind, found, record, message)

    def _judge(
        self, kind: ActionKind, found: RecordingRecord | None, record: RecordingRecord, message: str
    ) -> None:
        """Give a record its state, and decide whether it has to be processed."""
        state = state_of(record)
        since = None
        if state == "not_ready":
            since = (found.waiting_since if found else None) or self.now
        new = state != "not_ready" and record.reported != record.raw_version
        record = record.model_copy(
            update={
                "state": state,
                "waiting_since": since,
                "reported": record.raw_version if new else record.reported,
            }
        )
        changed = found is None or is_shown_differently(found, record)
        if state == "not_ready":
            kind, message = ActionKind.NOT_READY, f"{record.key} waits: {record.reason}"
        elif state == "held":
            kind, message = ActionKind.HOLD, f"{record.key} is held: {record.reason}"
        elif kind is ActionKind.KEEP and changed:
            what = record.lost or "what is known about it changed"
            kind, message = ActionKind.UPDATE, f"{record.key}: {what}"
        version = metadata_version(record)
        self._do(
            kind,
            record,
            message,
            report=new,
            report_metadata=bool(version) and (new or version != metadata_version(found)),
            report_modalities=changed_modalities(None if new else found, record),
            changed=changed or kind not in (ActionKind.KEEP, ActionKind.NOT_READY, ActionKind.HOLD),
        )

    def _do(self, kind: ActionKind, record: RecordingRecord, message: str, **more: Any) -> None:
        record = record.model_copy(update={"updated": self.now})
        self.index.put(record)
        self.actions.append(Action(kind, record, **{"run": False, **more}, message=message))
