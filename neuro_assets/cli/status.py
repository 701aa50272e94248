"""The command that only looks: `status`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from neuro_assets.cli.app import app
from neuro_assets.cli.session import Lab, console, open_lab, size_words, time_words
from neuro_assets.outcomes import Outcome, PermanentFailure

if TYPE_CHECKING:
    from neuro_assets.assets.inventory import OutputState

STYLES = {
    Outcome.COMPLETE: "green",
    Outcome.SKIPPED: "yellow",
    Outcome.FAILED: "bold red",
    Outcome.RUNNING: "cyan",
    Outcome.WAITING: "dim",
    Outcome.RAW_DATA_MISSING: "bold red",
}


@app.command()
def status(
    key: Annotated[str | None, typer.Argument(help="One recording; all when left out")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list, for programs")] = False,
) -> None:
    """Show every expected output of every recording, with exactly one state each."""
    lab = open_lab()
    states = output_states(lab, key)
    if as_json:
        print(json.dumps([state.row() for state in states], default=str, indent=1))
    else:
        _print_states(lab, states)
    if any(state.outcome is Outcome.FAILED for state in states):
        raise typer.Exit(1)


def output_states(lab: Lab, key: str | None = None) -> list[OutputState]:
    """List the states of the outputs of one recording, or of all."""
    from neuro_assets.assets.inventory import inventory

    records = lab.registry().all()
    if key is not None:
        if key not in records:
            raise PermanentFailure(
                f"no recording {key!r} in the registry; `neuro-assets status` lists them"
            )
        records = {key: records[key]}
    return inventory(lab.store(), records, lab.steps(), _running(lab))


def _running(lab: Lab) -> Mapping[str, set[str]]:
    """Assets that live runs are making now, by key."""
    home = lab.folder / ".dagster_home"
    if not home.is_dir():
        return {}
    from neuro_assets.service import steps_in_progress

    return steps_in_progress(lab.folder)


def _print_states(lab: Lab, states: list[OutputState]) -> None:
    from neuro_assets.service import loaded_configuration

    for line in loaded_configuration(lab.folder, lab.path):
        console.print(escape(line), soft_wrap=True)
    if not states:
        console.print(
            f"No recordings yet in {lab.config.store.url}. Drop a session into a source folder "
            "while `neuro-assets up` runs, or use `neuro-assets run FOLDER`."
        )
        return
    records = lab.registry().all()
    for name in dict.fromkeys(state.key for state in states):
        record = records.get(name)
        title = name
        if record is not None and record.reason:
            title = f"{name}: raw data {record.state.replace('_', ' ')}: {escape(record.reason)}"
        for modality, data in record.modalities.items() if record is not None else ():
            waits = f"waits: {'; '.join(data.missing)}" if data.missing else "complete"
            title += f"\n  {modality} {escape(waits)}"
        console.print(states_table(title, [state for state in states if state.key == name]))


def states_table(title: str, states: list[OutputState]) -> Table:
    """Table of the outputs of one recording."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in ("output", "state", "time", "size", "remarks"):
        table.add_column(
            column, justify="right" if column in ("time", "size") else "left",
            overflow="fold", no_wrap=column in ("output", "state"),
        )  # fmt: skip
    for state in states:
        manifest = state.stored.manifest if state.stored else None
        remarks = [state.detail] if state.detail else []
        if state.out_of_date:
            remarks.append("out of date: " + "; ".join(state.out_of_date))
        table.add_row(
            state.asset,
            f"[{STYLES[state.outcome]}]{state.outcome.value}[/]",
            time_words(manifest.duration_s if manifest else None),
            size_words(manifest.size_bytes if manifest and manifest.files else None),
            escape("; ".join(remarks)),
        )
    return table
