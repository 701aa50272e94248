"""`lab.yaml` as pydantic models, a module a section."""

from neuro_assets.config.alyx import AlyxConfig
from neuro_assets.config.base import ConfigError, nearest
from neuro_assets.config.compute import ComputeConfig
from neuro_assets.config.lab import LabConfig
from neuro_assets.config.reading import (
    CONFIG_NAME,
    CONFIG_VARIABLE,
    STORE_VARIABLE,
    config_path,
    config_text,
    parse_config,
    read_config,
)
from neuro_assets.config.sources import SourceConfig
from neuro_assets.config.steps import SorterChoice
from neuro_assets.config.store import StoreConfig

__all__ = [
    "CONFIG_NAME",
    "CONFIG_VARIABLE",
    "STORE_VARIABLE",
    "AlyxConfig",
    "ComputeConfig",
    "ConfigError",
    "LabConfig",
    "SorterChoice",
    "SourceConfig",
    "StoreConfig",
    "config_path",
    "config_text",
    "nearest",
    "parse_config",
    "read_config",
]
