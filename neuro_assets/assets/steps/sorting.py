"""Spike trains: one sorting for each sorter set of `lab.yaml`."""

from __future__ import annotations

from fnmatch import fnmatch
from typing import Any

from neuro_assets import names
from neuro_assets.assets.step import Need, Step, StepSpec, step
from neuro_assets.checks.criteria import Criterion
from neuro_assets.config import LabConfig, SorterChoice
from neuro_assets.outcomes import Skipped, SkipReason
from neuro_assets.parameters.bad_channels import BadChannelsParameters
from neuro_assets.recording_key import RecordingKey
from neuro_assets.resources.io_managers import ZARR_ANALYZER
from neuro_assets.science.result import StepResult

CRITERIA = (
    Criterion(
        "n_units", "yield", "units", warning=5, above=False,
        source="neuro_assets: fewer are hardly enough for any analysis of a population",
    ),
)  # fmt: skip

SORTABLE = {"min_duration_s", "min_good_channels", "min_good_fraction", "max_gap_um"}
"""Parameters of `bad_channels` that say what is worth sorting."""


def specs(config: LabConfig) -> list[StepSpec]:
    """Give one step for each sorter set."""
    return [_sorting(config, sorter) for sorter in config.sorters]


def _sorting(config: LabConfig, sorter: SorterChoice) -> StepSpec:
    parameters = sorter.sorting
    rule = config.step(BadChannelsParameters)
    sortable = rule.model_dump(include=SORTABLE)

    @step(
        parameters,
        name=names.sorting(sorter.name),
        group=names.SORTING,
        kinds={"zarr"},
        needs=[
            Need(names.COMPRESSED_RECORDING),
            Need(names.BAD_CHANNELS),
            Need(names.RECORDING_QUALITY),
            *([Need(names.MOTION, optional=True)] if parameters.drift == "ours" else []),
        ],
        io_manager_key=ZARR_ANALYZER,
        criteria=CRITERIA,
        packages=parameters.packages,
        pool=names.GPU_POOL if parameters.needs_gpu else names.HEAVY_POOL,
        settings=lambda key: {"selected": _selects(sorter, key), **sortable},
    )
    def sorting(step: Step) -> StepResult:
        """Spike trains of one sorter set, as sample indices of the recording."""
        from neuro_assets.science.bad_channels import check_sortable
        from neuro_assets.science.compression.run import open_compressed
        from neuro_assets.science.sorting import sort_recording

        if not _selects(sorter, step.key):
            raise Skipped(
                SkipReason.NOT_SELECTED,
                f"lab.yaml gives {sorter.name} the probes {', '.join(sorter.probes)}",
            )
        recording = open_compressed(step.stored(names.COMPRESSED_RECORDING).local())
        channels = step.stored(names.BAD_CHANNELS).table("channels")
        check_sortable(channels, recording.get_duration(), rule)
        return sort_recording(
            recording,
            channels,
            step.stored(names.RECORDING_QUALITY).table("saturation"),
            step.folder,
            step.scratch,
            step.parameters,
            motion=_motion(step) if parameters.drift == "ours" else None,
            n_jobs=step.n_jobs,
            progress=step.progress,
        )

    return sorting


def _selects(sorter: SorterChoice, key: str) -> bool:
    probe = RecordingKey.parse(key).probe
    return any(fnmatch(probe, pattern) for pattern in sorter.probes)


def _motion(step: Step) -> Any:
    """Load the estimated motion; None where it was skipped (a short probe, for instance)."""
    from neuro_assets.science.motion import load_motion

    stored = step.optional(names.MOTION)
    return load_motion(stored.local()) if stored is not None else None
