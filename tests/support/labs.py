"""A small lab for tests: configuration, store, registry, Dagster instance, all in one folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg

from neuro_assets.assets.catalog import all_steps
from neuro_assets.assets.inventory import OutputState, inventory
from neuro_assets.config import LabConfig, parse_config
from neuro_assets.definitions import build_defs
from neuro_assets.registry.registry import Registry
from neuro_assets.service.session_registration import register_sessions, report
from neuro_assets.sources.folders.source import LocalSessionSource
from neuro_assets.store import Store
from neuro_assets.store.opening import open_store

SHORT = """
lab: simlab
store: {url: store}
compute: {cores: 2}
steps:
  bad_channels: {set: demo}
sorters:
  - {name: tridesclous2, set: default}
"""


@dataclass
class SmallLab:
    """A lab in a folder, driven without processes."""

    folder: Path
    text: str = SHORT
    instance: dg.DagsterInstance = field(default_factory=dg.DagsterInstance.ephemeral)

    @cached_property
    def config(self) -> LabConfig:
        noted, text = self.folder / "sessions_root", self.text
        if noted.exists() and "sources:" not in text:
            text += f"\nsources: [{{name: local, path: {noted.read_text()}}}]\n"
        return parse_config(text, base=self.folder)

    @cached_property
    def defs(self) -> dg.Definitions:
        return build_defs(config=self.config)

    @property
    def store(self) -> Store:
        return open_store(self.config.store)

    @property
    def registry(self) -> Registry:
        return Registry(self.store)

    def with_text(self, text: str) -> SmallLab:
        """The same lab after its lab.yaml was edited and the code location reloaded."""
        return SmallLab(self.folder, text, self.instance)

    def register(self, sessions: Path) -> list[str]:
        (self.folder / "sessions_root").write_text(str(sessions))
        self.__dict__.pop("config", None)
        self.__dict__.pop("defs", None)
        source = LocalSessionSource(
            sessions, readers=tuple(self.config.readers), settle_s=0, bare_root=True
        )
        actions = register_sessions(self.registry, source.survey()[0])
        report(self.instance, actions)
        return [action.record.key for action in actions if action.record.state == "ready"]

    def run(
        self, job: str, key: str | None = None, *, tags: dict[str, str] | None = None,
        only: list[str] | None = None,
    ) -> dg.ExecuteInProcessResult:  # fmt: skip
        return self.defs.get_job_def(job).execute_in_process(
            instance=self.instance,
            partition_key=key,
            tags=tags,
            raise_on_error=False,
            asset_selection=[dg.AssetKey(name) for name in only] if only else None,
        )

    def states(self, key: str) -> dict[str, OutputState]:
        records = {key: self.registry.all()[key]}
        found = inventory(self.store, records, all_steps(self.config))
        return {state.asset: state for state in found}

    def outcomes(self, key: str) -> dict[str, str]:
        return {name: state.outcome.value for name, state in self.states(key).items()}

    def checks(self, result: dg.ExecuteInProcessResult) -> dict[tuple[str, str], Any]:
        return {
            (e.asset_key.to_user_string(), e.check_name): e
            for e in result.get_asset_check_evaluations()
        }
