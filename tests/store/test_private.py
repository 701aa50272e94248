"""New folders of a lab are closed to other users of the machine, unless the lab says otherwise."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from neuro_assets.config import CONFIG_NAME, StoreConfig
from neuro_assets.service.home import HOME_VARIABLE, prepare_home
from neuro_assets.store.opening import open_store


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.parametrize(("private", "expected"), [(True, 0o700), (False, 0o755)])
def test_a_new_store_is_private(tmp_path: Path, private: bool, expected: int) -> None:
    folder = tmp_path / "deep" / "store"
    open_store(StoreConfig(url=str(folder), private=private))
    assert mode(folder) == expected
    assert mode(folder.parent) == 0o755


def test_a_folder_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    folder.mkdir(mode=0o750)
    open_store(StoreConfig(url=str(folder)))
    assert mode(folder) == 0o750


@pytest.mark.parametrize(
    ("text", "expected"),
    [(None, 0o700), ("lab: x", 0o700), ("store: {private: false}", 0o755), ("nonsense: 1", 0o700)],
)
def test_a_new_home_is_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, expected: int
) -> None:
    monkeypatch.setenv(HOME_VARIABLE, "")
    if text is not None:
        (tmp_path / CONFIG_NAME).write_text(text)
    assert mode(prepare_home(tmp_path)) == expected
