"""Finding the recordings in a session folder, one module a format.

`scan_session` is the way in. It is imported on use, so that a configuration that only names
reader options stays cheap to load.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neuro_assets.formats.scan import scan_session

__all__ = ["scan_session"]


def __getattr__(name: str) -> Any:
    if name == "scan_session":
        from neuro_assets.formats.scan import scan_session

        return scan_session
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
