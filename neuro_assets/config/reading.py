"""Reads `lab.yaml`: where it is, what is wrong with it, and absolute paths."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from neuro_assets.config.alyx import DOWNLOAD
from neuro_assets.config.base import ConfigError, explain
from neuro_assets.config.lab import LabConfig

Model = TypeVar("Model", bound=BaseModel)

CONFIG_NAME = "lab.yaml"
CONFIG_VARIABLE = "NEURO_ASSETS_LAB"
"""Environment variable with the folder of `lab.yaml`, or the path of the file itself."""

STORE_VARIABLE = "NEURO_ASSETS_STORE"
"""Environment variable with a store that replaces the one of `lab.yaml`."""


def config_path(folder: Path | None = None) -> Path:
    """Tell where `lab.yaml` is expected: the environment variable first, then a folder.

    Parameters
    ----------
    folder : Path, optional
        Folder to look in; the current one by default.

    Returns
    -------
    Path
        Absolute path of the file, which need not exist.
    """
    named = Path(os.environ.get(CONFIG_VARIABLE) or folder or Path.cwd()).expanduser().resolve()
    return named if named.suffix in {".yaml", ".yml"} else named / CONFIG_NAME


def read_config(path: Path) -> LabConfig:
    """Read and check a `lab.yaml`; relative paths count from the folder of the file.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    LabConfig
        With absolute paths.

    Raises
    ------
    ConfigError
        One line for each mistake, each with the nearest right key.
    """
    return parse_config(config_text(path), base=path.parent)


def config_text(path: Path) -> str:
    """Read the text of a `lab.yaml`; a ConfigError where there is none to read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not text in UTF-8 (byte {error.start}); write it anew with an editor, or "
            "move it away and use `neuro-assets init`"
        ) from error


def parse_config(text: str, base: Path | None = None) -> LabConfig:
    """Check the text of a `lab.yaml`; arguments and errors as in `read_config`."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        data = YAML(typ="safe").load(text)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise ConfigError(f"{CONFIG_NAME} is not valid YAML{where}: {problem}") from error
    except RecursionError:
        raise ConfigError(f"{CONFIG_NAME} is nested too deep; no section needs that") from None
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError(f"{CONFIG_NAME} must hold keys and values, not a {type(data).__name__}")
    try:
        config = LabConfig.model_validate(data)
    except ValidationError as error:
        raise ConfigError("\n".join(explain(error, LabConfig, CONFIG_NAME))) from error
    return _absolute(config, base) if base else config


def _absolute(config: LabConfig, base: Path) -> LabConfig:
    def path(text: str) -> str:
        return text if "://" in text else str((base / Path(text).expanduser()).resolve())

    def changed(model: Model, **values: Any) -> Model:
        return model.model_copy(update=values)

    def place(where: str) -> str:
        return where if where == DOWNLOAD else path(where)

    alyx, scratch = config.alyx, config.compute.scratch
    repositories = {name: place(where) for name, where in alyx.repositories.items()}
    return changed(
        config,
        store=changed(config.store, url=path(os.environ.get(STORE_VARIABLE) or config.store.url)),
        sources=[changed(source, path=path(source.path)) for source in config.sources],
        alyx=changed(alyx, cache=path(alyx.cache), repositories=repositories),
        readers=[
            changed(reader, probe_file=path(reader.probe_file)) if reader.probe_file else reader
            for reader in config.readers
        ],
        compute=changed(config.compute, scratch=path(scratch) if scratch else None),
    )
