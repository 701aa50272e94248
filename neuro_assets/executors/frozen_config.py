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
from dataclasses import asdict, dataclass
from pathlib import Path

from neuro_assets.outcomes import NeuroAssetsError

LAST_GOOD_SUFFIX = ".last_good"
_PREFIX = "neuro_assets/"
_log = logging.getLogger("dagster.neuro_assets.config")

Validate = Callable[[str], object]
"""Raises `NeuroAssetsError` or `ValueError` (pydantic's included) when a text is not usable."""


@dataclass(frozen=True)
class ConfigText:
    """The text of a configuration file that is in force.

    Parameters
    ----------
    text : str
        Its text, empty when there is no such file.
    error : str or None
        Why the file as it is now was refused; `text` is then the last good one.
    """

    text: str
    error: str | None = None


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
    `DefinitionsLoadContext` is not exported by Dagster; `tests/test_dagster_contract.py` holds
    what is used of it. `Definitions.with_reconstruction_metadata` does not reach the steps.
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


def frozen_config(path: Path, validate: Validate) -> ConfigText:
    """Read, check and freeze a configuration file; see `load_config_text` and `frozen_text`.

    Parameters
    ----------
    path : Path
        The file.
    validate : callable
        Raises when a text is not usable.

    Returns
    -------
    ConfigText
        What counts in this process, and the error to show if the file was refused.
    """

    def read() -> str:
        text, error = load_config_text(path, validate)
        return json.dumps(asdict(ConfigText(text, error)))

    return ConfigText(**json.loads(frozen_text(path.name, read)))


def load_config_text(
    path: Path, validate: Validate, *, keep: Path | None = None
) -> tuple[str, str | None]:
    """Return the text of a configuration file, or the last good one if it is broken now.

    A mistake in the file must not take the code location down, with the sensors and whatever
    waits. A good text is kept for that case.

    Parameters
    ----------
    path : Path
        The file. Where it never existed, the empty text is validated instead.
    validate : callable
        Raises `NeuroAssetsError`, `ValueError` or `OSError` when a text is not usable.
    keep : Path, optional
        Where the last good text is kept; `lab.last_good.yaml` in `DAGSTER_HOME` for `lab.yaml`
        when None, and nowhere without that variable.

    Returns
    -------
    tuple of (str, str or None)
        The text in force, and why the file was refused.

    Raises
    ------
    NeuroAssetsError, ValueError, OSError
        When the file is not usable and there is no last good text that is.
    """
    keep = keep or last_good_path(path)
    try:
        text = _read_and_check(path, validate, required=keep is not None and keep.exists())
    except (NeuroAssetsError, ValueError, OSError) as error:
        if keep is None or not keep.exists():
            raise
        message = f"{path} was refused, the last good configuration stays in force: {error}"
        _log.warning(message)
        good = keep.read_text(encoding="utf-8")
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


def _read_and_check(path: Path, validate: Validate, *, required: bool) -> str:
    """Return the file's text once it is known to be usable."""
    text = path.read_text(encoding="utf-8") if required or path.exists() else ""
    validate(text)
    return text


def _keep(keep: Path, text: str) -> None:
    """Write the good text whole or not at all: several processes load at the same time."""
    if keep.exists() and keep.read_text(encoding="utf-8") == text:
        return
    keep.parent.mkdir(parents=True, exist_ok=True)
    part = keep.with_name(f"{keep.name}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(keep)
