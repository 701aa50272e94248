"""The sections `compute` and `processing` of `lab.yaml`: with how much, and when."""

from __future__ import annotations

from pydantic import Field

from neuro_assets.config.base import Strict
from neuro_assets.config.machine import usable_cores


class ComputeConfig(Strict):
    """What one run may use of this machine."""

    cores: int | None = Field(None, ge=1)
    """CPU cores; all that may be used when empty"""
    concurrent_steps: int | None = Field(None, ge=1)
    """Steps of a run at once; two, or one on a single core, when empty"""
    scratch: str | None = None
    """Local folder for scratch data; the system's temporary folder when empty"""

    @property
    def n_cores(self) -> int:
        """Cores to use."""
        return self.cores or usable_cores()

    @property
    def n_steps(self) -> int:
        """Steps of one run at once."""
        return self.concurrent_steps or min(2, self.n_cores)

    @property
    def n_jobs(self) -> int:
        """Worker threads or processes of one step."""
        return max(1, self.n_cores // self.n_steps)


class ProcessingConfig(Strict):
    """When recordings are processed."""

    reprocess_changed: bool = False
    """Start a run when the raw data of a processed recording changed; when false it is shown as out
    of date and a person decides, unless a step failed or the data grew"""
    runs_per_tick: int = Field(20, ge=1, le=100)
    """Runs that one tick of the sensor may request, newest first"""
