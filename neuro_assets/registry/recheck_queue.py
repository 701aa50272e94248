"""Sessions that have to be looked at again: named by the comparison, looked at by discovery.

One writer and one reader for each source. The reader keeps in its own cursor how far it is, so
that a crash of either loses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from neuro_assets.outcomes import PermanentFailure
from neuro_assets.store import Store
from neuro_assets.store.model import checked_name

FOLDER = "registry/recheck"


@dataclass(frozen=True)
class RecheckQueue:
    """What one comparison named.

    Parameters
    ----------
    number : int
        Number of the comparison; grows.
    sessions : dict of str to str
        Ids of sessions with the reason, in the order in which to look at them.
    """

    number: int = 0
    sessions: Mapping[str, str] | None = None

    def after(self, done: tuple[int, int], room: int) -> tuple[list[str], tuple[int, int]]:
        """Take the next ids.

        Parameters
        ----------
        done : (int, int)
            Number of the comparison that was read last, and how many of its ids are done.
        room : int
            Most ids to take.

        Returns
        -------
        ids : list of str
            To look at now.
        done : (int, int)
            To give next time.
        """
        names = list(self.sessions or {})
        start = done[1] if done[0] == self.number else 0
        taken = names[start : start + max(room, 0)]
        return taken, (self.number, start + len(taken))


def read_recheck_queue(store: Store, source: str) -> RecheckQueue:
    """Read what the last comparison named.

    Parameters
    ----------
    store : Store
        The lab's store.
    source : str
        Name of the source.

    Returns
    -------
    RecheckQueue
        Empty before the first comparison.
    """
    content = store.read_json(_path(source))
    if content is None:
        return RecheckQueue()
    try:
        return RecheckQueue(int(content["number"]), dict(content["sessions"]))
    except (KeyError, TypeError, ValueError) as error:
        raise PermanentFailure(
            f"{_path(source)} in the store {store.url} is damaged; remove it, the next "
            "comparison writes it anew"
        ) from error


def write_recheck_queue(store: Store, source: str, sessions: Mapping[str, str]) -> RecheckQueue:
    """Replace what is to be looked at by the names of a new comparison.

    Parameters
    ----------
    store : Store
        The lab's store.
    source : str
        Name of the source.
    sessions : mapping of str to str
        Ids of sessions with the reason.

    Returns
    -------
    RecheckQueue
        As it was written. What the last comparison named and nobody has looked at is still
        different, and so is named again.
    """
    number = read_recheck_queue(store, source).number + 1
    content: dict[str, Any] = {"number": number, "sessions": dict(sessions)}
    store.write_json_atomic(_path(source), content)
    return RecheckQueue(number, dict(sessions))


def _path(source: str) -> str:
    return f"{FOLDER}/{checked_name(source, 'source')}.json"
