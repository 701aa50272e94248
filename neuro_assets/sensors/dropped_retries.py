"""Retries that Dagster's daemon could not start are started when the code server is back."""

from datetime import UTC, datetime, timedelta

import dagster as dg

from neuro_assets.executors.retries import retry_dropped

LOOK_BACK = timedelta(days=2)
"""Before the last look, however long ago that was: the platform may have been down since."""


def dropped_retries_sensor(interval_s: int = 30) -> dg.SensorDefinition:
    """Build the sensor that has dropped retries tried again.

    Parameters
    ----------
    interval_s : int
        Seconds between two looks; a retry is overdue after four of them.

    Returns
    -------
    dagster.SensorDefinition
        Running from the start.
    """

    @dg.sensor(
        name="dropped_retries",
        description="Has the daemon retry lost runs whose retry it could not start.",
        minimum_interval_seconds=interval_s,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def dropped_retries(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        began = datetime.now(UTC)
        last = datetime.fromtimestamp(float(context.cursor or LOOK_BACK.total_seconds()), UTC)
        overdue = timedelta(seconds=4 * interval_s)
        found = retry_dropped(context.instance, last - LOOK_BACK, overdue)
        context.update_cursor(str(began.timestamp()))
        return dg.SkipReason(f"Tried again: {', '.join(found)}" if found else "None was dropped")

    return dropped_retries
