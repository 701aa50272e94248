"""`python -m neuro_assets.service.keep_retries`: before runs are asked to stop with the platform.

A process of its own, because the supervisor does not import Dagster.
"""

from __future__ import annotations


def main() -> None:
    """Let the coming stop cost no run of the home in `DAGSTER_HOME` one of its retries."""
    from dagster import DagsterInstance

    from neuro_assets.executors.launcher import living_runs
    from neuro_assets.executors.retries import allow_for_stop

    with DagsterInstance.get() as instance:
        for run in living_runs(instance):
            allow_for_stop(instance, run)


if __name__ == "__main__":
    main()
