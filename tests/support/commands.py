"""The `neuro-assets` command in this process: a new one takes seconds to import."""

from __future__ import annotations

import io
import os
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from neuro_assets.cli import main


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def call(*words: str, folder: Path, env: dict[str, str] | None = None) -> Done:
    """Call a command in a folder; a bug is raised, and is no traceback on stderr."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("NEURO_ASSETS", "DAGSTER"))}
    out, err, code = io.StringIO(), io.StringIO(), None
    with (
        mock.patch.dict(os.environ, {**clean, **(env or {})}, clear=True),
        mock.patch.object(sys, "argv", ["neuro-assets", *words]),
        chdir(folder),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code
    assert isinstance(code, int), code
    return Done(code, out.getvalue(), err.getvalue())
