"""The set without GPL: what `make setup KILOSORT=0` leaves out, and that the rest works so."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from places import REPOSITORY

LEFT_OUT = ("kilosort", "faiss-cpu", "imageio-ffmpeg")


def names_in(lock: Path) -> set[str]:
    lines = lock.read_text().splitlines()
    return {line.partition("==")[0] for line in lines if line[:1].isalnum()}


def test_one_variable_leaves_out_what_stands_under_the_gpl(tmp_path: Path) -> None:
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, tmp_path)
    for target, options in (("requirements", []), ("requirements-without-gpl", ["KILOSORT=0"])):
        command = ["make", "--silent", *options, f".venv/{target}.lock"]
        subprocess.run(command, cwd=tmp_path, check=True)
    everything = names_in(tmp_path / "requirements.lock")
    assert names_in(tmp_path / ".venv" / "requirements.lock") == everything
    assert set(LEFT_OUT) <= everything
    left = tmp_path / ".venv" / "requirements-without-gpl.lock"
    assert names_in(left) == everything - set(LEFT_OUT)
    # With a package go all lines of its checksums.
    assert left.read_text().count("--hash") < (tmp_path / "requirements.lock").read_text().count(
        "--hash"
    )
    assert not left.read_text().startswith(" ")


def test_the_platform_loads_and_simulates_without_it(tmp_path: Path) -> None:
    code = """
import sys
for name in ("kilosort", "faiss", "imageio_ffmpeg"):
    sys.modules[name] = None  # every import of it fails
from neuro_assets.config import parse_config
from neuro_assets.definitions import build_defs
build_defs(config=parse_config("sorters: [{name: tridesclous2}]")).resolve_job_def("process")
from neuro_assets.cli import main
main()
"""
    options = ["--duration", "6", "--channels", "8", "--no-video"]
    done = subprocess.run(
        [sys.executable, "-c", code, "simulate", str(tmp_path / "out"), *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "out").rglob("*.ap.bin"))
