"""Progress of whatever takes more than a moment: bars in a terminal, plain lines in a pipe."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column

from neuro_assets.cli.lab import console, time_words
from neuro_assets.science.result import Progress as Report

FIRST_LINE_S = 3.0
"""What is done sooner needs no line in a pipe."""
LINES_S = 10.0
"""Between two lines of one task in a pipe."""


@dataclass
class _Task:
    """One thing in progress."""

    began: float = field(default_factory=lambda: time.monotonic())
    shown: float = 0.0
    bar: TaskID | None = None


class Bars:
    """What is in progress, below what is printed meanwhile: fraction, time left, what is done.

    Parameters
    ----------
    on : Console
        Where to show it; a terminal gets bars, anything else a plain line now and then.
    """

    def __init__(self, on: Console = console) -> None:
        self._on, self._tasks = on, dict[str, _Task]()
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=14),
            TextColumn("{task.fields[percent]:>4}"),
            TimeRemainingColumn(compact=True),
            TextColumn(
                "{task.fields[doing]}", markup=False,
                table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"),
            ),
            console=on, expand=True, transient=True, speed_estimate_period=600,
        )  # fmt: skip

    def __enter__(self) -> Bars:
        if self._on.is_terminal:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._on.is_terminal:
            self._bars.stop()

    def update(self, name: str, fraction: float | None, doing: str = "") -> None:
        """Show how far something is: a fraction from 0 to 1, None while that is not known."""
        task = self._tasks.setdefault(name, _Task())
        if not self._on.is_terminal:
            self._line(name, task, fraction, doing)
            return
        percent = "" if fraction is None else f"{fraction:.0%}"
        if task.bar is None:
            task.bar = self._bars.add_task(name, total=None, percent=percent, doing=doing)
        total = None if fraction is None else 1.0
        self._bars.update(
            task.bar, total=total, completed=fraction or 0.0, percent=percent, doing=doing
        )

    def remove(self, name: str) -> None:
        """Show something no longer: it is done."""
        task = self._tasks.pop(name, None)
        if task is not None and task.bar is not None:
            self._bars.remove_task(task.bar)

    def _line(self, name: str, task: _Task, fraction: float | None, doing: str) -> None:
        now = time.monotonic()
        due = task.shown + LINES_S if task.shown else task.began + FIRST_LINE_S
        if fraction is None or now < due or fraction >= 1.0:
            return
        task.shown = now
        left = f", {time_words((now - task.began) * (1 / fraction - 1))} left" if fraction else ""
        self._on.print(f"{name}: {fraction:.0%}{left}: {doing}", markup=False, soft_wrap=True)


@contextmanager
def progress_of(name: str) -> Iterator[Report]:
    """Show the progress of one thing; a report of 1 ends it.

    Parameters
    ----------
    name : str
        What is going on: `simulating`.

    Yields
    ------
    callable
        Takes the fraction done and a few words.
    """
    with Bars() as bars:

        def report(fraction: float, doing: str) -> None:
            if fraction >= 1.0:
                bars.__exit__()
            else:
                bars.update(name, fraction, doing)

        yield report
