"""All steps of a lab, in an order in which what a step needs comes before it."""

from __future__ import annotations

from neuro_assets.assets.alyx_registration import alyx_steps
from neuro_assets.assets.export import export_steps
from neuro_assets.assets.lfp import lfp_steps
from neuro_assets.assets.recording import recording_steps
from neuro_assets.assets.sorting import sorting_steps
from neuro_assets.assets.step import StepSpec
from neuro_assets.config import LabConfig


def all_steps(config: LabConfig) -> list[StepSpec]:
    """List the steps that this lab's configuration asks for.

    Parameters
    ----------
    config : LabConfig
        The lab's choices.

    Returns
    -------
    list of StepSpec
        Needs first.
    """
    steps = [
        *recording_steps(config),
        *sorting_steps(config),
        *lfp_steps(config),
        *export_steps(config),
    ]
    return [*steps, *alyx_steps(config, steps)]
