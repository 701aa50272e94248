"""What sources hold that is no recording, and why: kept in the store, one file a source."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TypeVar

from pydantic import ValidationError

from neuro_assets.formats.model import Frozen, Problem
from neuro_assets.outcomes import PermanentFailure
from neuro_assets.recording_key import safe_name
from neuro_assets.registry.actions import Action
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
    copies : dict of str to tuple of str
        By session id, the recordings elsewhere of which it holds a copy.
    """

    places: tuple[Problem, ...] = ()
    sessions: dict[str, tuple[Problem, ...]] = {}
    copies: dict[str, tuple[str, ...]] = {}

    def rows(self) -> list[Problem]:
        """List all of it, with paths as people see them."""
        below = [
            problem.model_copy(update={"path": f"{session}/{problem.path}".rstrip("/")})
            for session, problems in self.sessions.items()
            for problem in problems
        ]
        return [*self.places, *below]


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
    copies: dict[str, list[str]] = {name: [] for name in found}
    for action in actions:
        if action.copy_in in found:
            problem = Problem(kind="copy", path="", detail=action.message)
            found[action.copy_in].append(problem)
            copies[action.copy_in].append(action.record.key)
    after = Findings(
        places=before.places if places is None else tuple(places),
        sessions=_merged(before.sessions, found, gone := frozenset(gone)),
        copies=_merged(before.copies, copies, gone),
    )
    if after == before:
        return None
    store.write_json_atomic(_path(source), after.model_dump(mode="json"))
    return after


def _merged(
    before: Mapping[str, Sequence[T]], new: Mapping[str, Sequence[T]], gone: Collection[str]
) -> dict[str, tuple[T, ...]]:
    merged = {**before, **new}
    return {n: tuple(merged[n]) for n in sorted(merged) if merged[n] and n not in gone}


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
