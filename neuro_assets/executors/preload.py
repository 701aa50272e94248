"""What every step imports before it does anything: imported once, by the fork server.

Opening Dagster's instance imports SQLAlchemy, Alembic and more, and the libraries under every
science step cost another second of CPU where they are not inherited. Import-only modules, none of
which starts a thread; the test counts them. That leaves out pandas (pyarrow starts one) and what
imports it, SpikeInterface among them.
"""

import os

# Steps have threads of their own; OpenBLAS would start some at import, and a fork loses those.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import dagster._core.instance.factory  # noqa: F401
import dagster._core.run_coordinator.queued_run_coordinator  # noqa: F401
import dagster._core.secrets.env_file  # noqa: F401
import dagster._core.storage.fs_io_manager  # noqa: F401
import dagster._core.storage.local_compute_log_manager  # noqa: F401
import dagster._core.storage.root  # noqa: F401
import dagster._core.storage.sqlite_storage  # noqa: F401
import matplotlib.figure  # noqa: F401
import numba  # noqa: F401
import scipy.signal  # noqa: F401
import upath  # noqa: F401

import neuro_assets.executors.frozen_config  # noqa: F401
