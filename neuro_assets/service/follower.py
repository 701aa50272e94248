"""A run watched from outside: its events, its end, and the automatic retry that replaces it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from neuro_assets.outcomes import PermanentFailure

if TYPE_CHECKING:
    from dagster import DagsterInstance, DagsterRun, EventLogEntry

OnEvent = Callable[["EventLogEntry"], None]


@dataclass(frozen=True)
class RunResult:
    """How a run ended, or stands when we stopped waiting for it.

    Parameters
    ----------
    run_id : str
        The run; after an automatic retry the one that counts.
    status : str
        Dagster's run status: SUCCESS, FAILURE, CANCELED, or one in progress.
    in_daemon : bool
        Whether the daemon executed it.
    interrupted : bool
        Whether a signal ended the wait for it.
    """

    run_id: str
    status: str
    in_daemon: bool
    interrupted: bool = False

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return self.status == "SUCCESS"

    @property
    def stopped(self) -> bool:
        """Whether a person stopped it, or the wait for it."""
        return self.interrupted or self.status == "CANCELED"

    def __bool__(self) -> bool:
        return self.ok


class RunFollower:
    """Read the events of a run as they come.

    Parameters
    ----------
    instance : DagsterInstance
        Where the run is.
    run_id : str
        The run.
    on_event : callable
        Gets each entry of the run's log once: Dagster's events, and what the steps log.

    Raises
    ------
    PermanentFailure
        When there is no such run (any more).
    """

    def __init__(self, instance: DagsterInstance, run_id: str, on_event: OnEvent) -> None:
        self._instance = instance
        self._on_event = on_event
        self._cursor: str | None = None
        self.run = self._get(run_id)

    def _get(self, run_id: str) -> DagsterRun:
        run = self._instance.get_run_by_id(run_id)
        if run is None:
            raise PermanentFailure(f"run {run_id} was deleted while it was waited for")
        return run

    def waiting(self) -> bool:
        """Whether it is still in the queue."""
        return self.run.status.value in ("NOT_STARTED", "QUEUED")

    def finished(self) -> bool:
        """Hand on what is new; whether the run has ended."""
        # The state first: an end that is seen has all its events in the log already.
        self.run = self._get(self.run.run_id)
        more = True
        while more:
            page = self._instance.get_records_for_run(self.run.run_id, self._cursor)
            for record in page.records:
                self._on_event(record.event_log_entry)
            self._cursor, more = page.cursor, page.has_more
        return self.run.is_finished

    def finished_with_retries(self) -> bool:
        """Do the same, and go on with the run that executes a failed one again."""
        from neuro_assets.executors.retries import next_run, settled, will_be_retried

        if not self.finished() or self.run.status.value != "FAILURE":
            return self.run.is_finished
        self.run = settled(self._instance, self.run)
        retry = next_run(self._instance, self.run)
        if retry is not None:
            self.run, self._cursor = retry, None
            return False
        return not will_be_retried(self._instance, self.run)
