"""How our part is put beside those of other writers in one field; pure functions.

Rules: other writers' keys never change, quality only goes up, and NOT_SET is not written over
anything. Who reads and sends the field is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neuro_assets.checks.criteria import Verdict
from neuro_assets.outcomes import PermanentFailure

JSON_KEY = "neuro_assets"
"""Our key in the `json` of a session."""


def own_prefix(label: str) -> str:
    """Beginning of our keys in `extended_qc`.

    Parameters
    ----------
    label : str
        Probe and qualifier: two recordings of one session or one insertion must not overwrite
        each other. It holds no `_`, so that no label's prefix begins another's.

    Returns
    -------
    str
        `_neuroassets_probe00_`.
    """
    return f"_neuroassets_{label}_"


def rank(qc: Any) -> int | None:
    """Place a quality on Alyx's scale.

    Parameters
    ----------
    qc : object
        A name, as in most responses; a number, as of register-file; None counts as NOT_SET.

    Returns
    -------
    int or None
        0 to 50; None for anything that is not on the scale (`json` of insertions is free).
    """
    if qc is None:
        return int(Verdict.NOT_SET)
    if isinstance(qc, str):
        return int(Verdict[qc]) if qc in Verdict.__members__ else None
    is_known = isinstance(qc, int) and not isinstance(qc, bool) and qc in set(Verdict)
    return int(qc) if is_known else None


def raised(theirs: Any, ours: str) -> Any:
    """Give the worse of two qualities.

    Parameters
    ----------
    theirs : object
        What Alyx has now; kept as it is where it is as bad as ours, or not on the scale.
    ours : str
        What the criteria gave.

    Returns
    -------
    object
        Never better than either, so that a person's CRITICAL stays.
    """
    known = rank(theirs)
    return theirs if known is None or Verdict[ours] <= known else ours


def merged_keys(theirs: Any, ours: Mapping[str, Any], prefix: str) -> Any:
    """Replace our keys in a flat dictionary, `extended_qc`.

    Parameters
    ----------
    theirs : object
        The field as it is: a dictionary, or None.
    ours : mapping
        What it shall hold of ours; all keys begin with the prefix.
    prefix : str
        Of our keys; those that are not given any more go.

    Returns
    -------
    dict or None
        The whole field, which a PATCH replaces; None where it was None and nothing is ours.

    Raises
    ------
    PermanentFailure
        The field holds something else than a dictionary.
    """
    old = _dictionary(theirs, "extended_qc")
    new = {key: value for key, value in old.items() if not key.startswith(prefix)} | dict(ours)
    return theirs if new == old else new


def merged_summary(theirs: Any, label: str, ours: Mapping[str, Any]) -> Any:
    """Replace our part about one recording in the `json` of its session.

    Parameters
    ----------
    theirs : object
        The field as it is: a dictionary, or None.
    label : str
        Probe and qualifier.
    ours : mapping
        What it shall hold.

    Returns
    -------
    dict
        The whole field.

    Raises
    ------
    PermanentFailure
        The field holds something else than a dictionary.
    """
    old = _dictionary(theirs, "json")
    section = old.get(JSON_KEY)
    others = section if isinstance(section, dict) else {}
    new = {**old, JSON_KEY: {**others, label: dict(ours)}}
    return theirs if new == old else new


def merged_insertion(theirs: Any, qc: str, extended: Mapping[str, Any], prefix: str) -> Any:
    """Put quality and our keys into the `json` of an insertion.

    Parameters
    ----------
    theirs : object
        The field as it is: a dictionary, or None.
    qc : str
        Our aggregate, for `json.qc`.
    extended, prefix
        As in `merged_keys`, for `json.extended_qc`.

    Returns
    -------
    dict or None
        The whole field; None where it was None and there is nothing of ours.

    Raises
    ------
    PermanentFailure
        The field, or its `extended_qc`, is no dictionary.
    """
    old = _dictionary(theirs, "json")
    new = dict(old)
    aggregate = raised(old.get("qc"), qc)
    if aggregate is not None:
        new["qc"] = aggregate
    keys = merged_keys(old.get("extended_qc"), extended, prefix)
    if keys is not None:
        new["extended_qc"] = keys
    return theirs if new == old else new


def _dictionary(value: Any, field: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise PermanentFailure(
            f"{field} in Alyx holds a {type(value).__name__} and not keys with values, so that "
            "nothing can be added without losing it: correct it in Alyx's admin pages"
        )
    return value
