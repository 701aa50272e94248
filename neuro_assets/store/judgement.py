"""The judgement of a stored output by criteria that are newer than it.

A manifest keeps the judgement of its day, because what is committed is never written again. A
later one stands beside it in `<asset>/<key>/judgement.json`, with the version of its criteria.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from neuro_assets.store.errors import NotAFileError
from neuro_assets.store.files import StoreFiles
from neuro_assets.store.json_values import parsed
from neuro_assets.store.stored import Stored

JUDGEMENT = "judgement.json"


def keep_judgement(
    store: StoreFiles, stored: Stored, criteria: str, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Keep the judgement of an output, unless it was last judged by the same criteria.

    Parameters
    ----------
    store : StoreFiles
        The store, writable.
    stored : Stored
        The output that was judged.
    criteria : str
        Version of the criteria.
    rows : sequence of mapping
        As in `Manifest.checks`.
    """
    if _last(stored)[0] != criteria:
        found = {"attempt": stored.attempt, "criteria": criteria, "checks": list(rows)}
        store.write_json_atomic(_path(stored), found)


def judgement(stored: Stored) -> list[dict[str, Any]]:
    """Give the criteria of an output with their values and verdicts, as last judged.

    Parameters
    ----------
    stored : Stored
        The output.

    Returns
    -------
    list of dict
        As in `Manifest.checks`.
    """
    return _last(stored)[1]


def _last(stored: Stored) -> tuple[str, list[dict[str, Any]]]:
    try:
        later = parsed(stored.store.backend.read(_path(stored)))
        if later["attempt"] == stored.attempt:
            return later["criteria"], later["checks"]
    except FileNotFoundError:
        pass
    except (ValueError, TypeError, KeyError, NotAFileError):  # damaged: to be judged again
        return "", stored.manifest.checks
    return stored.manifest.criteria, stored.manifest.checks


def _path(stored: Stored) -> str:
    return f"{stored.asset}/{stored.key}/{JUDGEMENT}"
