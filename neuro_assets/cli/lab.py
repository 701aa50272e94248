"""What the commands share: the lab in force, its store and registry, printing."""

from __future__ import annotations

import errno
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from neuro_assets.config import LabConfig, config_path, read_config
from neuro_assets.outcomes import NeuroAssetsError

if TYPE_CHECKING:
    from neuro_assets.assets.step import StepSpec
    from neuro_assets.registry.registry import Registry
    from neuro_assets.store import Store

console = Console(highlight=False)
# Tables go to files and pipes in full; a terminal's width is found by rich.
if not console.is_terminal:
    console = Console(highlight=False, width=160)

_PLACE = {errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.EACCES, errno.EPERM, errno.EROFS}


class Interrupted(NeuroAssetsError):
    """Somebody pressed Ctrl-C; the message says what is left of the work."""


@dataclass(frozen=True)
class Lab:
    """The lab in force.

    Parameters
    ----------
    path : Path
        Where its `lab.yaml` is, or would be.
    config : LabConfig
        Checked configuration with absolute paths.
    """

    path: Path
    config: LabConfig

    @property
    def folder(self) -> Path:
        """Folder of the lab: Dagster's home and relative paths are below it."""
        return self.path.parent

    def store(self, *, create: bool = False) -> Store:
        """Open the store; a new one is made only where it is going to be written."""
        from neuro_assets.store.opening import open_store

        return open_store(self.config.store, create=create)

    def writable_store(self, *, create: bool = False) -> Store:
        """Open the store, and refuse one that can only be read before any work is done."""
        store = self.store(create=create)
        store.require_writable()
        return store

    def registry(self) -> Registry:
        """Open the registry of a store that is there."""
        from neuro_assets.registry.registry import Registry

        return Registry(self.store())

    def present_key(self, key: str) -> str:
        """Follow a key that was renamed, and say so; any other stays as it is."""
        from neuro_assets.registry.renaming import cut_renaming
        from neuro_assets.store.model import is_safe_name

        record = self.registry().get(key) if is_safe_name(key) else None
        if record is None:
            return key
        if record.renaming_to:
            typer.echo(cut_renaming(key, record.renaming_to), err=True)
        if not record.alias_of:
            return key
        typer.echo(f"{key}: {record.reason}", err=True)
        return self.present_key(record.alias_of)

    def steps(self) -> list[StepSpec]:
        """List the steps that the configuration asks for."""
        from neuro_assets.assets.catalog import all_steps

        return all_steps(self.config)


def open_lab() -> Lab:
    """Read the configuration that the options and the environment name.

    Returns
    -------
    Lab
        With defaults where there is no `lab.yaml`.

    Raises
    ------
    ConfigError
        When `lab.yaml` is wrong.
    """
    from neuro_assets.config import parse_config

    path = config_path()
    if path.is_file():
        return Lab(path, read_config(path))
    return Lab(path, parse_config("", base=path.parent))


def new_table(title: str, *columns: str, right: Collection[str] = ()) -> Table:
    """Make a table that folds what is too wide: nothing is cut, so that no two rows look alike.

    Parameters
    ----------
    title : str
        Above it.
    *columns : str
        Headings.
    right : collection of str
        Columns of numbers.

    Returns
    -------
    Table
        Without rows.
    """
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


def size_words(n_bytes: float | None) -> str:
    """`1.5 GB`, decimal, as disks are sold."""
    if n_bytes is None:
        return ""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.2f} TB"


def time_words(seconds: float | None) -> str:
    """`2 min 05 s`."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def os_error_message(error: OSError) -> str:
    """Say in one line what a full disk, or a wrong or forbidden folder, is, and what to do."""
    if error.filename is None:
        return str(error.strerror or error)
    hint = "; choose another folder, or let this user write there" if error.errno in _PLACE else ""
    return f"{error.filename}: {error.strerror}{hint}"
