"""Registering what sources found: registry first, then Dagster's keys, events and runs.

Every part is idempotent, so that a crash between two of them is mended by doing all again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from neuro_assets.config import LabConfig, SourceConfig
from neuro_assets.formats.modalities import MODALITIES, RECORDING, Item
from neuro_assets.formats.model import Problem
from neuro_assets.formats.raw_versions import content_of
from neuro_assets.outcomes import NeuroAssetsError, Outcome, PermanentFailure, TransientFailure
from neuro_assets.partitions import SET_NAME
from neuro_assets.registry.actions import Action, ActionKind, Requests, Seen
from neuro_assets.registry.descriptions import SessionDescription
from neuro_assets.registry.findings import update_findings
from neuro_assets.registry.planning import EVERY_RUN, plan
from neuro_assets.registry.registry import RecordIndex, Registry
from neuro_assets.science.result import Progress, no_progress
from neuro_assets.service.events import raw_events
from neuro_assets.sources.folders.source import LocalSessionSource
from neuro_assets.sources.folders.tree import gone_sessions, tree_around
from neuro_assets.sources.protocol import SessionSource
from neuro_assets.store import Store

COMMAND_LINE = "command line"
"""Name of the source of a folder that is below no source of `lab.yaml`."""


@dataclass
class Found:
    """What a folder named on the command line turned into."""

    keys: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


def sources_of(config: LabConfig) -> dict[str, SessionSource]:
    """Make every session source of a lab.

    Parameters
    ----------
    config : LabConfig
        The lab's choices.

    Returns
    -------
    dict of str to SessionSource
        By name. Nothing is connected yet.
    """
    sources: dict[str, SessionSource] = {s.name: local_source(s, config) for s in config.sources}
    if config.alyx.url:
        from neuro_assets.sources.alyx.source import AlyxSessionSource

        sources[config.alyx.name] = AlyxSessionSource.of(config)
    return sources


def local_source(source: SourceConfig, config: LabConfig) -> LocalSessionSource:
    """Make the session source of an entry under `sources`."""
    return LocalSessionSource(
        Path(source.path),
        name=source.name,
        readers=tuple(config.readers),
        settle_s=source.settle_minutes * 60,
        project=source.project,
        project_in_subject=source.project_in_subject,
    )


def seen(description: SessionDescription, *, use_hash: bool) -> Seen:
    """Compute the data version of each recording of a session.

    A recording whose files cannot be read becomes a problem of the session: it must not hide the
    others.
    """
    folder, problems = Path(description.folder), list(description.problems)
    versions: dict[str, str] = {}
    contents: dict[str, str] = {}

    def has_version(modality: str, name: str, item: Item) -> bool:
        try:
            versions[name] = description.versions.get(name) or MODALITIES[modality].version(
                item, folder, use_file_hash=use_hash
            )
        except NeuroAssetsError as error:
            problems.append(Problem(kind="unreadable", path=name, detail=str(error)))
        return name in versions

    readable = tuple(r for r in description.recordings if has_version(RECORDING, r.label, r))
    for recording in readable:
        # Not on this machine: it is known by what a database says.
        with suppress(NeuroAssetsError):
            contents[recording.label] = content_of(recording, folder)
    waiting = dict(description.waiting)
    for name, item in description.modalities.items():
        if not has_version(name, name, item):  # there, so it is waited for
            versions[name], waiting[name] = "unreadable", (problems[-1].detail,)
    update = {"recordings": readable, "waiting": waiting, "problems": tuple(problems)}
    return Seen(description.model_copy(update=update), versions, contents)


def register_sessions(
    registry: Registry,
    descriptions: Sequence[SessionDescription],
    vanished: Iterable[tuple[str, str]] = (),
    *,
    excluded: Mapping[tuple[str, str], str] | None = None,
    use_hash: bool = False,
    reprocess_changed: bool = False,
    now: datetime | None = None,
    requests: Requests = EVERY_RUN,
    progress: Progress = no_progress,
    rename: bool = False,
    sources: Iterable[SourceConfig] = (),
) -> list[Action]:
    """Plan and write the registry; Dagster's part is the caller's.

    Parameters
    ----------
    registry : Registry
        The lab's registry.
    descriptions : sequence of SessionDescription
        New or changed sessions.
    vanished : iterable of (str, str)
        Source and id of sessions that are gone.
    excluded : mapping of (str, str) to str, optional
        Source and id of sessions that the lab does not want, with the reason.
    use_hash : bool
        Identify raw data by the hash in their metadata, where present.
    reprocess_changed : bool
        Whether changed raw data starts a run.
    now : datetime, optional
        Time of the records, UTC; this machine's clock by default.
    requests : Requests
        Which runs to request.
    progress : callable
        Takes the fraction of the sessions whose files were looked at.
    rename : bool
        As in `plan`: a person's word.
    sources : iterable of SourceConfig
        Asked whether the other places of these recordings are still there: a folder that was
        renamed is no copy.

    Returns
    -------
    list of Action
        What was done.
    """
    found = []
    for number, description in enumerate(descriptions):
        progress(number / len(descriptions), f"{description.folder}")
        found.append(seen(description, use_hash=use_hash))
    gone = [*vanished, *_gone(registry.refresh(), found, sources)]
    at = now or datetime.now(UTC)

    def planned(index: RecordIndex) -> list[Action]:
        return plan(
            index,
            found,
            gone,
            at,
            excluded=excluded,
            reprocess_changed=reprocess_changed,
            requests=requests,
            is_unfinished=lambda key: _is_unfinished(registry.store, key),
            rename=rename,
            has_copy=lambda *copied: _has_copy(registry.store, *copied),
        )

    return registry.transact(planned)


def _has_copy(store: Store, key: str, modality: str, version: str) -> bool:
    """Tell whether the copy that counts is whole, and of this version of the raw data."""
    raw = MODALITIES[modality]
    try:
        stored = store.current(raw.copy, key)
    except PermanentFailure:  # damaged: `verify` says so
        return False
    if stored is None or stored.outcome is not Outcome.COMPLETE:
        return False
    return any(i.asset == raw.asset and i.version == version for i in stored.manifest.inputs)


def _gone(
    index: RecordIndex, found: Sequence[Seen], sources: Iterable[SourceConfig]
) -> list[tuple[str, str]]:
    """Name the sessions that held the recordings which were found, and are not there any more."""
    places = {
        (record.session.source, record.session.session_id)
        for each in found
        for recording in each.description.recordings
        for record in index.same(recording.identity, each.contents.get(recording.label, ""))
    } - {(each.description.source, each.description.session_id) for each in found}
    gone: list[tuple[str, str]] = []
    for source in sources:
        with suppress(TransientFailure):  # nothing is known of what cannot be read
            if ids := sorted(session for name, session in places if name == source.name):
                gone += [
                    (source.name, session) for session in gone_sessions(Path(source.path), ids)
                ]
    return gone


def _is_unfinished(store: Store, key: str) -> bool:
    """Tell whether a step of a recording failed last, or nothing of it was ever made."""
    assets = store.assets()
    try:
        failed = any(store.failure(asset, key) is not None for asset in assets)
        return failed or not any(store.current(asset, key) is not None for asset in assets)
    except PermanentFailure:  # damaged: the run says so
        return True


def register_folder(
    lab_folder: Path,
    config: LabConfig,
    registry: Registry,
    folder: Path,
    *,
    use_hash: bool,
    progress: Progress = no_progress,
) -> Found:
    """Register what a folder holds, for the command line; a person's word replaces settling.

    Parameters
    ----------
    lab_folder : Path
        Folder of the lab, with Dagster's home.
    config : LabConfig
        For the readers.
    registry : Registry
        The lab's registry.
    folder : Path
        A ONE tree, a session folder, or a bare run folder.
    use_hash : bool
        As in `register_sessions`.
    progress : callable
        Takes the fraction done and a few words.

    Returns
    -------
    Found
        Keys that are ready, and lines for the screen.
    """
    from neuro_assets.service import prepare_home

    folder = _in_source(config, folder)
    progress(0.0, f"looking for sessions in {folder}")
    sessions, places = describe_folder(config, folder)
    hashed = {source.name for source in config.sources if source.use_file_hash}
    use_hash = use_hash or any(session.source in hashed for session in sessions)
    actions = register_sessions(
        registry,
        sessions,
        use_hash=use_hash,
        reprocess_changed=True,
        requests=Requests(by=COMMAND_LINE),
        progress=lambda share, doing: progress(0.3 + 0.6 * share, doing),
        rename=True,
        sources=config.sources,
    )
    progress(0.9, f"{len(actions)} changes: telling Dagster")
    by_source: dict[str, dict[str, tuple[Problem, ...]]] = defaultdict(dict)
    for session in sessions:
        by_source[session.source][session.session_id] = session.problems
    for name, problems in by_source.items():
        update_findings(registry.store, name, problems, actions)
    home = prepare_home(lab_folder)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        report(instance, actions)
    found = Found()
    for problem in [*places, *(each for session in sessions for each in session.problems)]:
        found.lines.append(f"  {problem.kind}: {problem.path}: {problem.detail}")
    folders = {session.session_id: Path(session.folder) for session in sessions}
    for action in actions:
        found.lines.append(action.message)
        if action.record.state == "ready" and action.kind is not ActionKind.COPY:
            top = folders.get(action.record.session.session_id)
            # Of a session of which a part was named, that part.
            if top is None or (top / action.record.raw.main.files[0]).is_relative_to(folder):
                found.keys.append(action.record.key)
    return found


def report(instance: dg.DagsterInstance, actions: Sequence[Action]) -> None:
    """Report to Dagster the keys and the raw data's versions."""
    keys = [action.record.key for action in actions if action.kind is not ActionKind.VANISH]
    if keys:
        instance.add_dynamic_partitions(SET_NAME, list(dict.fromkeys(keys)))
    for action in actions:
        for event in raw_events(action):
            instance.report_runless_asset_event(event)


def describe_folder(
    config: LabConfig, folder: Path
) -> tuple[list[SessionDescription], tuple[Problem, ...]]:
    """Describe the sessions in a folder, or that which it is a part of, as the sensor does.

    With the same source and id the sensor later finds the same recording, not a copy of it.

    Parameters
    ----------
    config : LabConfig
        For the sources and readers.
    folder : Path
        Absolute path.

    Returns
    -------
    list of SessionDescription
        Taken as no longer changing.
    tuple of Problem
        Places in it that are no session, and why.
    """
    around = tree_around(folder)
    tries = [_source_of(config, folder), SourceConfig(path=str(around)) if around else None]
    found: tuple[SessionDescription, ...] = ()
    problems: tuple[Problem, ...] = ()
    for each in tries:
        if each is not None and not found:
            found, problems = local_source(each, config).survey(folder)
    if not found:
        here = local_source(SourceConfig(path=str(folder)), config)
        found, problems = replace(here, bare_root=True).survey()
    sessions = []
    for session in found:
        inside = _source_of(config, Path(session.folder))
        below = Path(session.folder).relative_to(inside.path if inside else "/").as_posix()
        update = {"session_id": below, "path": below, "root": inside.name if inside else ""}
        update["source"] = inside.name if inside else COMMAND_LINE
        sessions.append(session.model_copy(update=update))
    return sessions, problems


def _in_source(config: LabConfig, folder: Path) -> Path:
    """Give the path under which a source has a folder that may be named through a link."""
    paths = (folder.resolve(), folder.absolute())
    return next((path for path in paths if _source_of(config, path)), paths[0])


def _source_of(config: LabConfig, folder: Path) -> SourceConfig | None:
    """Find the source that a folder is below."""
    return next((s for s in config.sources if folder.is_relative_to(s.path)), None)
