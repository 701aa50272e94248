"""The units that the lab goes on with, chosen among its sorter sets."""

from __future__ import annotations

from neuro_assets import names
from neuro_assets.assets.step import Need, Step, StepSpec, step
from neuro_assets.assets.steps.unit_quality import JUDGED
from neuro_assets.checks.criteria import Criterion
from neuro_assets.config import ConfigError, LabConfig, nearest
from neuro_assets.parameters.units import UnitsParameters
from neuro_assets.resources.io_managers import PARQUET
from neuro_assets.science.result import StepResult

CRITERIA = (
    *JUDGED,
    Criterion(
        "n_units", "yield", "units", warning=5, above=False,
        source="neuro_assets: fewer are hardly enough for any analysis of a population",
    ),
)  # fmt: skip


def unit_sources(config: LabConfig) -> list[str]:
    """Name the sorter sets from which `units` chooses.

    One, unless the rule compares them: units must not wait for, or fail with, a sorter set
    that they do not need.

    Parameters
    ----------
    config : LabConfig
        The lab's choices.

    Returns
    -------
    list of str
        At least one.

    Raises
    ------
    ConfigError
        When the source is no sorter set of the lab.
    """
    chosen = config.step(UnitsParameters)
    known = [sorter.name for sorter in config.sorters]
    if chosen.source and chosen.source not in known:
        raise ConfigError(
            f"steps.units.parameters.source names no sorter set: {chosen.source!r}"
            f"{nearest(chosen.source, known)}"
        )
    if chosen.source:
        return [chosen.source]
    return known if chosen.rule == "most_good" else known[:1]


def specs(config: LabConfig) -> list[StepSpec]:
    """Give the step of a lab."""
    sources = unit_sources(config)

    @step(
        config.step(UnitsParameters),
        group=names.SORTING,
        kinds={"parquet"},
        needs=[
            Need(asset(source), optional=len(sources) > 1)
            for source in sources
            for asset in (names.sorting, names.analyzer, names.unit_quality)
        ],
        io_manager_key=PARQUET,
        criteria=CRITERIA,
    )
    def units(step: Step) -> StepResult:
        """Units that the lab goes on with, each with a UUID, and their spikes."""
        from neuro_assets.science.analyzer import open_analyzer
        from neuro_assets.science.units import choose_units

        made = [s for s in sources if step.optional(names.unit_quality(s)) is not None]
        return choose_units(
            {s: step.stored(names.unit_quality(s)).table("unit_quality") for s in made},
            {s: step.stored(names.sorting(s)).digest for s in made},
            step.folder,
            step.parameters,
            open_source=lambda s: open_analyzer(step.stored(names.analyzer(s)).local()),
            progress=step.progress,
        )

    return [units]
