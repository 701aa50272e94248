"""Commands that set a lab up: `init` and `doctor`."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from neuro_assets.cli.app import app
from neuro_assets.cli.lab import Lab, console, open_lab, os_error_message, size_words
from neuro_assets.config import CONFIG_NAME
from neuro_assets.executors.multiprocess import require_semaphores
from neuro_assets.outcomes import NeuroAssetsError, PermanentFailure
from neuro_assets.parameters.sorting import SortingParameters

LEAST_SCRATCH_BYTES = 20e9
"""A quarter of an hour of Neuropixels (23 MB/s); sorters copy what they sort to scratch."""


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Folder of the lab")] = Path(),
) -> None:
    """Write a commented lab.yaml to start from."""
    folder = folder.expanduser().resolve()
    path = folder / CONFIG_NAME
    if path.exists():
        raise PermanentFailure(f"{path} exists already; edit it, or remove it first")
    folder.mkdir(parents=True, exist_ok=True)
    text = resources.files("neuro_assets").joinpath("templates", CONFIG_NAME).read_text("utf-8")
    path.write_text(text, encoding="utf-8")
    console.print(f"Wrote {path}.\nEdit it, then: neuro-assets --lab {folder} doctor")


@dataclass(frozen=True)
class Finding:
    """One line of the doctor: what was looked at, whether it is well, and how to mend it."""

    subject: str
    is_well: bool
    words: str
    is_needed: bool = True


@app.command()
def doctor() -> None:
    """Check the configuration, the store, the sources, the sorters and the machine."""
    try:
        lab = open_lab()
        lab.steps()
    except NeuroAssetsError as error:
        console.print(f"[bold red]wrong[/]  lab.yaml     {escape(str(error))}")
        raise typer.Exit(1) from error
    ill = False
    for finding in findings(lab):
        mark = "[green]well [/]" if finding.is_well else (
            "[bold red]wrong[/]" if finding.is_needed else "[yellow]note [/]"
        )  # fmt: skip
        # A server's or a folder's words may hold what looks like markup.
        console.print(f"{mark}  {escape(f'{finding.subject:<12} {finding.words}')}")
        ill = ill or (finding.is_needed and not finding.is_well)
    if ill:
        raise typer.Exit(1)


def findings(lab: Lab) -> Iterator[Finding]:
    """Look at everything that a lab needs, one finding after the other.

    Parameters
    ----------
    lab : Lab
        The lab.

    Yields
    ------
    Finding
        One line.
    """
    if lab.path.is_file():
        yield Finding("lab.yaml", True, str(lab.path))
    else:
        words = f"none at {lab.path}: defaults are used; `neuro-assets init` writes one"
        yield Finding("lab.yaml", False, words, is_needed=False)
    yield _try("store", partial(_store, lab))
    yield from _locks(lab)
    for source in lab.config.sources:
        yield _try(f"source {source.name}", partial(_source, lab, Path(source.path)))
    yield from _old_keys(lab)
    yield from _alyx(lab)
    yield _try("shared memory", require_semaphores)
    yield _scratch(lab)
    yield from _sorters(lab)
    yield _gpu(lab)


def _try(subject: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(subject, True, look())
    except NeuroAssetsError as error:
        return Finding(subject, False, str(error))
    except OSError as error:
        return Finding(subject, False, os_error_message(error))


def _store(lab: Lab) -> str:
    store, name, value = lab.store(), "leases/doctor.json", {"written_by": "neuro-assets doctor"}
    store.write_json_atomic(name, value)
    if store.read_json(name) != value:
        raise PermanentFailure(f"{lab.config.store.url} does not give back what is written to it")
    store.backend.remove(name)
    return f"{lab.config.store.url} can be written and read"


def _source(lab: Lab, path: Path) -> str:
    if not path.exists() and path.is_relative_to(lab.folder):
        return f"{path} is not there yet; `neuro-assets up` makes it"
    if not path.is_dir():
        raise PermanentFailure(f"{path} is not there; mount it, or correct `path` in lab.yaml")
    next(path.iterdir(), None)
    return f"{path} can be read"


def _old_keys(lab: Lab) -> Iterator[Finding]:
    """Count the keys that a source's settings, as they are now, would not give."""
    from neuro_assets.registry.keys import has_subject, subject_by

    try:
        records = lab.registry().all()
    except NeuroAssetsError:
        return  # said of the store
    for source in lab.config.sources:
        is_on, old = source.project_in_subject, {}
        for key, record in records.items():
            session = record.session
            if session.dataset and session.source == source.name and record.state != "vanished":
                subject = subject_by(session, source.project, in_subject=is_on)
                if not has_subject(key, subject):
                    old[key] = subject
        if old:
            key, subject = next(iter(old.items()))
            words = (
                f"{len(old)} recordings have keys of other subjects than `project_in_subject: "
                f"{str(is_on).lower()}` gives ({key} is of {subject!r}): they keep them, new "
                "sessions of the same animals get the other; set it back where that is not meant"
            )
            yield Finding(f"source {source.name}", False, words, is_needed=False)


def _alyx(lab: Lab) -> Iterator[Finding]:
    """Look at the lab's Alyx, where it has one."""
    config = lab.config.alyx
    if not config.url:
        return
    from neuro_assets.alyx.client import connect
    from neuro_assets.alyx.doctor import findings as of_alyx

    try:
        client = connect(config, tries=2)
        for subject, is_well, words in of_alyx(client, config, _raw_files(lab)):
            yield Finding(subject, is_well, words)
    except NeuroAssetsError as error:
        yield Finding("alyx", False, str(error))


def _raw_files(lab: Lab) -> list[str]:
    """Names of the raw files of recordings that Alyx knows; none without a store."""
    try:
        records = lab.registry().all().values()
    except NeuroAssetsError:  # said of the store
        return []
    streams = [
        stream
        for record in records
        if record.eid and record.recording
        for stream in record.recording.streams.values()
    ]
    return [Path(path).name for each in streams for path in (*each.files, *each.metas)]


def _locks(lab: Lab) -> Iterator[Finding]:
    """Say where a lock of one machine is unknown to the others; no lock can tell that itself."""
    from neuro_assets.store.locks import mount_with_own_locks

    url = lab.config.store.url
    mount = "" if url.startswith("s3://") else mount_with_own_locks(Path(url))
    if mount:
        words = f"hold on this machine only ({mount}): let one machine write to this store"
        yield Finding("store locks", False, words, is_needed=False)


def _scratch(lab: Lab) -> Finding:
    folder = Path(lab.config.compute.scratch or tempfile.gettempdir())
    if not folder.is_dir():
        return Finding("scratch", False, f"{folder} is not there; correct compute.scratch")
    free = shutil.disk_usage(folder).free
    words = f"{size_words(free)} free in {folder}"
    if free < LEAST_SCRATCH_BYTES:
        words += f"; long recordings need {size_words(LEAST_SCRATCH_BYTES)}, see compute.scratch"
    return Finding("scratch", free >= LEAST_SCRATCH_BYTES, words, is_needed=False)


def _sorters(lab: Lab) -> Iterator[Finding]:
    from spikeinterface.sorters import installed_sorters, sorter_dict

    installed = set(installed_sorters())
    for choice in lab.config.sorters:
        name, subject = choice.sorter_name, f"sorter {choice.name}"
        if name in installed:
            yield _try(subject, partial(_sorter, choice.sorting))
        elif name in sorter_dict:
            yield Finding(subject, False, f"{name} is not installed: pip install it, see its page")
        else:
            known = ", ".join(sorted(installed))
            yield Finding(subject, False, f"SpikeInterface has no sorter {name!r}; here: {known}")


def _sorter(parameters: SortingParameters) -> str:
    from neuro_assets.science.sorting import effective_parameters
    from neuro_assets.science.sorting.process import require_programs

    require_programs(parameters.sorter)
    effective_parameters(parameters, parameters.drift_min_channels)
    return f"{parameters.sorter} is installed and knows its parameters"


def _gpu(lab: Lab) -> Finding:
    import torch

    needing = [choice.sorter_name for choice in lab.config.sorters if choice.sorting.needs_gpu]
    if torch.cuda.is_available():
        return Finding("gpu", True, torch.cuda.get_device_name(0))
    words = "none found"
    if needing:
        words += f"; {needing[0]} will refuse long recordings: use a CPU sorter, or a GPU machine"
    return Finding("gpu", False, words, is_needed=bool(needing))
