"""`lab.yaml` as pydantic models: what a lab decides once, checked before anything starts.

Parameter models of the steps live in `neuro_assets.parameters`; here a lab only chooses a named
set of them and overrides fields. Unknown keys are errors that name the nearest right key.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from neuro_assets.config.alyx import DOWNLOAD, AlyxConfig
from neuro_assets.config.base import Strict, nearest
from neuro_assets.config.web import WebConfig
from neuro_assets.formats.options import ReaderEntry
from neuro_assets.outcomes import PermanentFailure
from neuro_assets.parameters.bad_channels import BadChannelsParameters
from neuro_assets.parameters.base import StepParameters
from neuro_assets.parameters.catalog import STEPS, sorter_parameters, step_parameters
from neuro_assets.parameters.sorting import SortingParameters
from neuro_assets.parameters.units import UnitsParameters

CONFIG_NAME = "lab.yaml"
CONFIG_VARIABLE = "NEURO_ASSETS_LAB"
"""Environment variable with the folder of `lab.yaml`, or the path of the file itself."""

STORE_VARIABLE = "NEURO_ASSETS_STORE"
"""Environment variable with a store that replaces the one of `lab.yaml`."""


class ConfigError(PermanentFailure):
    """`lab.yaml` cannot be used; the message has one line for each mistake."""


class StoreConfig(Strict):
    """Where outputs are kept. S3 credentials come from the environment, never from this file."""

    url: str = Field("neuro_store", description="A folder, or s3://bucket/prefix")
    endpoint_url: str | None = Field(None, description="S3 endpoint, for stores other than AWS")
    region: str | None = Field(None, description="S3 region")


class SourceConfig(Strict):
    """A folder in which recording sessions appear."""

    name: str = Field("local", description="Name of the source, shown in the user interface")
    path: str = Field(description="Folder that holds <lab>/Subjects/... or run folders")
    settle_minutes: float = Field(
        10.0, ge=0, description="Minutes for which sizes must not change where there is no flag"
    )
    use_file_hash: bool = Field(
        False, description="Identify raw data by the SHA-1 in SpikeGLX metadata, where present"
    )


class ComputeConfig(Strict):
    """What one run may use of this machine."""

    cores: int | None = Field(None, ge=1, description="CPU cores; all when empty")
    concurrent_steps: int | None = Field(
        None, ge=1, description="Steps of a run at once; two, or one on a single core, when empty"
    )
    scratch: str | None = Field(
        None, description="Local folder for scratch data; the system's temporary folder when empty"
    )

    @property
    def n_cores(self) -> int:
        """Cores to use."""
        return self.cores or os.cpu_count() or 1

    @property
    def n_steps(self) -> int:
        """Steps of one run at once."""
        return self.concurrent_steps or min(2, self.n_cores)

    @property
    def n_jobs(self) -> int:
        """Worker threads or processes of one step."""
        return max(1, self.n_cores // self.n_steps)


class StepChoice(Strict):
    """A named set of parameters, and the fields that differ from it."""

    set: str = "default"
    parameters: dict[str, Any] = Field(default_factory=dict)


class SorterChoice(Strict):
    """One sorter set: a sorter with its parameters. Assets are named after `name`."""

    name: str = Field(
        pattern=r"^[a-z][a-z0-9_]*$", description="Suffix of the assets' names, e.g. ks4"
    )
    sorter: str = Field("", description="SpikeInterface's name of the sorter; `name` when empty")
    set: str = "default"
    parameters: dict[str, Any] = Field(default_factory=dict)
    probes: list[str] = Field(
        ["*"], description="Probes that are sorted with it, as patterns: probe00, probe0*, *"
    )

    @property
    def sorter_name(self) -> str:
        """SpikeInterface's name of the sorter."""
        return self.sorter or self.name


class RawDeletionConfig(Strict):
    """Policy of `neuro-assets delete-raw`; nothing is ever deleted by a run."""

    enabled: bool = False


class ProcessingConfig(Strict):
    """When recordings are processed."""

    reprocess_changed: bool = Field(
        False,
        description="Start a run when the raw data of a processed recording changed; "
        "when false it is shown as out of date and a person decides",
    )
    new_keys_per_tick: int = Field(
        20, ge=1, le=100, description="New recordings that one tick of the sensor may add"
    )


class LabConfig(Strict):
    """The whole of `lab.yaml`."""

    lab: str = Field("lab", description="Name of the lab, for recordings that do not say")
    store: StoreConfig = StoreConfig()
    sources: list[SourceConfig] = []
    alyx: AlyxConfig = AlyxConfig()
    readers: list[ReaderEntry] = []
    compute: ComputeConfig = ComputeConfig()
    processing: ProcessingConfig = ProcessingConfig()
    raw_deletion: RawDeletionConfig = RawDeletionConfig()
    web: WebConfig = WebConfig()
    steps: dict[str, StepChoice] = {}
    sorters: list[SorterChoice] = [SorterChoice(name="tridesclous2")]

    @field_validator("steps")
    @classmethod
    def _known_steps(cls, steps: dict[str, StepChoice]) -> dict[str, StepChoice]:
        for name in steps:
            if name not in STEPS:
                raise ValueError(f"there is no step {name!r}{nearest(name, STEPS)}")
        return steps

    @model_validator(mode="after")
    def _sources_agree(self) -> LabConfig:
        names = [source.name for source in self.sources]
        names += [self.alyx.name] if self.alyx.url else []
        if len(set(names)) != len(names):
            raise ValueError("two sources have the same name")
        return self

    @model_validator(mode="after")
    def _sorters_agree(self) -> LabConfig:
        names = [sorter.name for sorter in self.sorters]
        if not names:
            raise ValueError("name at least one sorter set under `sorters`")
        if len(set(names)) != len(names):
            raise ValueError("two sorter sets have the same name")
        return self

    @model_validator(mode="after")
    def _parameters_fit(self) -> LabConfig:
        for name in self.steps:
            self.step(name)
        for sorter in self.sorters:
            self.sorting(sorter)
        names = [sorter.name for sorter in self.sorters]
        source = self.units.source
        if source and source not in names:
            raise ValueError(
                f"steps.units.parameters.source names no sorter set: {source!r}"
                f"{nearest(source, names)}"
            )
        return self

    def step(self, name: str) -> StepParameters:
        """Resolve the parameters of a step.

        Parameters
        ----------
        name : str
            A name of `neuro_assets.parameters.catalog.STEPS`.

        Returns
        -------
        StepParameters
            The chosen set with the lab's overrides.

        Raises
        ------
        ConfigError
            When set or field do not exist, or a value is out of range.
        """
        choice = self.steps.get(name, StepChoice())
        return _resolve(
            f"steps.{name}", lambda: step_parameters(name, choice.set, choice.parameters)
        )

    def sorting(self, sorter: SorterChoice) -> SortingParameters:
        """Resolve the parameters of a sorter set; errors as in `step`."""
        found = _resolve(
            f"sorters.{sorter.name}",
            lambda: sorter_parameters(sorter.sorter_name, sorter.set, sorter.parameters),
        )
        return cast(SortingParameters, found)

    @property
    def bad_channels(self) -> BadChannelsParameters:
        """Parameters of the labels of channels, with the rule of what is worth sorting."""
        return cast(BadChannelsParameters, self.step("bad_channels"))

    @property
    def units(self) -> UnitsParameters:
        """Parameters of the choice of units."""
        return cast(UnitsParameters, self.step("units"))

    @property
    def unit_sources(self) -> list[str]:
        """Sorter sets from which `units` chooses.

        One, unless the rule compares them: units must not wait for, or fail with, a sorter set
        that they do not need.
        """
        if self.units.source:
            return [self.units.source]
        names = [sorter.name for sorter in self.sorters]
        return names if self.units.rule == "most_good" else names[:1]

    def to_text(self) -> str:
        """Render the resolved configuration as JSON, which is YAML."""
        return self.model_dump_json(indent=1)


def config_path(folder: Path | None = None) -> Path:
    """Tell where `lab.yaml` is expected: the environment variable first, then a folder.

    Parameters
    ----------
    folder : Path, optional
        Folder to look in; the current one by default.

    Returns
    -------
    Path
        Absolute path of the file, which need not exist.
    """
    named = Path(os.environ.get(CONFIG_VARIABLE) or folder or Path.cwd()).expanduser().resolve()
    return named if named.suffix in {".yaml", ".yml"} else named / CONFIG_NAME


def read_config(path: Path) -> LabConfig:
    """Read and check a `lab.yaml`; relative paths count from the folder of the file.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    LabConfig
        With absolute paths.

    Raises
    ------
    ConfigError
        One line for each mistake, each with the nearest right key.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    return parse_config(text, base=path.parent)


def parse_config(text: str, base: Path | None = None) -> LabConfig:
    """Check the text of a `lab.yaml`; arguments and errors as in `read_config`."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        data = YAML(typ="safe").load(text)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise ConfigError(f"{CONFIG_NAME} is not valid YAML{where}: {problem}") from error
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError(f"{CONFIG_NAME} must hold keys and values, not a {type(data).__name__}")
    try:
        config = LabConfig.model_validate(data)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(error, LabConfig, CONFIG_NAME))) from error
    return _absolute(config, base) if base else config


def _resolve(where: str, make: Any) -> StepParameters:
    try:
        return make()
    except KeyError as error:
        raise ConfigError(f"{where}: {error.args[0]}") from error
    except ValidationError as error:
        model = error.title
        fields = {m.__name__: m for m in _parameter_models()}.get(model)
        raise ConfigError("\n".join(_explain(error, fields, f"{where}.parameters"))) from error


def _parameter_models() -> list[type[StepParameters]]:
    found, waiting = [], [StepParameters]
    while waiting:
        model = waiting.pop()
        found.append(model)
        waiting += model.__subclasses__()
    return found


def _explain(error: ValidationError, model: type[BaseModel] | None, where: str) -> list[str]:
    """One line a mistake: `lab.yaml: sorters.0.nme: unknown key; did you mean 'name'?`."""
    lines = []
    for item in error.errors():
        path = ".".join(str(part) for part in item["loc"])
        place = f"{where}: {path}" if path else where
        if item["type"] == "extra_forbidden":
            fields = _fields_at(model, item["loc"][:-1])
            lines.append(f"{place}: unknown key{nearest(str(item['loc'][-1]), fields)}")
        else:
            lines.append(f"{place}: {item['msg'].removeprefix('Value error, ')}")
    return lines


def _fields_at(model: type[BaseModel] | None, location: tuple[int | str, ...]) -> list[str]:
    """Names of the fields of the model that sits at a location of the error."""
    for part in location:
        if isinstance(part, int) or model is None:
            continue
        field = model.model_fields.get(part)
        inner = _inner_models(field.annotation) if field else []
        model = inner[0] if inner else model
    return list(model.model_fields) if model else []


def _inner_models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for part in getattr(annotation, "__args__", ()) for m in _inner_models(part)]


def _absolute(config: LabConfig, base: Path) -> LabConfig:
    def path(text: str) -> str:
        return text if "://" in text else str((base / Path(text).expanduser()).resolve())

    scratch = config.compute.scratch
    store = os.environ.get(STORE_VARIABLE) or config.store.url
    return config.model_copy(
        update={
            "store": config.store.model_copy(update={"url": path(store)}),
            "sources": [
                source.model_copy(update={"path": path(source.path)}) for source in config.sources
            ],
            "alyx": config.alyx.model_copy(
                update={
                    "cache": path(config.alyx.cache),
                    "repositories": {
                        name: where if where == DOWNLOAD else path(where)
                        for name, where in config.alyx.repositories.items()
                    },
                }
            ),
            "readers": [
                reader.model_copy(
                    update={"probe_file": path(reader.probe_file) if reader.probe_file else None}
                )
                for reader in config.readers
            ],
            "compute": config.compute.model_copy(
                update={"scratch": path(scratch) if scratch else None}
            ),
        }
    )
