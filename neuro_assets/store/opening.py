"""The store that `lab.yaml` names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuro_assets.store.store import Store

if TYPE_CHECKING:
    from neuro_assets.config import StoreConfig

S3_SCHEME = "s3://"


def open_store(config: StoreConfig, scratch: str | None = None) -> Store:
    """Open the store of a configuration; nothing is connected yet.

    Parameters
    ----------
    config : StoreConfig
        Address; for S3 endpoint and region too. Credentials are found in the usual chain:
        environment (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`), profile, instance role.
    scratch : str, optional
        Local folder for temporary files; the system's by default.

    Returns
    -------
    Store
        Can be sent to another process.
    """
    options = s3_options(config) if config.url.startswith(S3_SCHEME) else None
    return Store(config.url, storage_options=options, scratch=Path(scratch) if scratch else None)


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
