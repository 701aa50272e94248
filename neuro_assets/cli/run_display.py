"""What a run shows while it goes: a line for the end of each step, bars for those that run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rich.markup import escape

from neuro_assets.cli.lab import console
from neuro_assets.cli.progress import Bars

if TYPE_CHECKING:
    from dagster import DagsterEvent, EventLogEntry

_PERCENT = re.compile(r"(\d+)% (.*)", re.DOTALL)
"""As the runner logs the progress of a step."""

STARTED = "[dim]started[/]"
_ENDS = {
    "STEP_SUCCESS": "[green]done[/]",
    "STEP_FAILURE": "[bold red]failed[/]",
    "STEP_SKIPPED": "[yellow]not started: what it needs failed[/]",
    "STEP_UP_FOR_RETRY": "[yellow]not finished: will be tried again[/]",
}


class RunDisplay:
    """Shows the events of the run of one recording.

    Parameters
    ----------
    key : str
        The recording.
    n_steps : int
        Steps of the run.
    bars : Bars
        Where the progress is shown.
    """

    def __init__(self, key: str, n_steps: int, bars: Bars) -> None:
        self._key, self._n_steps, self._bars = key, n_steps, bars
        self._n_ended, self._made = 0, dict[str, str]()

    def __call__(self, entry: EventLogEntry) -> None:
        """Show one entry of the run's log."""
        step, event = entry.step_key, entry.dagster_event
        if step is None:
            if event is not None and event.event_type_value == "PIPELINE_FAILURE":
                self._show_failure(event)
            return
        if event is None:
            found = _PERCENT.match(entry.user_message)
            if found:
                self._bars.update(f"  {step}", int(found[1]) / 100, found[2])
        elif event.event_type_value in ("STEP_START", "STEP_RESTARTED"):
            if not console.is_terminal:
                self._print(step, STARTED)
            self._bars.update(f"  {step}", None)
            self._show_run()
        elif event.event_type_value == "ASSET_MATERIALIZATION":
            self._made[step] = _how_it_ended(event)
        elif event.event_type_value in _ENDS:
            self._end(step, event)

    def _show_failure(self, event: DagsterEvent) -> None:
        """Show what ended the run where it was no step."""
        data = event.job_failure_data  # None where a process that is gone did not write it
        error = getattr(data, "error", None)
        if data is None:
            self._show_reason(" ".join((event.message or "its process ended").split()))
        elif error is not None and not self._n_ended:
            self._show_reason(error.message.strip())

    def _show_reason(self, reason: str) -> None:
        self._print("run", f"[bold red]failed[/]: {escape(reason)}")

    def _end(self, step: str, event: DagsterEvent) -> None:
        self._bars.remove(f"  {step}")
        kind = event.event_type_value
        made = self._made.get(step, "") if kind == "STEP_SUCCESS" else ""
        made = _why_again(event) if kind == "STEP_UP_FOR_RETRY" else made
        self._print(step, made or _ENDS[kind])
        self._n_ended += kind != "STEP_UP_FOR_RETRY"
        self._show_run()

    def _show_run(self) -> None:
        done = min(self._n_ended / max(self._n_steps, 1), 0.99)
        self._bars.update(self._key, done, f"{self._n_ended} of {self._n_steps} steps")

    def _print(self, step: str, how: str) -> None:
        console.print(f"{self._key}  {step:<28} {how}", soft_wrap=True)


def _how_it_ended(event: DagsterEvent) -> str:
    """Say what a step stored: a skip with its reason; that nothing had to be computed."""
    metadata = event.step_materialization_data.materialization.metadata
    reason, reused = metadata.get("reason"), metadata.get("reused")
    if reason is not None:
        return f"[yellow]skipped: {escape(str(reason.value))}[/]"
    return "[green]done[/] (stored already)" if reused is not None and reused.value else ""


def _why_again(event: DagsterEvent) -> str:
    """Say what a step waits for: its own error is the cause of the engine's."""
    data = event.step_retry_data
    reason = " ".join((data.error.cause or data.error).message.split())
    return f"{_ENDS['STEP_UP_FOR_RETRY']} in {data.seconds_to_wait or 0:.0f} s: {escape(reason)}"
