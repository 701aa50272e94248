"""The command that only looks: `status`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group
from rich.markup import escape
from rich.text import Text

from neuro_assets.assets.overview import Filter, Line, RecordingState, summary
from neuro_assets.checks.criteria import Verdict
from neuro_assets.cli.app import app
from neuro_assets.cli.lab import (
    Lab,
    console,
    new_table,
    open_lab,
    size_words,
    time_words,
)
from neuro_assets.outcomes import Outcome, PermanentFailure

if TYPE_CHECKING:
    from neuro_assets.assets.inventory import OutputState
    from neuro_assets.registry.index import Records
    from neuro_assets.registry.records import RecordingRecord
    from neuro_assets.store import Manifest

COLOURS = {
    RecordingState.DAMAGED: "red",
    RecordingState.FAILED: "red",
    RecordingState.RAW_DATA_MISSING: "red",
    RecordingState.RUNNING: "cyan",
    RecordingState.OUT_OF_DATE: "yellow",
    RecordingState.COMPLETE: "green",
}

STYLES = {
    Outcome.COMPLETE: "green",
    Outcome.SKIPPED: "yellow",
    Outcome.FAILED: "bold red",
    Outcome.RUNNING: "cyan",
    Outcome.WAITING: "dim",
    Outcome.RAW_DATA_MISSING: "bold red",
}


LONGEST_REMARK = 36
"""Characters that a remark in the table may have; a longer one stands below it."""


@app.command()
def status(
    key: Annotated[str | None, typer.Argument(help="One recording, with all its outputs")] = None,
    state: Annotated[
        RecordingState | None, typer.Option(help="Only recordings in this state")
    ] = None,
    subject: Annotated[str, typer.Option(help="Only recordings of this subject")] = "",
    project: Annotated[str, typer.Option(help="Only recordings of this project")] = "",
    since: Annotated[
        datetime | None, typer.Option(help="Only sessions from this day on", formats=["%Y-%m-%d"])
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Every output of every recording, not one line each")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list, for programs")] = False,
) -> None:
    """Show the state of every recording; of one, or with --all, of every expected output."""
    lab = open_lab()
    wanted = Filter(state, subject, project, since.date() if since else None)
    if key is not None:
        key = lab.present_key(key)
        record = lab.registry().get(key)
        if record is None:
            raise _unknown(key)
        failed = _show_outputs(lab, {key: record}, as_json=as_json)
    elif every or as_json:
        failed = _show_outputs(lab, _selected(lab, wanted), as_json=as_json)
    else:
        failed = _show_overview(lab, wanted)
        print_findings(lab)
    if failed:
        raise typer.Exit(1)


def output_states(lab: Lab, key: str) -> list[OutputState]:
    """List the states of the outputs of one recording."""
    from neuro_assets.assets.inventory import inventory

    record = lab.registry().get(key)
    if record is None:
        raise _unknown(key)
    states = inventory(lab.store(), {key: record}, lab.steps(), _running(lab))
    return [each.readable() for each in states]


def _unknown(key: str) -> PermanentFailure:
    return PermanentFailure(
        f"no recording {key!r} in the registry; `neuro-assets status` lists them"
    )


def _selected(lab: Lab, wanted: Filter) -> dict[str, RecordingRecord]:
    """List the records that pass the filter; only the state needs their outputs."""
    records = lab.registry().all()
    if wanted.state is None:
        return {key: record for key, record in records.items() if wanted.admits(record)}
    lines = _lines(lab, records, wanted)
    return {line.key: records[line.key] for line in lines}


def _lines(lab: Lab, records: Records, wanted: Filter) -> Iterator[Line]:
    from neuro_assets.assets.overview_lines import lines_of
    from neuro_assets.store.opening import lab_memory

    memory = lab_memory()
    folder = memory.folder if memory else None
    return lines_of(lab.store(), records, lab.steps(), _running(lab), wanted, folder)


def _show_outputs(lab: Lab, records: Mapping[str, RecordingRecord], *, as_json: bool) -> bool:
    from neuro_assets.assets.inventory import inventory

    found = inventory(lab.store(), records, lab.steps(), _running(lab))
    states = [each.readable() for each in found]
    if as_json:
        print(json.dumps([each.row() for each in states], default=str, indent=1))
    else:
        _print_configuration(lab)
        _print_states(lab, records, states)
    return any(each.outcome is Outcome.FAILED for each in states)


def _show_overview(lab: Lab, wanted: Filter) -> bool:
    from neuro_assets.registry.renaming import cut_renaming

    registry = lab.registry()
    records = registry.all()
    lines = [
        Line(key, RecordingState.DAMAGED, f"its record is damaged: {reason}")
        for key, reason in registry.damaged.items()
        if wanted.state in (None, RecordingState.DAMAGED)
    ]
    lines += _lines(lab, records, wanted)
    _print_configuration(lab)
    for key, new_key in registry.refresh().renaming.items():
        console.print(escape(cut_renaming(key, new_key)), soft_wrap=True)
    if not records and not lines:
        _print_nothing(lab)
        return False
    console.print(f"[bold]{escape(summary(lines))}[/]")
    width = max((len(line.key) for line in lines), default=0)
    for line in lines:
        shown = typer.style(f"{line.state.replace('_', ' '):<16}", fg=COLOURS.get(line.state))
        typer.echo(f"{line.key:<{width}}  {shown}  {line.detail}")
    if wanted == Filter():
        _print_tables(lab, records)
    typer.echo("`neuro-assets status KEY` shows the outputs of one recording.")
    return any(line.state in (RecordingState.FAILED, RecordingState.DAMAGED) for line in lines)


def _print_tables(lab: Lab, records: Records) -> None:
    from neuro_assets.assets.tables import tables_out_of_date

    for name, changed in tables_out_of_date(lab.store(), records).items():
        typer.echo(
            f"{name} is out of date: {changed}; it is made again after the next `publish`, or by "
            "the job `tables`"
        )


def _print_configuration(lab: Lab) -> None:
    from neuro_assets.service import loaded_configuration

    for line in loaded_configuration(lab.folder, lab.path):
        console.print(escape(line), soft_wrap=True)


def _print_nothing(lab: Lab) -> None:
    console.print(
        f"No recordings yet in {lab.config.store.url}. Drop a session into a source folder "
        "while `neuro-assets up` runs, or use `neuro-assets run FOLDER`."
    )


def _running(lab: Lab) -> Mapping[str, set[str]]:
    """Assets that live runs are making now, by key."""
    home = lab.folder / ".dagster_home"
    if not home.is_dir():
        return {}
    from neuro_assets.service import steps_in_progress

    return steps_in_progress(lab.folder)


def print_findings(lab: Lab) -> None:
    """One line for everything under the sources that is no recording, with what is wrong."""
    from neuro_assets.registry.findings import all_findings

    for source, found in all_findings(lab.store()).items():
        for row in found.rows():
            line = f"{source}: {row.path}: {row.kind}: {row.detail}"
            console.print(f"[yellow]no recording[/] {escape(line)}")


def _print_states(
    lab: Lab, records: Mapping[str, RecordingRecord], states: list[OutputState]
) -> None:
    from neuro_assets.registry.keys import present_name

    if not states:
        _print_nothing(lab)
        return
    for name in dict.fromkeys(state.key for state in states):
        record = records.get(name)
        title = name
        if record is not None and record.reason:
            title = f"{name}: raw data {record.state.replace('_', ' ')}: {escape(record.reason)}"
        if record is not None and (now := present_name(record)):
            title += f"\n  {escape(now)}: `neuro-assets rename` gives it another key"
        if record is not None and record.session.date_guessed:
            title += "\n  the date is guessed from a file's time"
        for modality, data in record.modalities.items() if record is not None else ():
            waits = f"waits: {'; '.join(data.missing)}" if data.missing else data.lost or "complete"
            title += f"\n  {modality} {escape(waits)}"
        console.print(states_table(title, [state for state in states if state.key == name]))


def states_table(title: str, states: list[OutputState]) -> Group:
    """Make the table of the outputs of one recording; a reason stands where it arose, once.

    Long remarks follow below it: a column leaves them 18 characters of a terminal's 80.
    """
    table = new_table(title, "output", "state", "time", "size", "remarks", right=("time", "size"))
    for column in table.columns[:2]:
        column.no_wrap = True
    assets, below = {state.asset for state in states}, dict[str, list[str]]()
    for state in states:
        manifest = state.stored.manifest if state.stored else None
        skip = (manifest.skip or {}) if manifest else {}
        remarks = [state.detail] if state.detail else []
        style = STYLES[state.outcome]
        if state.outcome is Outcome.COMPLETE and manifest and (found := _complaints(manifest)):
            remarks, style = [*remarks, *found], "yellow"
        if state.outcome is Outcome.SKIPPED and skip.get("origin") in assets:
            remarks = [f"{skip['reason']}: see {skip['origin']}"]
        if state.out_of_date:
            remarks.append("out of date: " + "; ".join(state.out_of_date))
        remark = "; ".join(remarks)
        is_long = len(remark) > LONGEST_REMARK
        if is_long:
            below.setdefault(remark, []).append(state.asset)
        table.add_row(
            state.asset,
            f"[{style}]{state.outcome.value.replace('_', ' ')}[/]",
            time_words(manifest.duration_s if manifest else None),
            size_words(manifest.size_bytes if manifest and manifest.files else None),
            "" if is_long else escape(remark),
        )
    lines = [Text(f"  {', '.join(named)}: {remark}") for remark, named in below.items()]
    return Group(table, *lines)


def _complaints(manifest: Manifest) -> list[str]:
    """List the criteria that an output does not meet; one without limits has no verdict."""
    met = {Verdict.NOT_SET.name, Verdict.PASS.name}
    return [
        f"{row['verdict']}: {row['metric']} {row['value']:.4g}"
        for row in manifest.checks
        if row["verdict"] not in met and row["value"] is not None
    ]
