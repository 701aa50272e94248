"""The whole of `lab.yaml`, a module a section: what a lab decides once, checked before all else.

Which steps there are is known above: `check_steps` is called where they are collected. Unknown
keys are errors that name the nearest right key.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import model_validator

from neuro_assets.config.alyx import AlyxConfig
from neuro_assets.config.base import ConfigError, Strict, nearest
from neuro_assets.config.compute import ComputeConfig, ProcessingConfig
from neuro_assets.config.sources import SourceConfig
from neuro_assets.config.steps import P, SorterChoice, StepChoice
from neuro_assets.config.store import RawDeletionConfig, StoreConfig
from neuro_assets.config.web import WebConfig
from neuro_assets.formats.options import ReaderEntry
from neuro_assets.parameters.base import StepParameters


class LabConfig(Strict):
    """The whole of `lab.yaml`."""

    lab: str = "lab"
    """Name of the lab, for recordings that do not say"""
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

    def step(self, model: type[P]) -> P:
        """Resolve the parameters of a step.

        Parameters
        ----------
        model : type
            The step's parameter model.

        Returns
        -------
        StepParameters
            The chosen set with the lab's overrides.

        Raises
        ------
        ConfigError
            When set or field do not exist, or a value is out of range.
        """
        return self.steps.get(model.step, StepChoice()).resolved(model)

    def check_steps(self, models: Mapping[str, type[StepParameters]]) -> None:
        """Refuse a step that does not exist, and parameters that it does not have.

        Parameters
        ----------
        models : mapping
            Parameter models by the name of their step.

        Raises
        ------
        ConfigError
            Names the nearest right word.
        """
        for name in self.steps:
            if name not in models:
                raise ConfigError(f"steps: there is no step {name!r}{nearest(name, models)}")
            self.step(models[name])

    @property
    def roots(self) -> dict[str, str]:
        """Folders below which raw data are, by the names that the registry's records use."""
        return {**{source.name: source.path for source in self.sources}, **self.alyx.roots}
