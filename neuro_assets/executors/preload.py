"""What every step imports before it does anything: imported once, by the fork server.

Opening Dagster's instance imports SQLAlchemy, Alembic and more, and the libraries of the science
cost seconds of CPU in every step where they are not inherited. Import-only modules, none of which
starts a thread: a test counts them.
"""

import os

# Steps have threads of their own; OpenBLAS would start some at import, and so would the memory
# allocator of pyarrow (jemalloc). A fork loses those, and may hang on what they held.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("JE_ARROW_MALLOC_CONF", "background_thread:false")

import dagster._core.definitions.external_asset  # noqa: F401
import dagster._core.instance.factory  # noqa: F401
import dagster._core.run_coordinator.queued_run_coordinator  # noqa: F401
import dagster._core.secrets.env_file  # noqa: F401
import dagster._core.storage.fs_io_manager  # noqa: F401
import dagster._core.storage.local_compute_log_manager  # noqa: F401
import dagster._core.storage.migration.utils  # noqa: F401
import dagster._core.storage.root  # noqa: F401
import dagster._core.storage.sqlite_storage  # noqa: F401
import dagster._core.workspace.autodiscovery  # noqa: F401
import fsspec.implementations.local  # noqa: F401
import matplotlib.backends.backend_agg  # noqa: F401
import matplotlib.figure  # noqa: F401
import numba  # noqa: F401
import pandas  # noqa: F401
import PIL.JpegImagePlugin  # noqa: F401
import pyarrow.dataset  # noqa: F401
import pyarrow.pandas_compat  # noqa: F401
import pyarrow.parquet  # noqa: F401
import pynwb  # noqa: F401
import scipy.signal  # noqa: F401
import sklearn.decomposition  # noqa: F401
import spikeinterface.full  # noqa: F401
import upath.implementations.local  # noqa: F401
import zarr  # noqa: F401

import neuro_assets.executors.frozen_config  # noqa: F401
import neuro_assets.science.compression.run  # noqa: F401
import neuro_assets.science.drawings  # noqa: F401
import neuro_assets.science.units_picture  # noqa: F401
import neuro_assets.store.opening  # noqa: F401
