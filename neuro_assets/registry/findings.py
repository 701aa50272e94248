"""What sources hold that is no recording, and why: kept in the store, one file a source."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError, field_validator

from neuro_assets.formats.model import Frozen, Problem
from neuro_assets.outcomes import PermanentFailure
from neuro_assets.recording_key import safe_name
from neuro_assets.registry.actions import Action
from neuro_assets.registry.records import RecordingRecord
from neuro_assets.store import Store

T = TypeVar("T")
FOLDER = "findings"


class Findings(Frozen):
    """All of one source.

    Parameters
    ----------
    places : tuple of Problem
        Folders that are no session, paths below the source's root.
    sessions : dict of str to tuple of Problem
        By session id, files that are in no recording; paths below the session.
    copies : dict of str to dict of str to str
        By session id, the recordings elsewhere of which it holds a copy, each with what it held
        when the two were compared.
    """

    places: tuple[Problem, ...] = ()
    sessions: dict[str, tuple[Problem, ...]] = {}
    copies: dict[str, dict[str, str]] = {}

    @field_validator("copies", mode="before")
    @classmethod
    def _compared(cls, value: Any) -> Any:
        """Take over keys alone, as they were kept first: these are compared once more."""
        if not isinstance(value, dict):
            return value
        return {n: dict.fromkeys(k, "") if isinstance(k, list) else k for n, k in value.items()}

    def to_compare(self, records: Mapping[str, RecordingRecord]) -> list[str]:
        """Name the sessions that may hold a copy no more.

        Parameters
        ----------
        records : mapping of str to RecordingRecord
            The registry, by key.

        Returns
        -------
        list of str
            Those whose original is gone from where it was registered, or holds something else
            than when the two were compared: it may have waited for its samples then.
        """
        return [
            session
            for session, originals in self.copies.items()
            if any(
                key in records and (records[key].state == "vanished" or _held(records[key]) != held)
                for key, held in originals.items()
            )
        ]

    def rows(self) -> list[Problem]:
        """List all of it, with paths as people see them."""
        below = [
            problem.model_copy(update={"path": f"{session}/{problem.path}".rstrip("/")})
            for session, problems in self.sessions.items()
            for problem in problems
        ]
        return [*self.places, *below]


def _held(record: RecordingRecord) -> str:
    return f"{record.raw_version} {record.content}"


def read_findings(store: Store, source: str) -> Findings:
    """Read what was found at a source.

    Parameters
    ----------
    store : Store
        The lab's store.
    source : str
        Its name.

    Returns
    -------
    Findings
        Empty before the first look.

    Raises
    ------
    PermanentFailure
        When the file is damaged.
    """
    content = store.read_json(_path(source))
    try:
        return Findings() if content is None else Findings.model_validate(content)
    except ValidationError as error:
        raise PermanentFailure(
            f"{_path(source)} in the store {store.url} is damaged; remove it and reset the cursor "
            "of the discovery sensor, which then looks at everything anew"
        ) from error


def update_findings(
    store: Store,
    source: str,
    sessions: Mapping[str, Sequence[Problem]],
    actions: Iterable[Action] = (),
    *,
    gone: Iterable[str] = (),
    places: Sequence[Problem] | None = None,
) -> Findings | None:
    """Bring what is known of a source up to date.

    Parameters
    ----------
    store : Store
        The lab's store.
    source : str
        Its name.
    sessions : mapping of str to sequence of Problem
        Problems of the sessions that were looked at; empty for those without any.
    actions : iterable of Action
        What was done about them: which hold copies.
    gone : iterable of str
        Sessions that are no longer there.
    places : sequence of Problem, optional
        All places that are no session, where the source lists them each time.

    Returns
    -------
    Findings or None
        What is known now; None where nothing changed.
    """
    before = read_findings(store, source)
    found = {name: list(problems) for name, problems in sessions.items()}
    copies: dict[str, dict[str, str]] = {name: {} for name in found}
    for action in actions:
        if action.copy_in in found:
            problem = Problem(kind="copy", path="", detail=action.message)
            found[action.copy_in].append(problem)
            copies[action.copy_in][action.record.key] = _held(action.record)
    after = Findings(
        places=before.places if places is None else tuple(places),
        sessions=_merged(
            before.sessions, {n: tuple(each) for n, each in found.items()}, gone := frozenset(gone)
        ),
        copies=_merged(before.copies, copies, gone),
    )
    if after == before:
        return None
    store.write_json_atomic(_path(source), after.model_dump(mode="json"))
    return after


def _merged(before: Mapping[str, T], new: Mapping[str, T], gone: Collection[str]) -> dict[str, T]:
    merged = {**before, **new}
    return {n: merged[n] for n in sorted(merged) if merged[n] and n not in gone}


def all_findings(store: Store) -> dict[str, Findings]:
    """Read the findings of every source.

    Parameters
    ----------
    store : Store
        The lab's store.

    Returns
    -------
    dict of str to Findings
        By source.
    """
    names = [name for name in store.backend.entries(FOLDER) if name.endswith(".json")]
    sources = sorted(name.removesuffix(".json") for name in names)
    return {source: read_findings(store, source) for source in sources}


def _path(source: str) -> str:
    return f"{FOLDER}/{safe_name(source)}.json"
