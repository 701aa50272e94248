"""Make the record of a run from the definitions as they are now.

Used where a run is put into the queue and where it is executed. Nothing is executed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dagster import (
    AssetKey,
    DagsterInstance,
    DagsterRun,
    DynamicPartitionsDefinition,
    PartitionsDefinition,
)
from dagster._core.definitions.reconstruct import (
    ReconstructableJob,
    ReconstructableRepository,
    initialize_repository_def_from_pointer,
)
from dagster._core.definitions.repository_definition import RepositoryLoadData
from dagster._core.remote_origin import (
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from neuro_assets import names
from neuro_assets.outcomes import PermanentFailure
from neuro_assets.service.home import CodeLocation


@dataclass(frozen=True)
class Request:
    """What is asked for: a job, for one key, on some of its assets.

    Parameters
    ----------
    job : str
        Name of the job.
    partition_key : str or None
        Key of its partition.
    tags : dict
        Further run tags.
    selection : list of str or None
        Asset keys (`a` or `a/b`); all assets of the job when None.
    """

    job: str
    partition_key: str | None
    tags: dict[str, str]
    selection: list[str] | None


@dataclass(frozen=True)
class LoadedJob:
    """A job of the definitions as they are now, with the configuration that they froze."""

    recon: ReconstructableJob
    load_data: RepositoryLoadData | None
    location: CodeLocation


def load_job(location: CodeLocation, name: str) -> LoadedJob:
    """Load the definitions afresh, so that a run sees the configuration as it is at its start.

    Parameters
    ----------
    location : CodeLocation
        The definitions.
    name : str
        Name of a job in them.

    Returns
    -------
    LoadedJob
        The job.

    Raises
    ------
    PermanentFailure
        When there is no such job.
    """
    repository = ReconstructableRepository.for_module(location.module, location.attribute)
    definition = initialize_repository_def_from_pointer(repository.pointer)
    if not definition.has_job(name):
        raise PermanentFailure(
            f"there is no job {name!r}; there are {', '.join(sorted(definition.job_names))}"
        )
    load_data = definition.repository_load_data
    recon = repository.get_reconstructable_job(name).with_repository_load_data(load_data)
    return LoadedJob(recon, load_data, location)


def create_run(instance: DagsterInstance, job: LoadedJob, request: Request) -> DagsterRun:
    """Record a run that a daemon could start or retry as well as this process.

    Parameters
    ----------
    instance : DagsterInstance
        Where to record it.
    job : LoadedJob
        From `load_job`.
    request : Request
        What to run.

    Returns
    -------
    DagsterRun
        Not started.

    Raises
    ------
    PermanentFailure
        When there is no such key or asset.
    """
    definition = job.recon.get_definition()
    tags: dict[str, str] = dict(definition.run_tags)
    if request.partition_key is not None:
        _require_key(instance, definition.partitions_def, request.partition_key)
        tags[names.PARTITION_TAG] = request.partition_key
    return instance.create_run_for_job(
        job_def=definition,
        tags=tags | request.tags,
        asset_selection=_asset_keys(job, request.selection),
        job_code_origin=job.recon.get_python_origin(),
        remote_job_origin=_remote_origin(job),
        repository_load_data=job.load_data,
    )


def _asset_keys(job: LoadedJob, selection: Sequence[str] | None) -> frozenset[AssetKey] | None:
    if selection is None:
        return None
    definition = job.recon.get_definition()
    keys = frozenset(AssetKey.from_user_string(name) for name in selection)
    unknown = keys - definition.asset_layer.selected_asset_keys
    if unknown:
        absent = ", ".join(sorted(key.to_user_string() for key in unknown))
        raise PermanentFailure(f"job {definition.name!r} has no asset {absent}")
    return keys


def _require_key(
    instance: DagsterInstance, partitions: PartitionsDefinition | None, key: str
) -> None:
    known = (
        isinstance(partitions, DynamicPartitionsDefinition)
        and partitions.name is not None
        and instance.has_dynamic_partition(partitions.name, key)
    )
    if not known:
        raise PermanentFailure(f"{key!r} is not a registered recording; register its folder first")


def _remote_origin(job: LoadedJob) -> RemoteJobOrigin:
    """Return what names the job to the daemon; of the location only its name counts there."""
    target = LoadableTargetOrigin(module_name=job.location.module, attribute=job.location.attribute)
    origin = ManagedGrpcPythonEnvCodeLocationOrigin(target, job.location.name)
    repository = job.recon.repository.get_definition().name
    return RemoteRepositoryOrigin(origin, repository).get_job_origin(job.recon.job_name)
