"""The `neuro-assets` command: arguments, messages and exit codes; the work is done elsewhere.

Exit code 0 only if nothing failed. Errors are one line and say what to do. Heavy imports happen
inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import sys
from typing import Any

import typer

from neuro_assets.cli import (  # noqa: F401  the commands register themselves
    alyx,
    demonstration,
    process,
    setup,
    status,
    upkeep,
)
from neuro_assets.cli.app import app
from neuro_assets.cli.lab import Interrupted, os_error_message
from neuro_assets.outcomes import NeuroAssetsError

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

WRONG_ARGUMENTS: Any = typer.BadParameter.__mro__[2]
"""Base class of Typer's complaints about arguments, which it exports only through its children."""


def main() -> None:
    """Run the command line; one line for an expected error, a traceback only for a bug."""
    try:
        # Without standalone mode a raised `typer.Exit` comes back as the returned code, and so
        # does an interrupt, of which nothing was said yet.
        code = app(standalone_mode=False) or 0
        if code == INTERRUPTED:
            _stop("interrupted", code)
        sys.exit(code)
    except Interrupted as stop:
        _stop(str(stop), INTERRUPTED)
    except NeuroAssetsError as error:
        _stop(str(error), 1)
    except (typer.Abort, KeyboardInterrupt):
        _stop("interrupted", INTERRUPTED)
    except WRONG_ARGUMENTS as error:
        context = getattr(error, "ctx", None)
        hint = f" (see `{context.command_path} --help`)" if context else ""
        _stop(f"{error.format_message()}{hint}", 2)
    except OSError as error:
        _stop(os_error_message(error), 1)


def _stop(message: str, code: int) -> None:
    typer.secho(f"error: {message}", fg=typer.colors.RED, err=True)
    sys.exit(code)
