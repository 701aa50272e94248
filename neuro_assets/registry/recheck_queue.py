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

FOLDER = "revisits"


@dataclass(frozen=True)
class Revisits:
    """What one comparison named.

    Parameters
    ----------
    number : int
        Number of the comparison; grows.
    again : dict of str to str
        Ids of sessions with the reason, in the order in which to look at them.
    """

    number: int = 0
    again: Mapping[str, str] | None = None

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
        names = list(self.again or {})
        start = done[1] if done[0] == self.number else 0
        taken = names[start : start + max(room, 0)]
        return taken, (self.number, start + len(taken))


def read_revisits(store: Store, source: str) -> Revisits:
    """Read what the last comparison named.

    Parameters
    ----------
    store : Store
        The lab's store.
    source : str
        Name of the source.

    Returns
    -------
    Revisits
        Empty before the first comparison.
    """
    said = store.read_json(_path(source))
    if said is None:
        return Revisits()
    try:
        return Revisits(int(said["number"]), dict(said["again"]))
    except (KeyError, TypeError, ValueError) as error:
        raise PermanentFailure(
            f"{_path(source)} in the store {store.url} is damaged; remove it, the next "
            "comparison writes it anew"
        ) from error


def write_revisits(store: Store, source: str, again: Mapping[str, str]) -> Revisits:
    """Replace what is to be looked at by the names of a new comparison.

    Parameters
    ----------
    store : Store
        The lab's store.
    source : str
        Name of the source.
    again : mapping of str to str
        Ids of sessions with the reason.

    Returns
    -------
    Revisits
        As it was written. What the last comparison named and nobody has looked at is still
        different, and so is named again.
    """
    number = read_revisits(store, source).number + 1
    said: dict[str, Any] = {"number": number, "again": dict(again)}
    store.write_json_atomic(_path(source), said)
    return Revisits(number, dict(again))


def _path(source: str) -> str:
    return f"{FOLDER}/{checked_name(source, 'source')}.json"
