"""The section `store` of `lab.yaml`, and what may be deleted."""

from __future__ import annotations

from neuro_assets.config.base import Strict


class StoreConfig(Strict):
    """Where outputs are kept. S3 credentials come from the environment, never from this file."""

    url: str = "neuro_store"
    """A folder, or s3://bucket/prefix"""
    endpoint_url: str | None = None
    """S3 endpoint, for stores other than AWS"""
    region: str | None = None
    """S3 region"""
    private: bool = True
    """New store and home folders are closed to other users of the machine (0700); false where a
    group works in them"""
    id: str = ""
    """Identity that store.json must have; the lab remembers it when empty"""


class RawDeletionConfig(Strict):
    """Policy of `neuro-assets delete-raw`; nothing is ever deleted by a run."""

    enabled: bool = False
