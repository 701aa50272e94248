"""Measurements against peers, side by side in one run. Each module has a `main`."""
