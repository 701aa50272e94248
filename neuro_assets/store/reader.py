"""Finding what is in the store; nothing here writes.

`neuro_assets.store.store` adds the writing half.
"""

from __future__ import annotations

from neuro_assets.outcomes import PermanentFailure
from neuro_assets.store.files import StoreFiles
from neuro_assets.store.model import (
    CURRENT,
    FAILURE,
    MANIFEST,
    Manifest,
    checked_name,
    is_safe_name,
)
from neuro_assets.store.pointers import is_foreign, readable_pointer
from neuro_assets.store.stored import Stored, is_copied

RESERVED = frozenset(
    {
        "store.json",
        "registry",
        "registry.parquet",
        "revisits",
        "findings",
        "leases",
        "tables",
        "lost+found",
    }
)
"""Names at the top that are no assets."""


class StoreReader(StoreFiles):
    """The reading half of `neuro_assets.store.store.Store`; parameters as there."""

    def current(self, asset: str, key: str) -> Stored | None:
        """Find the output that counts.

        Parameters
        ----------
        asset, key : str
            Which output.

        Returns
        -------
        Stored or None
            None where nothing was ever committed.
        """
        return self._follow(asset, key, CURRENT)

    def produced_by(self, run_id: str, asset: str, key: str) -> Stored | None:
        """Find what one run made or reused.

        Parameters
        ----------
        run_id : str
            Dagster's run.
        asset, key : str
            Which output.

        Returns
        -------
        Stored or None
            None where that run has not made it (yet).
        """
        return self._follow(asset, key, f"runs/{checked_name(run_id, 'run id')}.json")

    def committed(self, asset: str, key: str, version: str) -> Stored | None:
        """Find a commit of exactly this version that can be used again.

        Parameters
        ----------
        asset, key, version : str
            Which output.

        Returns
        -------
        Stored or None
            Complete or skipped, all files there at their sizes; the one that counts where it
            is of this version, else the newest. A damaged pointer says nothing.
        """
        check_names(asset, key, version)
        current = readable_pointer(self, f"{asset}/{key}/{CURRENT}")
        attempts = self.attempts(asset, key, version)[::-1]
        if current is not None and current.version == version and current.attempt in attempts:
            attempts.remove(current.attempt)
            attempts.insert(0, current.attempt)
        handles = (self.stored(asset, key, version, attempt) for attempt in attempts)
        return next((stored for stored in handles if stored.is_intact()), None)

    def failure(self, asset: str, key: str) -> Manifest | None:
        """Find the last failure, if no run of a later turn committed anything.

        Parameters
        ----------
        asset, key : str
            Which output.

        Returns
        -------
        Manifest or None
            With the error.
        """
        failed = self.read_pointer(asset, key, FAILURE)
        if failed is None:
            return None
        current = self.read_pointer(asset, key, CURRENT)
        is_later = current is not None and current.turn > failed.turn
        if is_later and not is_foreign(self, asset, key, current):
            return None
        found = self.read_manifest(asset, key, failed.version, failed.attempt)
        copied = found and is_copied(found, asset, key, failed.version, failed.attempt)
        return None if copied else found

    def assets(self) -> list[str]:
        """List the assets that have anything stored.

        Returns
        -------
        list of str
            Sorted names.
        """
        names = self.backend.names("")
        return [name for name in names if name not in RESERVED and is_safe_name(name)]

    def keys(self, asset: str) -> list[str]:
        """List the keys of which an asset has anything stored, failures included.

        Parameters
        ----------
        asset : str
            Name of the asset.

        Returns
        -------
        list of str
            Sorted keys.
        """
        names = self.backend.names(checked_name(asset, "asset name"))
        return [name for name in names if is_safe_name(name)]

    def versions(self, asset: str, key: str) -> list[str]:
        """List the versions of an output of which anything is stored.

        Parameters
        ----------
        asset, key : str
            Which output.

        Returns
        -------
        list of str
            Sorted.
        """
        names = [name for name in self.backend.names(f"{asset}/{key}") if is_safe_name(name)]
        return [name for name in names if name != "runs" and not name.endswith(".json")]

    def attempts(self, asset: str, key: str, version: str) -> list[str]:
        """List the attempts with a manifest, oldest first, failures included.

        Parameters
        ----------
        asset, key, version : str
            Which output.

        Returns
        -------
        list of str
            Their ids.
        """
        folder = f"{asset}/{key}/{version}"
        return [
            name
            for name in self.backend.names(folder)
            if is_safe_name(name) and self.backend.entry(f"{folder}/{name}/{MANIFEST}") is not None
        ]

    def stored(
        self, asset: str, key: str, version: str, attempt: str, manifest: Manifest | None = None
    ) -> Stored:
        """Make a handle without looking whether there is anything.

        Parameters
        ----------
        asset, key, version, attempt : str
            Which one.
        manifest : Manifest, optional
            Where it is at hand.

        Returns
        -------
        Stored
            The handle.
        """
        check_names(asset, key, version)
        checked_name(attempt, "attempt")
        return Stored(self, asset, key, version, attempt, manifest)

    def _follow(self, asset: str, key: str, name: str) -> Stored | None:
        found = self.read_pointer(asset, key, name)
        if found is None:
            return None
        checked_name(found.version, "version")
        home = checked_name(found.key or key, "key")
        owner = found.owner if found.owner != f"{asset}/{key}" else ""
        return Stored(
            self, asset, home, found.version, found.attempt, pointer=found, copied_from=owner
        )


def check_names(asset: str, key: str, version: str) -> None:
    """Refuse names that are not safe, or that the store uses itself.

    Parameters
    ----------
    asset, key, version : str
        Names of folders.

    Raises
    ------
    PermanentFailure
        With the name and what is wrong with it.
    """
    checked_name(asset, "asset name")
    checked_name(key, "key")
    checked_name(version, "version")
    if asset in RESERVED or version == "runs":
        raise PermanentFailure(f"{asset}/{key}/{version}: the name is reserved by the store")
