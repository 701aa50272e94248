"""Dagster's web server behind `neuro_assets.service.web_guard`; `up` starts it as a process.

`python -P -m neuro_assets.service.web_server -w workspace.yaml -p 3000 [--read-only]`. It listens
on 127.0.0.1 only.
"""

from __future__ import annotations

import argparse
import logging
from typing import Any

from neuro_assets.config import config_path, read_config
from neuro_assets.executors.frozen_config import last_good_path
from neuro_assets.outcomes import NeuroAssetsError
from neuro_assets.service.web_guard import GuardedApp, local_hosts

HOST = "127.0.0.1"
_POOL = {"statement_timeout": 15_000, "pool_recycle": 3600, "max_overflow": 20}
"""Milliseconds, seconds, connections: what Dagster's own command sets for its database."""


def main(arguments: list[str] | None = None) -> None:
    """Serve until a signal ends it.

    Parameters
    ----------
    arguments : list of str, optional
        Of the command line; those of the process when None.
    """
    parser = argparse.ArgumentParser(prog="neuro_assets.service.web_server")
    parser.add_argument("-w", "--workspace", required=True)
    parser.add_argument("-p", "--port", type=int, required=True)
    parser.add_argument("--read-only", action="store_true")
    options = parser.parse_args(arguments)

    import uvicorn
    from dagster import DagsterInstance
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import WorkspaceFileTarget
    from dagster_webserver.version import __version__

    with DagsterInstance.get() as instance:
        instance.optimize_for_webserver(*_POOL.values())
        target = WorkspaceFileTarget([options.workspace])
        with WorkspaceProcessContext(
            instance, target, version=__version__, read_only=options.read_only
        ) as context:
            app = guarded_app(context, local_hosts(options.port) | _lab_hosts())
            uvicorn.run(app, host=HOST, port=options.port, log_level="warning")


def guarded_app(context: Any, hosts: frozenset[str]) -> GuardedApp:
    """Return Dagster's application, guarded.

    Parameters
    ----------
    context : IWorkspaceProcessContext
        Of Dagster: instance and code locations.
    hosts : frozenset of str
        Values of `Host` that are served.

    Returns
    -------
    GuardedApp
        An ASGI application.
    """
    from dagster_webserver.app import create_app_from_workspace_process_context

    return GuardedApp(create_app_from_workspace_process_context(context), hosts)


def _lab_hosts() -> frozenset[str]:
    """Names that `lab.yaml` adds: those of the last good one where it is broken now."""
    path = config_path()
    for candidate in (path, last_good_path(path)):
        if candidate is None or not candidate.is_file():
            continue
        try:
            return frozenset(read_config(candidate).web.allowed_hosts)
        except NeuroAssetsError as error:
            logging.getLogger("dagster.neuro_assets").warning(
                "%s was refused: %s", candidate, error
            )
    return frozenset()


if __name__ == "__main__":
    main()
