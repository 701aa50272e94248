"""What the sensors that look at the lab's sources share: their shell, and going through them."""

from collections.abc import Callable, Mapping

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from neuro_assets.config import LabConfig
from neuro_assets.outcomes import NeuroAssetsError, TransientFailure
from neuro_assets.registry.registry import Registry
from neuro_assets.resources.store import StoreResource
from neuro_assets.service.session_registration import sources_of
from neuro_assets.sources.protocol import SessionSource

Look = Callable[
    [dg.SensorEvaluationContext, Registry, LabConfig, Mapping[str, SessionSource]], dg.SensorResult
]


def source_sensor(
    name: str,
    description: str,
    interval_s: int,
    config: LabConfig,
    look: Look,
    *,
    job: UnresolvedAssetJobDefinition | None = None,
    config_error: str | None = None,
) -> dg.SensorDefinition:
    """Build a sensor that looks at all sources of the lab.

    Parameters
    ----------
    name, description : str
        As they are shown.
    interval_s : int
        Least time between two looks, seconds.
    config : LabConfig
        For the sources.
    look : callable
        Called with the context, the registry, `config` and the sources by name.
    job : job, optional
        What it may request.
    config_error : str, optional
        Why `lab.yaml` as it is now was refused.

    Returns
    -------
    SensorDefinition
        Running from the start.
    """
    registries: dict[str, Registry] = {}

    @dg.sensor(
        name=name,
        job=job,
        description=description,
        minimum_interval_seconds=interval_s,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def sensor(
        context: dg.SensorEvaluationContext, store: dg.ResourceParam[StoreResource]
    ) -> dg.SensorResult | dg.SkipReason:
        if config_error:
            context.log.error(config_error)
        sources = sources_of(config)
        if not sources:
            return dg.SkipReason("lab.yaml names no source: add a folder under `sources`")
        # One registry for the life of the code server: its records are read once.
        registry = registries.setdefault(store.url, Registry(store.store()))
        return look(context, registry, config, sources)

    return sensor


def for_each_source(
    context: dg.SensorEvaluationContext,
    sources: Mapping[str, SessionSource],
    look: Callable[[str, SessionSource], None],
) -> None:
    """Look at every source once; one that cannot be read does not stop the others.

    Parameters
    ----------
    context : SensorEvaluationContext
        For its log.
    sources : mapping of str to SessionSource
        Sources by name.
    look : callable
        Called with the name and the source.

    Raises
    ------
    TransientFailure
        When none could be read.
    """
    failures: list[str] = []
    for name, source in sources.items():
        try:
            look(name, source)
        except NeuroAssetsError as failure:
            failures.append(f"{name}: {failure}")
            context.log.error(failures[-1])
        except Exception as defect:
            failures.append(f"{name}: {type(defect).__name__}: {defect}")
            context.log.exception(failures[-1])
    if len(failures) == len(sources):
        raise TransientFailure("; ".join(failures))
