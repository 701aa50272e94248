"""Which parameter model belongs to which step; no values here."""

from __future__ import annotations

from importlib import import_module
from typing import Any, cast

from neuro_assets.parameters.base import StepParameters
from neuro_assets.parameters.sorting import SortingParameters

STEPS = {
    "compressed_recording": "compression:CompressionParameters",
    "recording_quality": "recording_quality:RecordingQualityParameters",
    "bad_channels": "bad_channels:BadChannelsParameters",
    "motion": "motion:MotionParameters",
    "analyzer": "analyzer:AnalyzerParameters",
    "unit_quality": "unit_quality:UnitQualityParameters",
    "units": "units:UnitsParameters",
    "lfp": "lfp:LfpParameters",
    "nwb": "nwb:NwbParameters",
    "alyx_registration": "alyx_registration:AlyxRegistrationParameters",
}
"""Steps that `lab.yaml` can set under `steps`; sorter sets have a list of their own."""


def step_model(name: str) -> type[StepParameters]:
    """Give the parameter model of a step.

    Parameters
    ----------
    name : str
        A key of `STEPS`.

    Returns
    -------
    type
        A subclass of `StepParameters`.
    """
    module, model = STEPS[name].split(":")
    return cast(
        type[StepParameters], getattr(import_module(f"neuro_assets.parameters.{module}"), model)
    )


def step_parameters(name: str, chosen: str, overrides: dict[str, Any]) -> StepParameters:
    """Resolve a step's named set with overrides; errors as in `StepParameters.resolve`."""
    return step_model(name).resolve(chosen, overrides)


def sorter_parameters(sorter: str, chosen: str, overrides: dict[str, Any]) -> SortingParameters:
    """Resolve a sorter's named set; errors as in `SortingParameters.for_sorter`."""
    return SortingParameters.for_sorter(sorter, chosen, overrides)
