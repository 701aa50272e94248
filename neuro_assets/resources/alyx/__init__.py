"""The lab's notebook, Alyx: the client, the session source, files and write-back.

Only names live here. They are looked up on first use, so that importing the package, which
`neuro_assets.definitions` does in every process, imports neither ONE nor requests.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neuro_assets.resources.alyx.answers import AlyxRefused as AlyxRefused
    from neuro_assets.resources.alyx.client import Alyx as Alyx
    from neuro_assets.resources.alyx.resource import AlyxResource as AlyxResource

_HOMES = {"Alyx": "client", "AlyxRefused": "answers", "AlyxResource": "resource"}

__all__ = ["Alyx", "AlyxRefused", "AlyxResource"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
