"""One configuration for the whole of a run, and the last good one when a new one is broken.

Dagster imports the definitions again in every step process, so a file read there would change
under a run in progress. What is read at the first load is recorded with the run and handed back in
each step. What is in `lab.yaml`, and whether it is right, is known to `neuro_assets.config`.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from neuro_assets.outcomes import NeuroAssetsError, PermanentFailure

LAST_GOOD_SUFFIX = ".last_good"
LOADED_VARIABLE = "NEURO_ASSETS_LOADED_CONFIG"
"""Set for the code server of `up`: the file in which it records the configuration it loads."""
_PREFIX = "neuro_assets/"
_log = logging.getLogger("dagster.neuro_assets.config")

Validate = Callable[[str], object]
"""Raises `NeuroAssetsError` or `ValueError` (pydantic's included) when a text is not usable."""

Compare = Callable[[str, str], list[dict[str, str]]]
"""Lists `field`, `old` and `new` of what differs between two usable texts."""


@dataclass(frozen=True)
class ConfigText:
    """The text of a configuration file that is in force.

    Parameters
    ----------
    text : str
        Its text, empty when there is no such file.
    error : str or None
        Why the file as it is now was refused; `text` is then the last good one.
    loaded_at : str or None
        When it was read: ISO time, UTC.
    changes : list of dict
        `field`, `old` and `new` of the latest change that a code server has loaded.
    changed_at : str or None
        When it was loaded: ISO time, UTC.
    """

    text: str
    error: str | None = None
    loaded_at: str | None = None
    changes: list[dict[str, str]] = field(default_factory=list)
    changed_at: str | None = None


def frozen_text(name: str, read: Callable[[], str]) -> str:
    """Read a text when the code location is loaded; hand back the same in each step of a run.

    Call it inside the function decorated by `@dg.definitions`. On initialization (code server
    start or reload, a run of the command line) `read` is called and its result recorded; the run
    carries it, and on reconstruction (run worker, step process, spawned or forked) it is returned
    without reading.

    Parameters
    ----------
    name : str
        Name of the text, unique in the code location.
    read : callable
        Returns the text.

    Returns
    -------
    str
        The text that counts here.

    Notes
    -----
    `DefinitionsLoadContext` is not exported by Dagster; `tests/service/test_dagster_contract.py`
    holds what is used of it. `Definitions.with_reconstruction_metadata` does not reach the steps.
    """
    from dagster._core.definitions.definitions_load_context import (
        DefinitionsLoadContext,
        DefinitionsLoadType,
    )

    context = DefinitionsLoadContext.get()
    key = _PREFIX + name
    text = None
    if context.load_type is DefinitionsLoadType.RECONSTRUCTION:
        text = context.reconstruction_metadata.get(key)
    if text is None:
        text = read()
    # Also on reconstruction: the next process gets what is pending here.
    context.add_to_pending_reconstruction_metadata(key, text)
    return text


def frozen_config(path: Path, validate: Validate, compare: Compare | None = None) -> ConfigText:
    """Read, check and freeze a configuration file; see `load_config_text` and `frozen_text`.

    The code server of `neuro-assets up` also records what it has loaded, see `loaded_config`.

    Parameters
    ----------
    path : Path
        The file.
    validate : callable
        Raises when a text is not usable.
    compare : callable, optional
        Lists the fields in which two usable texts differ.

    Returns
    -------
    ConfigText
        What counts in this process, and the error to show if the file was refused.
    """

    def read() -> str:
        loaded = ConfigText(*load_config_text(path, validate), loaded_at=_now())
        record = os.environ.get(LOADED_VARIABLE)
        if record:
            loaded = _recorded(Path(record), loaded, compare)
        return json.dumps(asdict(loaded))

    return ConfigText(**json.loads(frozen_text(path.name, read)))


def loaded_config(record: Path) -> ConfigText | None:
    """Return what the code server has loaded last.

    Parameters
    ----------
    record : Path
        `loaded_config.json` in the home.

    Returns
    -------
    ConfigText or None
        None when no code server has recorded anything, or not in this form.
    """
    try:
        return ConfigText(**json.loads(record.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _recorded(record: Path, loaded: ConfigText, compare: Compare | None) -> ConfigText:
    """Add what changed since the load before, and keep both for the next one and for `status`."""
    before = loaded_config(record)
    if before is not None:
        loaded = replace(loaded, changes=before.changes, changed_at=before.changed_at)
        if compare is not None and before.text != loaded.text:
            loaded = _with_changes(before, loaded, compare)
    _keep(record, json.dumps(asdict(loaded)))
    return loaded


def _with_changes(before: ConfigText, loaded: ConfigText, compare: Compare) -> ConfigText:
    try:
        changes = compare(before.text, loaded.text)
    except (NeuroAssetsError, ValueError) as error:
        # The text of then is not usable any more: another version of this package.
        changes = [{"field": "lab.yaml", "old": f"not readable: {error}", "new": "as it is now"}]
    if not changes:
        return loaded
    return replace(loaded, changes=changes, changed_at=loaded.loaded_at)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def load_config_text(path: Path, validate: Validate) -> tuple[str, str | None]:
    """Return the text of a configuration file, or the last good one if it is broken now.

    A mistake in the file must not take the code location down, with the sensors and whatever
    waits. A good text is kept for that case (`last_good_path`).

    Parameters
    ----------
    path : Path
        The file. Where it never existed, the empty text is validated instead.
    validate : callable
        Raises `NeuroAssetsError`, `ValueError` or `OSError` when a text is not usable.

    Returns
    -------
    tuple of (str, str or None)
        The text in force, and why the file was refused.

    Raises
    ------
    NeuroAssetsError, ValueError, OSError
        When the file is not usable and there is no last good text that is.
    """
    keep = last_good_path(path)
    good = keep.read_text(encoding="utf-8") if keep is not None and keep.exists() else None
    try:
        text = "" if good is None and not path.exists() else path.read_text(encoding="utf-8")
        validate(text)
        if good is not None and good.strip() and not text.strip():
            raise PermanentFailure("the file is empty; write it again")
    except (NeuroAssetsError, ValueError, OSError) as error:
        if good is None:
            raise
        message = f"{path} was refused, the last good configuration stays in force: {error}"
        _log.warning(message)
        validate(good)
        return good, message
    if keep is not None:
        _keep(keep, text)
    return text, None


def last_good_path(path: Path) -> Path | None:
    """Return where the last good text of a file is kept.

    Parameters
    ----------
    path : Path
        The configuration file.

    Returns
    -------
    Path or None
        None when there is no `DAGSTER_HOME`.
    """
    home = os.environ.get("DAGSTER_HOME")
    return Path(home) / f"{path.stem}{LAST_GOOD_SUFFIX}{path.suffix}" if home else None


def _keep(keep: Path, text: str) -> None:
    """Write the good text whole or not at all: several processes load at the same time."""
    if keep.exists() and keep.read_text(encoding="utf-8") == text:
        return
    keep.parent.mkdir(parents=True, exist_ok=True)
    part = keep.with_name(f"{keep.name}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(keep)
