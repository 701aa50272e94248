"""Commands that make something: `run`, `simulate`, `up`."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from neuro_assets import names
from neuro_assets.cli.app import app
from neuro_assets.cli.lab import Interrupted, Lab, console, open_lab
from neuro_assets.cli.progress import Bars, progress_of
from neuro_assets.cli.run_display import RunDisplay
from neuro_assets.outcomes import Outcome, PermanentFailure, TransientFailure

if TYPE_CHECKING:
    from neuro_assets.registry.registry import RecordingRecord, Registry
    from neuro_assets.service.follower import RunResult
    from neuro_assets.service.worker_process import WorkerProcess


Difficulty = Literal["standard", "hard", "realistic", "clocks", "network", "face", "lifelike"]
ProbeModel = Literal["NP1", "NP2", "NP2.4"]


@app.command()
def run(
    targets: Annotated[
        list[str], typer.Argument(help="Session folders, trees of sessions, or recording keys")
    ],
    only: Annotated[
        list[str] | None, typer.Option(help="Make only these assets; may be repeated")
    ] = None,
    store: Annotated[str | None, typer.Option(help="Folder or s3:// URL of the store")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Compute again what is stored already")
    ] = False,
    use_hash: Annotated[
        bool, typer.Option("--hash", help="Identify raw data by the SHA-1 in their metadata")
    ] = False,
) -> None:
    """Register recordings and process them, here or by a running `neuro-assets up`."""
    from neuro_assets.cli.status import output_states, states_table
    from neuro_assets.service import prepared_worker

    lab = open_lab() if store is None else with_store(open_lab(), store)
    if store is not None and _is_up(lab):
        raise PermanentFailure(
            "`neuro-assets up` is running and uses the store of lab.yaml; stop it, or leave --store"
        )
    with prepared_worker(lab.folder) as worker:
        keys = registered_keys(lab, targets, use_hash=use_hash)
        ok = process_keys(lab, keys, only or [], force=force, worker=worker)
    for key in keys:
        states = output_states(lab, key)
        console.print(states_table(key, states))
        ok = ok and not any(state.outcome is Outcome.FAILED for state in states)
    if not ok:
        raise typer.Exit(1)


def _is_up(lab: Lab) -> bool:
    from dagster import DagsterInstance

    from neuro_assets.service import daemon_alive, prepare_home

    with DagsterInstance.from_config(str(prepare_home(lab.folder))) as instance:
        return daemon_alive(instance)


def with_store(lab: Lab, url: str) -> Lab:
    """Use another store than the one of `lab.yaml`, in this process and what it starts."""
    from neuro_assets.config import STORE_VARIABLE, config_text, parse_config

    os.environ[STORE_VARIABLE] = url if "://" in url else str(Path(url).expanduser().resolve())
    text = config_text(lab.path) if lab.path.is_file() else ""
    return Lab(lab.path, parse_config(text, base=lab.path.parent))


def registered_keys(lab: Lab, targets: Iterable[str], *, use_hash: bool = False) -> list[str]:
    """Register what the folders hold, and return all keys, in order and once each."""
    from neuro_assets.registry.registry import Registry
    from neuro_assets.service.session_registration import register_folder

    registry, keys = Registry(lab.writable_store(create=True)), []
    for target in targets:
        folder = Path(target).expanduser()
        if folder.is_dir():
            with progress_of("registering") as progress:
                found = register_folder(
                    lab.folder, lab.config, registry, folder, use_hash=use_hash, progress=progress
                )
            for line in found.lines:
                console.print(line)
            keys += found.keys
        else:
            keys.append(_known_key(registry, lab.present_key(target)))
    if not keys:
        raise PermanentFailure("no recording that is ready was found; see the lines above")
    return list(dict.fromkeys(keys))


def _known_key(registry: Registry, target: str) -> str:
    """Return a target that is no folder when it is a recording; else say what is wrong with it."""
    from neuro_assets.config import nearest

    if "/" in target or Path(target).exists():
        what = "not a folder: name the one it is in" if Path(target).exists() else "no such folder"
        raise PermanentFailure(f"{target}: {what}")
    keys = registry.all()
    if target not in keys:
        raise PermanentFailure(
            f"{target!r} is neither a folder nor a registered recording{nearest(target, keys)}"
        )
    return target


@contextmanager
def _outputs_kept() -> Iterator[None]:
    """Say on Ctrl-C what is left of the work."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted("interrupted; finished outputs are kept; run again to go on") from None


@_outputs_kept()
def process_keys(
    lab: Lab,
    keys: list[str],
    only: list[str],
    *,
    force: bool = False,
    worker: WorkerProcess | None = None,
) -> bool:
    """Run the jobs for the keys, one key after the other; True when nothing failed."""
    from neuro_assets.assets.runner import FORCE_TAG
    from neuro_assets.service import execute
    from neuro_assets.service.events import run_tags

    registry, ok = lab.registry(), True
    by_job = _selection(lab, only)
    for key in keys:
        record = _record(registry.get(key), key)
        tags = run_tags(record) | ({FORCE_TAG: "true"} if force else {})
        for job in (names.PROCESS_JOB, names.PUBLISH_JOB):
            if only and not by_job[job]:
                continue
            with Bars() as bars:
                display = RunDisplay(key, len(by_job[job]), bars)
                result = execute(
                    job, key, tags, by_job[job] if only else None, workdir=lab.folder,
                    worker=worker, on_event=display, log=console.print,
                )  # fmt: skip
            ok = succeeded(result) and ok
    if not only:
        tables = execute(names.TABLES_JOB, workdir=lab.folder, worker=worker, log=console.print)
        ok = succeeded(tables) and ok
    return ok


def succeeded(result: RunResult) -> bool:
    """Tell whether a run succeeded; one that a person stopped ends the command."""
    if result.stopped:
        raise KeyboardInterrupt
    return result.ok


def _record(record: RecordingRecord | None, key: str) -> RecordingRecord:
    if record is None:
        raise PermanentFailure(f"{key} is not in the registry")
    return record


def _selection(lab: Lab, only: list[str]) -> dict[str, list[str]]:
    from neuro_assets.config.base import nearest

    jobs = {step.name: step.job for step in lab.steps()}
    for name in only:
        if name not in jobs:
            raise PermanentFailure(f"there is no asset {name!r}{nearest(name, jobs)}")
    return {
        job: [name for name in only or jobs if jobs[name] == job]
        for job in (names.PROCESS_JOB, names.PUBLISH_JOB)
    }


@app.command()
def simulate(
    out: Annotated[Path, typer.Argument(help="Folder for the session tree and its truth")],
    duration: Annotated[float, typer.Option(help="Length, seconds", min=1)] = 60.0,
    channels: Annotated[int, typer.Option(help="Channels of each probe", min=4, max=384)] = 64,
    probes: Annotated[int, typer.Option(help="Number of probes", min=1, max=8)] = 1,
    seed: Annotated[int, typer.Option(help="Seed: the same gives the same files", min=0)] = 0,
    difficulty: Annotated[
        Difficulty, typer.Option(help="How hard and how lifelike; see docs/simulation.md")
    ] = "standard",
    probe_model: Annotated[
        Literal["NP1", "NP2", "NP2.4"], typer.Option(help="Neuropixels")
    ] = "NP1",
    subject: Annotated[str, typer.Option(help="Subject")] = "SIM-001",
    date: Annotated[
        datetime.datetime, typer.Option(help="Date, yyyy-mm-dd", formats=["%Y-%m-%d"])
    ] = datetime.datetime(2026, 1, 15),  # noqa: B008 - immutable
    number: Annotated[int, typer.Option(help="Session number of the day", min=1)] = 1,
    video: Annotated[bool, typer.Option(help="Also write a video")] = True,
) -> None:
    """Write a whole recording session as a rig does, with the truth beside it."""
    from neuro_assets.simulation import simulate_session

    with progress_of("simulating") as progress:
        session = simulate_session(
            out,
            duration_s=duration,
            n_channels=channels,
            n_probes=probes,
            seed=seed,
            difficulty=difficulty,
            probe_model=probe_model,
            subject=subject,
            date=date.date(),
            number=number,
            video=video,
            progress=progress,
        )
    console.print(f"session  {session.session}\ntruth    {session.truth}")


@app.command()
def up(
    port: Annotated[
        int, typer.Option(help="Port of the user interface, on 127.0.0.1", min=1, max=65535)
    ] = 3000,
    read_only: Annotated[bool, typer.Option("--read-only", help="Look, but start nothing")] = False,
) -> None:
    """Run the user interface, the sensors and the queue until Ctrl-C."""
    from neuro_assets.service import up as serve

    lab = open_lab()
    if not lab.path.is_file():
        raise PermanentFailure(
            f"there is no {lab.path}; `neuro-assets init {lab.folder}` writes one, and `make demo` "
            "makes a lab to look at"
        )
    if not lab.config.sources and not lab.config.alyx.url:
        console.print(
            f"[yellow]No source folder and no Alyx in {lab.path}: no session will be found.[/]"
        )
    for source in lab.config.sources:
        if Path(source.path).is_relative_to(lab.folder):
            # Never elsewhere: a folder made on the mount point of a vanished disk looks like
            # a disk from which every session is gone.
            Path(source.path).mkdir(parents=True, exist_ok=True)
        console.print(f"watching {source.path}")
    if not read_only:
        with suppress(TransientFailure):  # a server that is away now is waited for by the sensors
            lab.writable_store(create=True)
    with progress_of("starting") as progress:
        serve(
            port, workdir=lab.folder, read_only=read_only, config=lab.path, log=console.print,
            progress=progress,
        )  # fmt: skip
