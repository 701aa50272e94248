"""Sorting: three assets for each configured sorter set, and the units that the lab goes on with."""

from __future__ import annotations

from fnmatch import fnmatch
from typing import Any

from neuro_assets import names
from neuro_assets.assets.step import Need, Step, StepSpec, step
from neuro_assets.checks.rows import criteria
from neuro_assets.config import LabConfig, SorterChoice
from neuro_assets.outcomes import Skipped, SkipReason
from neuro_assets.recording_key import RecordingKey
from neuro_assets.resources.io_managers import PARQUET, ZARR_ANALYZER
from neuro_assets.science.result import StepResult


def sorting_steps(config: LabConfig) -> list[StepSpec]:
    """Build the steps of the group `sorting`: siblings for every sorter set, then `units`."""
    steps = []
    for sorter in config.sorters:
        steps += [
            _sorting(config, sorter),
            _analyzer(config, sorter),
            _unit_quality(config, sorter),
        ]
    return [*steps, _units(config)]


def _sorting(config: LabConfig, sorter: SorterChoice) -> StepSpec:
    parameters = config.sorting(sorter)

    @step(
        name=names.sorting(sorter.name),
        group=names.SORTING,
        kinds={"zarr"},
        needs=[
            Need(names.COMPRESSED_RECORDING),
            Need(names.BAD_CHANNELS),
            Need(names.RECORDING_QUALITY),
            *([Need(names.MOTION, optional=True)] if parameters.drift == "ours" else []),
        ],
        parameters=parameters,
        io_manager_key=ZARR_ANALYZER,
        criteria=criteria("sorting"),
        pool=names.GPU_POOL if parameters.sorter == "kilosort4" else names.HEAVY_POOL,
    )
    def sorting(step: Step) -> StepResult:
        """Spike trains of one sorter set, as sample indices of the recording."""
        from neuro_assets.science.bad_channels import check_sortable
        from neuro_assets.science.compression import open_compressed
        from neuro_assets.science.sorting import sort_recording

        probe = RecordingKey.parse(step.key).probe
        if not any(fnmatch(probe, pattern) for pattern in sorter.probes):
            raise Skipped(
                SkipReason.NOT_SELECTED,
                f"lab.yaml gives {sorter.name} the probes {', '.join(sorter.probes)}, not {probe}",
            )
        recording = open_compressed(step.stored(names.COMPRESSED_RECORDING).local())
        channels = step.stored(names.BAD_CHANNELS).table("channels")
        check_sortable(channels, recording.get_duration(), config.bad_channels)
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


def _motion(step: Step) -> Any:
    """Load the estimated motion; None where it was skipped (a short probe, for instance)."""
    from neuro_assets.science.motion import load_motion

    stored = step.optional(names.MOTION)
    return load_motion(stored.local()) if stored is not None else None


def _analyzer(config: LabConfig, sorter: SorterChoice) -> StepSpec:
    source = names.sorting(sorter.name)

    @step(
        name=names.analyzer(sorter.name),
        group=names.SORTING,
        kinds={"zarr"},
        needs=[
            Need(names.COMPRESSED_RECORDING),
            Need(names.BAD_CHANNELS),
            Need(names.RECORDING_QUALITY),
            Need(source),
        ],
        parameters=config.step("analyzer"),
        io_manager_key=ZARR_ANALYZER,
        criteria=criteria("analyzer"),
        pool=names.HEAVY_POOL,
    )
    def analyzer(step: Step) -> StepResult:
        """Waveforms, templates, locations and metrics of the units, without duplicates."""
        from neuro_assets.science.analyzer import analyze_sorting
        from neuro_assets.science.compression import open_compressed
        from neuro_assets.science.sorting import open_sorting

        return analyze_sorting(
            open_compressed(step.stored(names.COMPRESSED_RECORDING).local()),
            open_sorting(step.stored(source).local()),
            step.stored(names.BAD_CHANNELS).table("channels"),
            step.folder,
            step.parameters,
            saturation=step.stored(names.RECORDING_QUALITY).table("saturation"),
            n_jobs=step.n_jobs,
            progress=step.progress,
        )

    return analyzer


def _unit_quality(config: LabConfig, sorter: SorterChoice) -> StepSpec:
    source = names.analyzer(sorter.name)

    @step(
        name=names.unit_quality(sorter.name),
        group=names.SORTING,
        kinds={"parquet"},
        needs=[Need(source), Need(names.RECORDING_QUALITY)],
        parameters=config.step("unit_quality"),
        io_manager_key=PARQUET,
        criteria=criteria("unit_quality"),
    )
    def unit_quality(step: Step) -> StepResult:
        """One row a unit: SpikeInterface's metrics, IBL's three criteria and label."""
        from neuro_assets.science.analyzer import open_analyzer
        from neuro_assets.science.unit_quality import unit_quality as measure

        return measure(
            open_analyzer(step.stored(source).local()),
            step.folder,
            step.parameters,
            saturation=step.stored(names.RECORDING_QUALITY).table("saturation"),
            progress=step.progress,
        )

    return unit_quality


def _units(config: LabConfig) -> StepSpec:
    sources = config.unit_sources
    single = len(sources) == 1

    @step(
        name=names.UNITS,
        group=names.SORTING,
        kinds={"parquet"},
        needs=[
            Need(asset(source), optional=not single)
            for source in sources
            for asset in (names.sorting, names.analyzer, names.unit_quality)
        ],
        parameters=config.units,
        io_manager_key=PARQUET,
        criteria=criteria(names.UNITS),
    )
    def units(step: Step) -> StepResult:
        """Units that the lab goes on with, each with a UUID, and their spikes."""
        from neuro_assets.science.analyzer import open_analyzer
        from neuro_assets.science.units import choose_units

        made = [s for s in sources if step.optional(names.unit_quality(s)) is not None]
        return choose_units(
            {s: step.stored(names.unit_quality(s)).table("unit_quality") for s in made},
            {s: step.stored(names.sorting(s)).version for s in made},
            step.folder,
            step.parameters,
            open_source=lambda s: open_analyzer(step.stored(names.analyzer(s)).local()),
            progress=step.progress,
        )

    return units
