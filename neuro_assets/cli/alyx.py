"""Commands about the lab's Alyx: what would be registered there, and registering it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neuro_assets.cli.app import app
from neuro_assets.cli.lab import Lab, console, open_lab
from neuro_assets.outcomes import PermanentFailure

if TYPE_CHECKING:
    from neuro_assets.alyx.client import Alyx
    from neuro_assets.alyx.registration.model import TargetState
    from neuro_assets.alyx.registration.repository import WriteRepository
    from neuro_assets.registry.registry import RecordingRecord

commands = typer.Typer(no_args_is_help=True, help="Compare results with Alyx, and register them.")
app.add_typer(commands, name="alyx")

Keys = Annotated[
    list[str] | None, typer.Argument(help="Recordings, as `neuro-assets status` lists them")
]
Every = Annotated[bool, typer.Option("--all", help="All recordings that are in Alyx")]


@commands.command()
def diff(keys: Keys = None, every: Every = False) -> None:
    """Show what Alyx does not hold yet, one line each. Nothing is sent or changed."""
    lab = open_lab()
    _each(_Session.of(lab), _records(lab, keys, every), every, sending=False)


@commands.command()
def register(keys: Keys = None, every: Every = False) -> None:
    """Show what Alyx does not hold yet, send it, and read it back."""
    from neuro_assets.assets.steps.alyx_registration import require_writing

    lab = open_lab()
    session = _Session.of(lab)
    require_writing(lab.config)
    _each(session, _records(lab, keys, every), every, sending=True)


@dataclass(frozen=True)
class _Session:
    """What all recordings of one command share."""

    lab: Lab
    client: Alyx
    repository: WriteRepository | None
    assets: list[str]

    @classmethod
    def of(cls, lab: Lab) -> _Session:
        from neuro_assets.alyx.client import connect
        from neuro_assets.alyx.registration.repository import write_repository
        from neuro_assets.assets.steps.alyx_registration import process_assets

        return cls(
            lab,
            connect(lab.config.alyx),
            write_repository(lab.config),
            process_assets(lab.steps()),
        )

    def target(self, record: RecordingRecord, folder: Path) -> TargetState:
        from neuro_assets.assets.steps.alyx_registration import target_of

        lab = self.lab
        return target_of(
            lab.config, lab.store(), record, self.assets, folder, partial(_processing, lab)
        )


def _processing(lab: Lab, key: str) -> str | None:
    """Id of a live run that makes results of a recording."""
    from neuro_assets.executors.launcher import processing_run
    from neuro_assets.service.home import home_path, prepare_home

    if not home_path(lab.folder).is_dir():
        return None
    from dagster import DagsterInstance

    with DagsterInstance.from_config(str(prepare_home(lab.folder))) as instance:
        return processing_run(instance, key)


def _records(lab: Lab, keys: list[str] | None, every: bool) -> list[RecordingRecord]:
    records = lab.registry().all()
    keys = [lab.present_key(key) for key in keys or ()]
    if bool(keys) == every:
        raise PermanentFailure("name recordings, or give --all for all of them")
    for key in keys:
        if key not in records:
            raise PermanentFailure(
                f"no recording {key!r} in the registry; `neuro-assets status` lists them"
            )
    if keys:
        return [records[key] for key in dict.fromkeys(keys)]
    found = [record for record in records.values() if record.eid is not None]
    console.print(f"{len(found)} of {len(records)} recordings were found in Alyx.")
    return found


def _each(session: _Session, records: list[RecordingRecord], every: bool, *, sending: bool) -> None:
    """Go through the recordings; one that cannot be registered does not stop the others."""
    from neuro_assets.alyx.registration.remote_state import SessionGone

    n_failed = n_changes = n_gone = 0
    for record in records:
        try:
            for line in _lines(session, record, sending=sending):
                n_changes += 1
                console.print(f"{record.key}  {line}", markup=False, soft_wrap=True)
        except PermanentFailure as error:
            if _is_of_all(error):
                raise
            if every and isinstance(error, SessionGone):
                n_gone += 1  # nothing is to be done for it
                continue
            n_failed += 1
            console.print(f"{record.key}  error: {error}", markup=False, soft_wrap=True)
    summary = "sent" if sending else "would be sent (`neuro-assets alyx register` sends)"
    gone = f"; of {n_gone} the session was deleted in Alyx" if n_gone else ""
    refused = f"{n_failed} recordings cannot be registered"
    console.print(f"{n_changes} changes {summary}; {refused}{gone}.", soft_wrap=True)
    if n_failed:
        raise typer.Exit(1)


def _is_of_all(error: PermanentFailure) -> bool:
    """Whether the next recording would meet it too: a wrong token, another server."""
    from neuro_assets.alyx.responses import NotAlyx, TokenRefused

    return isinstance(error, NotAlyx | TokenRefused)


def _lines(session: _Session, record: RecordingRecord, *, sending: bool) -> Iterator[str]:
    from neuro_assets.alyx.registration.register import compare
    from neuro_assets.assets.steps.alyx_registration import send

    with tempfile.TemporaryDirectory(prefix="neuro_assets-alyx-") as folder:
        target = session.target(record, Path(folder))
        changes = compare(session.client, target, session.repository)
        yield from map(str, changes)
        if sending and changes:
            send(session.lab.store(), session.client, target, session.repository)
