"""What every step imports before it does anything: imported once, by the fork server.

Opening Dagster's instance imports SQLAlchemy, Alembic and more, which costs each step about a
second of CPU where it is not inherited. Import-only modules, none of which starts a thread; the
test counts them. Science does not belong here.
"""

import dagster._core.instance.factory  # noqa: F401
import dagster._core.run_coordinator.queued_run_coordinator  # noqa: F401
import dagster._core.secrets.env_file  # noqa: F401
import dagster._core.storage.fs_io_manager  # noqa: F401
import dagster._core.storage.local_compute_log_manager  # noqa: F401
import dagster._core.storage.root  # noqa: F401
import dagster._core.storage.sqlite_storage  # noqa: F401
import upath  # noqa: F401

import neuro_assets.executors.launcher
import neuro_assets.frozen_config  # noqa: F401
