"""Finding the recordings in a session folder, one module a format."""

from neuro_assets.science.formats.scan import scan_session

__all__ = ["scan_session"]
