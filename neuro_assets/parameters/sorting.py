"""Parameters of spike sorting: which sorter, and who does each step before it, exactly once.

Sorters preprocess by themselves unless told otherwise, so a chain of ours in front of one easily
does a step twice or, with the wrong switch, never. A sorter set therefore states for each of the
four steps who does it, and the switches of the sorter follow from that. Running a sorter is
`neuro_assets.science.sorting`.

The default on a CPU is tridesclous2 with its own drift correction: `benchmarks/sorters.py`, figures
in docs/benchmarks.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from neuro_assets.parameters.base import NamedSet, StepParameters
from neuro_assets.parameters.preprocessing import IBL_DESTRIPE, SpikeBand

Who = Literal["sorter", "ours"]
Step = Literal["filtering", "reference", "whitening", "drift"]
STEPS: tuple[Step, ...] = ("filtering", "reference", "whitening", "drift")


@dataclass(frozen=True)
class Switch:
    """One parameter of a sorter that turns steps of its own on or off.

    Parameters
    ----------
    parameter : str
        Name of the sorter's parameter.
    on : bool
        Its value when the sorter does the step.
    steps : tuple of str
        The steps that it turns on together: they cannot be divided.
    """

    parameter: str
    on: bool
    steps: tuple[Step, ...]

    def value(self, sorter_does_it: bool) -> bool:
        """Value of the parameter."""
        return self.on if sorter_does_it else not self.on


_WHOLE_CHAIN = (
    Switch("apply_preprocessing", True, ("filtering", "reference", "whitening")),
    Switch("apply_motion_correction", True, ("drift",)),
)

SWITCHES: dict[str, tuple[Switch, ...]] = {
    "kilosort4": (
        Switch("skip_kilosort_preprocessing", False, ("filtering", "whitening")),
        Switch("do_CAR", True, ("reference",)),
        Switch("do_correction", True, ("drift",)),
    ),
    "spykingcircus2": (
        Switch("apply_preprocessing", True, ("filtering", "reference")),
        Switch("apply_whitening", True, ("whitening",)),
        Switch("apply_motion_correction", True, ("drift",)),
    ),
    "tridesclous2": _WHOLE_CHAIN,
    "lupin": _WHOLE_CHAIN,
    "mountainsort5": (
        Switch("filter", True, ("filtering",)),
        Switch("whiten", True, ("whitening",)),
    ),
}
"""What turns the sorters' own steps on (SpikeInterface 0.105.3). A sorter that is not in here runs
too, but what it is said to do by itself cannot be checked."""

GPU_SORTERS = {"kilosort4"}
"""Sorters that take hours to days without a GPU."""

PROGRAMS = {"kilosort4": {"ps": "procps"}}
"""Programs that a sorter calls on Linux, and the package of Debian that has them (Kilosort 4.1.7
counts its threads with `ps`, and fails without it; a bare Debian has none)."""

REPEATABLE = frozenset({"lupin", "spykingcircus2", "tridesclous2"})
"""Sorters that found the same spikes again in the same traces with as many workers (measured with
SpikeInterface 0.105.3: every generator seeded as `neuro_assets.science.sorting.child` does)."""

_CLUSTERING = ("numba", "scikit-learn")
SORTER_PACKAGES: dict[str, tuple[str, ...]] = {
    "kilosort4": ("kilosort", "torch"),
    "spykingcircus2": _CLUSTERING,
    "tridesclous2": _CLUSTERING,
    "lupin": _CLUSTERING,
}
"""Packages that a sorter's result hangs on, besides SpikeInterface; of one that is not in here,
the distribution of its name and the packages for clustering."""

_OURS = {"filtering": "ours", "reference": "ours", "whitening": "ours", "drift": "off"}


class SortingParameters(StepParameters):
    """One sorter set.

    Attributes
    ----------
    sorter, sorter_parameters
        SpikeInterface's name of the sorter, and what differs from its defaults.
    filtering, reference, whitening, drift
        Who does each step. The phase shift, the masking of saturated periods and the removal of
        bad channels are always ours, and come first.
    """

    algorithm_version: ClassVar[str] = "2"
    sets: ClassVar[dict[str, NamedSet]] = {}

    sorter: str = "tridesclous2"
    """SpikeInterface's name of the sorter"""
    filtering: Who = "sorter"
    """Who removes what is slower than spikes"""
    reference: Who = "sorter"
    """Who subtracts what channels have in common"""
    whitening: Who = "sorter"
    """Who whitens across channels"""
    drift: Who | Literal["off"] = "off"
    """Who corrects the drift of the probe; `ours` applies the asset `motion`"""
    drift_min_channels: int = Field(32, ge=2)
    """With fewer good channels drift is not corrected, whoever would (see MEASURED)"""
    sorter_parameters: dict[str, Any] = Field(default_factory=dict)
    """Parameters of the sorter that differ from its defaults"""
    band: SpikeBand = SpikeBand()
    """The spike-band chain where steps are ours"""
    whitening_radius_um: float = Field(100.0, gt=0)
    """Neighbourhood of the whitening where it is ours, um"""
    min_duration_s: float = Field(10.0, ge=0)
    """Shorter recordings hold too little to estimate noise and templates from
    (recording_too_short), seconds. The lab's own limit is that of bad_channels"""
    min_spikes: int = Field(10, ge=1)
    """Units with fewer spikes are dropped: no template, no metric holds"""
    max_cpu_duration_s: float = Field(120.0, ge=0)
    """Longest recording that a sorter for GPUs may sort without one, seconds"""
    force_cpu: bool = False
    """Let a sorter for GPUs sort a long recording without one (days)"""

    @property
    def needs_gpu(self) -> bool:
        """Whether the sorter takes hours to days without a GPU."""
        return self.sorter in GPU_SORTERS

    @property
    def switches(self) -> dict[str, bool]:
        """Values of the sorter's switches that follow from who does what."""
        return {
            switch.parameter: switch.value(getattr(self, switch.steps[0]) == "sorter")
            for switch in SWITCHES.get(self.sorter, ())
        }

    @property
    def packages(self) -> tuple[str, ...]:
        """Packages whose release can change what the sorter finds."""
        own = SORTER_PACKAGES.get(self.sorter, (self.sorter, *_CLUSTERING))
        return ("scipy", "spikeinterface", *own)

    @property
    def is_checked(self) -> bool:
        """Whether the sorter's switches are known, so that each step is sure to happen once."""
        return self.sorter in SWITCHES

    @model_validator(mode="after")
    def _each_step_once(self) -> Self:
        known = {step for switch in SWITCHES.get(self.sorter, ()) for step in switch.steps}
        for switch in SWITCHES.get(self.sorter, ()):
            self._check_undivided(switch)
            self._check_no_contradiction(switch)
        for step in STEPS:
            if self.is_checked and step not in known and getattr(self, step) == "sorter":
                raise ValueError(
                    f"{self.sorter} has no {step} of its own: nobody would do it; "
                    f"say {step}: ours{' or off' if step == 'drift' else ''}"
                )
        self._check_order()
        return self

    def _check_undivided(self, switch: Switch) -> None:
        """Refuse to divide what one switch of the sorter holds together."""
        by_sorter = [step for step in switch.steps if getattr(self, step) == "sorter"]
        if by_sorter and len(by_sorter) < len(switch.steps):
            others = [step for step in switch.steps if step not in by_sorter]
            raise ValueError(
                f"{self.sorter} does {', '.join(switch.steps)} together ({switch.parameter}): "
                f"with {', '.join(others)} not left to it, {', '.join(by_sorter)} would not happen"
                f" or {', '.join(others)} happen twice; give all of them to one side"
            )

    def _check_no_contradiction(self, switch: Switch) -> None:
        """Refuse a switch that was set by hand against who is said to do the step."""
        if switch.parameter not in self.sorter_parameters:
            return
        step = switch.steps[0]
        by_sorter = getattr(self, step) == "sorter"
        if self.sorter_parameters[switch.parameter] == switch.value(by_sorter):
            return
        outcome = "never happen" if by_sorter else "happen twice"
        if step == "drift" and not by_sorter:
            outcome = "happen although it is off" if self.drift == "off" else outcome
        raise ValueError(
            f"{switch.parameter}={self.sorter_parameters[switch.parameter]} contradicts "
            f"{step}: {getattr(self, step)} ({', '.join(switch.steps)} would {outcome}); "
            f"leave {switch.parameter} out, it follows from {step}"
        )

    def _check_order(self) -> None:
        """Refuse an order in which a later step comes before an earlier one."""
        order: tuple[Step, ...] = ("filtering", "reference", "whitening")
        for earlier, later in zip(order[:-1], order[1:], strict=True):
            if getattr(self, earlier) == "sorter" and getattr(self, later) == "ours":
                raise ValueError(
                    f"{later}: ours comes before {earlier}: sorter, in the wrong order; "
                    f"say {earlier}: ours or {later}: sorter"
                )
        if self.drift == "ours" and self.filtering == "sorter":
            raise ValueError(
                "drift: ours interpolates filtered traces; say filtering: ours as well, "
                "or drift: sorter"
            )

    @classmethod
    def for_sorter(
        cls, sorter: str, name: str = "default", overrides: dict[str, Any] | None = None
    ) -> Self:
        """Parameters of a sorter: its own default set, or a named one that is made for it.

        Parameters
        ----------
        sorter : str
            SpikeInterface's name of the sorter.
        name : str
            `default` (the sorter's own set), or a key of `sets` for this sorter.
        overrides : dict, optional
            Fields that replace the set's values. `sorter_parameters` is merged, not replaced.

        Returns
        -------
        SortingParameters
            Validated parameters.

        Raises
        ------
        KeyError
            When the set does not exist or is for another sorter.
        pydantic.ValidationError
            When a value is wrong, or a step would happen twice or never.
        """
        values: dict[str, Any] = {"sorter": sorter}
        key = sorter if name == "default" else name
        if key in cls.sets:
            values = dict(cls.sets[key].values)
            values.setdefault("sorter", cls.model_fields["sorter"].default)
        elif name != "default":
            raise KeyError(f"sorting has no parameter set {name!r}; choose one of {_names(cls)}")
        if values["sorter"] != sorter:
            raise KeyError(f"the set {name!r} is for {values['sorter']}, not for {sorter}")
        overrides = dict(overrides or {})
        own = {**values.get("sorter_parameters", {}), **overrides.pop("sorter_parameters", {})}
        return cls(**{**values, **overrides, "sorter_parameters": own})


def _names(cls: type[SortingParameters]) -> str:
    return ", ".join(cls.sets)


_KILOSORT4 = {"sorter": "kilosort4", "drift": "sorter"}
_CIRCUS = {
    "sorter": "spykingcircus2",
    "drift": "sorter",
    "drift_min_channels": 96,
    "sorter_parameters": {"seed": 42},
}
_TRIDESCLOUS = {
    "sorter": "tridesclous2",
    "drift": "sorter",
    "sorter_parameters": {"seed": 42, "save_array": False},
}
_LUPIN = {**_TRIDESCLOUS, "sorter": "lupin"}

SortingParameters.sets = {
    "default": NamedSet(source="neuro_assets: see MEASURED in this module", values=_TRIDESCLOUS),
    "kilosort4": NamedSet(
        source="Kilosort 4.1.7 defaults (drift correction rigid, nblocks 1)", values=_KILOSORT4
    ),
    "spykingcircus2": NamedSet(
        source="SpikeInterface 0.105.3 defaults, seeded; drift corrected from 96 channels on, as "
        "with fewer it made the result worse (see MEASURED)",
        values=_CIRCUS,
    ),
    "tridesclous2": NamedSet(
        source="SpikeInterface 0.105.3 defaults, seeded, with drift correction",
        values=_TRIDESCLOUS,
    ),
    "lupin": NamedSet(
        source="SpikeInterface 0.105.3 defaults, seeded, with drift correction",
        values=_LUPIN,
    ),
    "mountainsort5": NamedSet(
        source="MountainSort 5 defaults on our filtered, referenced and whitened traces",
        values={**_OURS, "sorter": "mountainsort5"},
    ),
    "aind": NamedSet(
        source="aind-ephys-pipeline e85fb1f (1.3.1), pipeline/default_params.json, kilosort4. "
        "AIND also filters and references before Kilosort does; here each happens once, in "
        "Kilosort",
        values={
            "sorter": "kilosort4",
            "drift": "sorter",
            "drift_min_channels": 96,
            "sorter_parameters": {"nblocks": 5, "Th_universal": 9, "Th_learned": 8},
            "band": {"phase_shift_margin_ms": 100.0},
        },
    ),
    "ibl": NamedSet(
        source="ibl-neuropixel 2749be5 destripe (order 3, 300 Hz, spatial high-pass) before "
        "kilosort4; IBL's own ibl-sorter has no SpikeInterface wrapper, and its thresholds are "
        "not Kilosort 4's",
        values={
            "sorter": "kilosort4",
            "filtering": "ours",
            "reference": "ours",
            "whitening": "ours",
            "drift": "sorter",
            "band": IBL_DESTRIPE,
        },
    ),
    "spikeinterface": NamedSet(
        source="SpikeInterface 0.105.3, spykingcircus2 as it comes",
        values={**_CIRCUS, "drift_min_channels": 2},
    ),
}
