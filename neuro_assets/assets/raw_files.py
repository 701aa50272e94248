"""Raw data on this machine for as long as a step reads them, wherever the lab keeps them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from neuro_assets.config import LabConfig

if TYPE_CHECKING:
    from neuro_assets.assets.step import Step


@contextmanager
def raw_files(step: Step, config: LabConfig) -> Iterator[None]:
    """Fetch the raw files of a recording that are elsewhere, and keep them meanwhile.

    Parameters
    ----------
    step : Step
        A step that reads its raw recording.
    config : LabConfig
        For the repositories and the cache.

    Yields
    ------
    None
        At once where the files are read in place.

    Raises
    ------
    PermanentFailure
        When a file is not what is registered, or there is no room.
    TransientFailure
        When its server does not answer.
    """
    files = step.raw.remote_files
    if not files:
        yield
        return
    from neuro_assets.alyx.files.repositories import Repositories

    def report(done: int, total: int, path: str) -> None:
        words = f"fetching {path}: {done / 1e9:.2f} of {total / 1e9:.2f} GB"
        step.progress(done / max(total, 1), words)

    with Repositories.of(config).present(files, step.raw.folder, report):
        yield
