"""The `neuro-assets` command: arguments, messages and exit codes; the work is done elsewhere.

Exit code 0 only if nothing failed. Errors are one line and say what to do. Heavy imports happen
inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from neuro_assets import __version__
from neuro_assets.outcomes import NeuroAssetsError

WRONG_ARGUMENTS: Any = typer.BadParameter.__mro__[2]
"""Base class of Typer's complaints about arguments, which it exports only through its children."""

app = typer.Typer(
    name="neuro-assets",
    help="Turn every recording session of a lab into checked, versioned, reusable data.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line; one line for an expected error, a traceback only for a bug."""
    try:
        # Without standalone mode a raised `typer.Exit` comes back as the returned code.
        sys.exit(app(standalone_mode=False) or 0)
    except NeuroAssetsError as error:
        _stop(str(error), 1)
    except (typer.Abort, KeyboardInterrupt):
        _stop("interrupted", 130)
    except WRONG_ARGUMENTS as error:
        error.show()
        sys.exit(2)


def _stop(message: str, code: int) -> None:
    typer.secho(f"error: {message}", fg=typer.colors.RED, err=True)
    sys.exit(code)


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

    os.environ[CONFIG_VARIABLE] = str(config_path() if lab is None else config_path_of(lab))


def config_path_of(lab: Path) -> Path:
    """Give the path of the configuration in a folder named on the command line."""
    from neuro_assets.config import CONFIG_NAME

    path = lab.expanduser().resolve()
    return path if path.suffix in {".yaml", ".yml"} else path / CONFIG_NAME


from neuro_assets.cli import alyx, process, setup, status  # noqa: E402, F401  they register themselves
