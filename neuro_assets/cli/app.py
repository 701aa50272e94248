"""The Typer application that the commands register themselves with, and its global options."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from neuro_assets import __version__
from neuro_assets.outcomes import PermanentFailure

app = typer.Typer(
    name="neuro-assets",
    help="Turn every recording session of a lab into checked, versioned, reusable data.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(shown: bool) -> None:
    if shown:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def common(
    lab: Annotated[
        Path | None,
        typer.Option(help="Folder with lab.yaml (default: NEURO_ASSETS_LAB, or this folder)"),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version")
    ] = False,
) -> None:
    """Turn every recording session of a lab into checked, versioned, reusable data."""
    from neuro_assets.config import CONFIG_VARIABLE, config_path

    path = config_path() if lab is None else config_path_of(lab)
    if not path.parent.is_dir():
        raise PermanentFailure(
            f"no such folder: {path.parent}; correct --lab or {CONFIG_VARIABLE}, or make a lab "
            f"there: neuro-assets init {path.parent}"
        )
    os.environ[CONFIG_VARIABLE] = str(path)


def config_path_of(lab: Path) -> Path:
    """Give the path of the configuration in a folder named on the command line."""
    from neuro_assets.config import CONFIG_NAME

    path = lab.expanduser().resolve()
    return path if path.suffix in {".yaml", ".yml"} else path / CONFIG_NAME
