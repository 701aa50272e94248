"""`lab.yaml` as pydantic models, a module a section."""

from neuro_assets.config.alyx import AlyxConfig
from neuro_assets.config.lab import (
    CONFIG_NAME,
    CONFIG_VARIABLE,
    STORE_VARIABLE,
    ComputeConfig,
    ConfigError,
    LabConfig,
    SorterChoice,
    SourceConfig,
    StoreConfig,
    config_path,
    parse_config,
    read_config,
)

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
    "parse_config",
    "read_config",
]
