"""The store as a resource: a plain object, so that no launch's configuration can move it.

Dagster lets whoever launches a run configure a `ConfigurableResource`, in the user interface too.
"""

from __future__ import annotations

from dataclasses import dataclass

from neuro_assets.config import StoreConfig
from neuro_assets.store import Store
from neuro_assets.store.opening import open_store


@dataclass(frozen=True)
class StoreResource:
    """Where outputs are kept, as `lab.yaml` says it.

    Parameters
    ----------
    config : StoreConfig
        Address; credentials come from the environment when the store is opened.
    scratch : str, optional
        Local folder for temporary files; the system's by default.
    """

    config: StoreConfig
    scratch: str | None = None

    @property
    def url(self) -> str:
        """Address of the store."""
        return self.config.url

    def store(self) -> Store:
        """Open the store; errors as in `neuro_assets.store.opening.open_store`."""
        return open_store(self.config, self.scratch)
