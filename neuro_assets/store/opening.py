"""The store that `lab.yaml` names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neuro_assets.config import StoreConfig, config_path
from neuro_assets.store.local import LocalBackend
from neuro_assets.store.store import Store
from neuro_assets.store.store_identity import MEMORY_FOLDER, LabMemory, admit

S3_SCHEME = "s3://"


def open_store(
    config: StoreConfig,
    scratch: str | None = None,
    *,
    create: bool = True,
    any_format: bool = False,
) -> Store:
    """Open the store of a configuration, if it is the lab's.

    Parameters
    ----------
    config : StoreConfig
        Address; for S3 endpoint and region too. Credentials are found in the usual chain:
        environment (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`), profile, instance role.
    scratch : str, optional
        Local folder for temporary files; the system's by default.
    create, any_format : bool
        As in `neuro_assets.store.store_identity.admit`.

    Returns
    -------
    Store
        Can be sent to another process.

    Raises
    ------
    PermanentFailure
        When the place is another store than the lab's, or none.
    """
    options = s3_options(config) if config.url.startswith(S3_SCHEME) else None
    store = Store(config.url, storage_options=options, scratch=Path(scratch) if scratch else None)
    if isinstance(store.backend, LocalBackend):
        store.backend.private = config.private
    admit(store, expected=config.id, memory=lab_memory(), create=create, any_format=any_format)
    return store


def lab_memory() -> LabMemory | None:
    """Give what the lab in force remembers; None where there is no `lab.yaml`."""
    path = config_path()
    return LabMemory(path.parent / MEMORY_FOLDER) if path.is_file() else None


def s3_options(config: StoreConfig) -> dict[str, Any]:
    """Say how the lab's S3 server is reached, in s3fs's words; without credentials.

    Parameters
    ----------
    config : StoreConfig
        Its endpoint and region.

    Returns
    -------
    dict
        Options of `s3fs.S3FileSystem`, and our `max_attempts`.
    """
    options: dict[str, Any] = {"max_attempts": 5}
    if config.endpoint_url:
        options["endpoint_url"] = config.endpoint_url
    if config.region:
        options["client_kwargs"] = {"region_name": config.region}
    return options
