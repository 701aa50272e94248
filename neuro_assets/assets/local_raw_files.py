"""Raw data on this machine, unchanged, for as long as a step reads them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from neuro_assets import names
from neuro_assets.config import LabConfig
from neuro_assets.outcomes import TransientFailure

if TYPE_CHECKING:
    from neuro_assets.assets.step import Step
    from neuro_assets.sources.raw_input import RawInput


@contextmanager
def raw_files(step: Step, config: LabConfig, asset: str = names.RAW_RECORDING) -> Iterator[None]:
    """Keep raw files while they are read, and make sure that they stay as named.

    Files that are elsewhere are fetched first. Before and after the reading their version is
    computed again (from sizes, times and parts of the files): what is made of files that somebody
    replaced or went on writing must not be stored under the version of other data.

    Parameters
    ----------
    step : Step
        A step that reads raw data.
    config : LabConfig
        For the repositories and the cache.
    asset : str
        Which raw data.

    Yields
    ------
    None
        At once where the files are read in place.

    Raises
    ------
    PermanentFailure
        When a file is not what is registered, or there is no room.
    TransientFailure
        When its server does not answer, or the files changed.
    """
    raw = step.raw_data(asset)
    with _fetched(step, config, raw):
        before = raw.versions_now()
        registered = raw.registered_versions
        if registered and not registered & before:
            raise _changed(raw, "since they were registered")
        try:
            yield
        except Exception as error:
            # Half of one file and half of another look like damage, which nobody could mend.
            if raw.versions_now() != before:
                raise _changed(raw, "while they were read") from error
            raise
        if raw.versions_now() != before:
            raise _changed(raw, "while they were read")


def _changed(raw: RawInput, when: str) -> TransientFailure:
    return TransientFailure(
        f"raw data of {raw.key} changed {when}, so nothing of this is kept: it is tried again "
        "and runs again once the sensor has registered them as they are now (without it: "
        f"neuro-assets run {raw.folder})"
    )


def _fetched(step: Step, config: LabConfig, raw: RawInput) -> Any:
    """Fetch what is elsewhere."""
    files = raw.remote_files
    if not files:
        return nullcontext()
    from neuro_assets.alyx.files.repositories import Repositories

    def report(done: int, total: int, path: str) -> None:
        message = f"fetching {path}: {done / 1e9:.2f} of {total / 1e9:.2f} GB"
        step.progress(done / max(total, 1), message)

    return Repositories.of(config).present(files, raw.folder, report)
