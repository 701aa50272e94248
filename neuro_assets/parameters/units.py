"""Parameters of the choice of units; it is made in `neuro_assets.science.units`."""

from __future__ import annotations

from typing import ClassVar, Literal

from neuro_assets.parameters.base import NamedSet, StepParameters


class UnitsParameters(StepParameters):
    """Which sorter set's units are the units of a recording.

    Attributes
    ----------
    source, rule
        The set, or how it is chosen.
    """

    step: ClassVar[str] = "units"
    algorithm_version: ClassVar[str] = "2"
    sets: ClassVar[dict[str, NamedSet]] = {
        "default": NamedSet(source="neuro_assets: the first configured sorter set with units"),
        "most_good": NamedSet(
            source="neuro_assets: the sorter set with the most good units",
            values={"rule": "most_good"},
        ),
    }

    source: str = ""
    """Sorter set; empty: chosen by `rule`"""
    rule: Literal["first", "most_good"] = "first"
    """The first candidate with units, or the one with most good units"""
    only_good: bool = False
    """Leave out units that are bad, or could not be judged"""
