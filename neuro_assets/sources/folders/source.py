"""Sessions in folders: ONE trees, and bare run folders dropped beside them.

Each sweep only lists and stats; metas are read for sessions that changed. Every path that cannot
be read is an error or a problem by name, never a session that vanished.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from neuro_assets.formats.completeness import has_flag, partial_copies
from neuro_assets.formats.modalities import MODALITIES, RECORDING, Found, of_session
from neuro_assets.formats.model import Dataset, Problem, RawRecording
from neuro_assets.formats.options import ReaderEntry
from neuro_assets.formats.session_fields import (
    NamedFields,
    bare_fields,
    conflicts,
    other_animals,
    plain_names,
)
from neuro_assets.formats.walk import Listing, UnreadableFolder, list_files
from neuro_assets.outcomes import PermanentFailure
from neuro_assets.registry.descriptions import Changes, Known, Reconciliation, SessionDescription
from neuro_assets.sources.folders.cursor import (
    Entry,
    State,
    decode,
    encode,
    fingerprint,
    is_of_same_files,
    stat_line,
)
from neuro_assets.sources.folders.sweep import (
    FoundSession,
    Sweep,
    is_below,
    is_related,
    lose_empty_mounts,
)
from neuro_assets.sources.folders.tree import find_sessions

_OF_SEVERAL = {"several_dates", "several_subjects", "several_runs", "conflicting_files"}
"""Problems of a folder that may hold sessions side by side and be none itself."""


@dataclass(frozen=True)
class LocalSessionSource:
    """Sessions below a folder.

    `<root>/[<lab>/]Subjects/<subject>/<yyyy-mm-dd>/<number>/` are ONE sessions; every other folder
    directly below the root is one session by itself (a bare run folder), when it holds files.

    Parameters
    ----------
    root : Path
        Top folder. A root that is itself named `Subjects` holds subjects; a root that is itself a
        ONE session folder is that one session.
    name : str
        Name of the source.
    readers : tuple of ReaderEntry
        Recordings that no format describes.
    settle_s : float
        Seconds for which the files of a session must not change before it counts as complete
        without `raw_session.flag`.
    bare_root : bool
        Whether a root that is no tree is one bare session by itself, as a person means who names
        a run folder, unless it holds several.
    project : str
        Name of the project of all BIDS subjects, and subjects of labs, instead of the names of
        folders.
    project_in_subject : bool
        Whether a subject of a BIDS dataset is named `<dataset>-<label>`.
    clock : callable
        Gives the time, seconds since 1970.
    """

    root: Path
    name: str = "local"
    readers: tuple[ReaderEntry, ...] = ()
    settle_s: float = 600.0
    bare_root: bool = False
    project: str = ""
    project_in_subject: bool = False
    clock: Callable[[], float] = time.time

    def changes(
        self,
        cursor: str | None = None,
        *,
        limit: int | None = None,
        again: Collection[str] = (),
        known: Collection[str] = (),
    ) -> Changes:
        """List what changed since a cursor.

        Parameters
        ----------
        cursor : str or None
            From the last call; None for the first.
        limit : int, optional
            Describe at most so many sessions now; the others follow with the next call.
        again : collection of str
            Ids of sessions to describe in any case, where they are there.
        known : collection of str
            Not needed here: describing a folder costs the same for all.

        Returns
        -------
        Changes
            New, changed, settled, vanished and waiting sessions.

        Raises
        ------
        TransientFailure
            When the root cannot be read, or is suddenly empty (a mount point without its mount).
        PermanentFailure
            When the cursor is damaged.
        """
        before_all = decode(cursor)
        sweep = self._find()
        held = [name for name, entry in before_all.items() if entry.state is not State.NOTHING]
        lose_empty_mounts(self.root, held, sweep)
        entries: dict[str, Entry] = {}
        changed: list[SessionDescription] = []
        subjects = sweep.subjects
        animals, options = plain_names(subjects), self._options()
        for session in sweep.sessions:
            before = before_all.get(session.session_id)
            try:
                listing = list_files(session.folder, self.root)
            except UnreadableFolder as error:
                sweep.lose(session.session_id, "unreadable", str(error))
                continue
            if session.fields is None and not listing.files:
                continue
            strange = other_animals(listing.files, _subject(session), animals)
            entry = self._entry(before, listing, [*options, *strange])
            if session.session_id in again or self._is_due(before, entry, listing):
                state = State.NEW
                if limit is None or len(changed) < limit:
                    settled = self._is_settled(entry, listing)
                    description = self._describe(session, listing, settled, subjects)
                    state = _state(description)
                    if _is_nothing(session, description):
                        state = State.NOTHING
                    else:
                        changed.append(description)
                entry = Entry(entry.fingerprint, entry.since, state)
            entries[session.session_id] = entry
        return _report(before_all, entries, changed, sweep)

    def reconcile(self, known: Mapping[str, Known], cursor: str | None = None) -> Reconciliation:
        """Compare nothing: `changes` lists every folder each time and misses none.

        Parameters
        ----------
        known : mapping of str to Known
            Registered sessions, by id.
        cursor : str or None
            From the last call.

        Returns
        -------
        Reconciliation
            Registered sessions whose raw data wait or are away are looked at again.
        """
        waiting = {
            name: "waits" for name, session in known.items() if session.waits or session.gone
        }
        return Reconciliation(recheck=waiting, n_listed=len(known))

    def describe(self, session_id: str, *, settled: bool = True) -> SessionDescription:
        """Describe one session as it is now.

        Parameters
        ----------
        session_id : str
            As in `Changes.seen`.
        settled : bool
            Whether to take its files as no longer changing, as a person does who names a folder.

        Returns
        -------
        SessionDescription
            With recordings, datasets, and whether it is ready.

        Raises
        ------
        PermanentFailure
            When there is no such session.
        TransientFailure
            When the folder cannot be read.
        """
        sweep = self._find()
        for session in sweep.sessions:
            if session.session_id == session_id:
                listing = list_files(session.folder, self.root)
                is_settled = settled or has_flag(listing)
                return self._describe(session, listing, is_settled, sweep.subjects)
        raise PermanentFailure(f"{self.name} has no session {session_id!r} below {self.root}")

    def survey(
        self, within: Path | None = None
    ) -> tuple[tuple[SessionDescription, ...], tuple[Problem, ...]]:
        """Describe sessions for a person who names a folder to be processed now.

        Parameters
        ----------
        within : Path, optional
            Only the sessions in this folder, or that which it is a part of.

        Returns
        -------
        tuple of SessionDescription
            Taken as no longer changing.
        tuple of Problem
            Places below the root that are no session, and why.

        Raises
        ------
        TransientFailure
            When the root, or a session in it, cannot be read.
        """
        sweep, own, root = self._find(), None, self.root.expanduser().absolute()
        if self.bare_root and not sweep.is_tree:
            own = self._taken(FoundSession(".", root, None), sweep)
            if own and not _OF_SEVERAL & {problem.kind for problem in own.problems}:
                return (own,), ()
        wanted = [s for s in sweep.sessions if within is None or is_related(s.folder, within)]
        found = [one for session in wanted if (one := self._taken(session, sweep))]
        if own and not found:
            return (own,), ()
        places = [p for p in sweep.problems if within is None or is_related(root / p.path, within)]
        return tuple(found), tuple(places)

    def _taken(self, session: FoundSession, sweep: Sweep) -> SessionDescription | None:
        """Describe a session as no longer changing; None for a folder that holds nothing."""
        description = self._describe(
            session, list_files(session.folder, self.root), True, sweep.subjects
        )
        return None if _is_nothing(session, description) else description

    def _find(self) -> Sweep:
        return find_sessions(self.root.expanduser().absolute())

    def _options(self) -> list[str]:
        """List what else decides: changed, also in files named there, all are looked at again."""
        chosen = {"project": self.project, "project_in_subject": self.project_in_subject}
        lines = [f"{name}: {value}" for name, value in chosen.items() if value]
        for entry in self.readers:
            named = (entry.probe_file, *entry.options.values())
            lines += [entry.model_dump_json(), *(stat_line(each) for each in named)]
        return lines

    def _entry(self, before: Entry | None, listing: Listing, more: Sequence[str]) -> Entry:
        """Keep the time since when the files, and what decides about them, are as they are."""
        now = int(self.clock())
        print_ = fingerprint(listing, more)
        if before is None or before.since > now or not is_of_same_files(before, print_):
            return Entry(print_, now, State.UNSETTLED)
        if before.fingerprint != print_:
            return Entry(print_, before.since, State.UNSETTLED)
        return before

    def _is_settled(self, entry: Entry, listing: Listing) -> bool:
        return has_flag(listing) or self.clock() - entry.since >= self.settle_s

    def _is_due(self, before: Entry | None, entry: Entry, listing: Listing) -> bool:
        """Describe what is new, changed, left over, or has settled since."""
        if before is None or entry is not before or entry.state is State.NEW:
            return True
        return entry.state is State.UNSETTLED and self._is_settled(entry, listing)

    def _describe(
        self,
        session: FoundSession,
        listing: Listing,
        settled: bool,
        subjects: Collection[str],
    ) -> SessionDescription:
        found = {
            name: modality.scan(session.folder, listing, self.readers)
            for name, modality in MODALITIES.items()
        }
        recordings: tuple[RawRecording, ...] = found[RECORDING].items
        named = session.named
        fields = session.fields or bare_fields(session.folder, recordings, listing, named)
        if session.fields is not None:
            named = NamedFields(fields.subject, fields.number, fields.date)
        # Not even the flag makes two animals one: whoever put it knows nothing of this.
        clash = conflicts(session.folder, recordings, named, fields, subjects)
        waiting, missing = self._missing(session, listing, found, settled)
        dataset = named.dataset and (self.project or named.dataset)
        in_subject = f"{dataset}-" if dataset and self.project_in_subject else ""
        return SessionDescription(
            lab=fields.lab,
            subject=in_subject + fields.subject,
            dataset=dataset,
            project=self.project,
            date=fields.date,
            number=fields.number,
            date_guessed=fields.guessed,
            session_id=session.session_id,
            source=self.name,
            folder=str(session.folder),
            root=self.name,
            path=session.session_id,
            recordings=recordings,
            modalities={each.name: i for each in of_session() for i in found[each.name].items},
            datasets=_datasets(listing, recordings),
            ready=not missing,
            missing=missing,
            settled=settled,
            waiting=waiting,
            problems=(*(p for each in found.values() for p in each.problems), *clash),
            hold="; ".join(problem.detail for problem in clash),
        )

    def _missing(
        self, session: FoundSession, listing: Listing, found: Mapping[str, Found], settled: bool
    ) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
        """List what each recording, and the session as a whole, still waits for."""
        if has_flag(listing):
            return {}, ()
        waiting: dict[str, tuple[str, ...]] = {}
        for name, each in found.items():
            for item in each.items:
                reasons = MODALITIES[name].ready(item, session.folder)
                if reasons:
                    waiting[item.label if name == RECORDING else name] = reasons
        missing = [reason for reasons in waiting.values() for reason in reasons]
        missing += [f"{path} is a copy in progress" for path in partial_copies(listing)]
        if not settled:
            missing.append(f"files changed within the last {self.settle_s:.0f} s")
        return waiting, tuple(dict.fromkeys(missing))


def _report(
    known: dict[str, Entry],
    entries: dict[str, Entry],
    changed: list[SessionDescription],
    sweep: Sweep,
) -> Changes:
    """Compare what is there now with what the cursor knew."""
    there = {name for name, entry in entries.items() if entry.state is not State.NOTHING}
    unread = {n: e for n, e in known.items() if n not in entries and is_below(n, sweep.unread)}
    waits = (State.NEW, State.UNSETTLED, State.WAITING)
    return Changes(
        seen=tuple(name for name in entries if name in there),
        changed=tuple(changed),
        vanished=tuple(
            name
            for name, entry in known.items()
            if entry.state is not State.NOTHING and name not in there and name not in unread
        ),
        not_ready=tuple(name for name, entry in entries.items() if entry.state in waits),
        problems=tuple(sweep.problems),
        cursor=encode({**unread, **entries}),
        complete=all(entry.state is not State.NEW for entry in entries.values()),
    )


def _subject(session: FoundSession) -> str:
    return session.fields.subject if session.fields else session.named.subject


def _state(description: SessionDescription) -> State:
    if description.ready:
        return State.READY
    return State.WAITING if description.settled else State.UNSETTLED


def _is_nothing(session: FoundSession, description: SessionDescription) -> bool:
    """Tell a folder without ONE's place and without a recording: it is no session."""
    found = (*description.recordings, *description.modalities, *description.problems)
    return session.fields is None and not found


def _datasets(listing: Listing, recordings: Sequence[RawRecording]) -> tuple[Dataset, ...]:
    hashes = {
        path: sha1
        for recording in recordings
        for stream in recording.streams.values()
        if len(stream.sha1) == len(stream.files)
        for path, sha1 in zip(stream.files, stream.sha1, strict=True)
        if not path.endswith(".cbin")  # the hash is that of the uncompressed file
    }
    return tuple(
        Dataset(path=f.path, size=f.size, mtime_ns=f.mtime_ns, hash=hashes.get(f.path))
        for f in listing.files
    )
