"""The store itself: reading, writing, upkeep and small shared files behind one class."""

from __future__ import annotations

from collections.abc import Callable

from neuro_assets.store.attempt import Attempt
from neuro_assets.store.garbage import Garbage, collect_garbage
from neuro_assets.store.lease import Lease
from neuro_assets.store.model import Manifest
from neuro_assets.store.pointers import adopt, fail, new_attempt_id
from neuro_assets.store.reader import StoreReader, check_names
from neuro_assets.store.repair import Repair, repair
from neuro_assets.store.stored import Stored
from neuro_assets.store.verify import Defect, find_defects


class Store(StoreReader):
    """A folder or `s3://` prefix with the outputs of a lab. Cheap to make; can be pickled.

    Parameters
    ----------
    url : str or Path
        A folder, or `s3://bucket/prefix`.
    storage_options : dict, optional
        For S3: options of s3fs (`key`, `secret`, `client_kwargs={"endpoint_url": ...}`). Never
        shown nor logged.
    scratch : Path, optional
        Local folder for temporary files and downloads; the system's by default.
    """

    # -- writing ------------------------------------------------------------------------------

    def attempt(self, asset: str, key: str, version: str, counts_for: str = "") -> Attempt:
        """Begin a try at an output.

        Parameters
        ----------
        asset, key, version : str
            What is going to be made.
        counts_for : str, optional
            See `adopt`.

        Returns
        -------
        Attempt
            A context manager. Leaving it without a commit removes everything.

        Raises
        ------
        PermanentFailure
            When a name is not safe, or the store cannot be written.
        """
        check_names(asset, key, version)
        return Attempt(self, asset, key, version, counts_for)

    def adopt(
        self, stored: Stored, run_id: str | None = None, turn: int = 0, counts_for: str = ""
    ) -> None:
        """Make an existing output the one that counts: reuse instead of computing again.

        Parameters
        ----------
        stored : Stored
            A committed output.
        run_id : str, optional
            The run that uses it; its later steps then find it as the run's own.
        turn : int
            That run's turn for the key; an output of a higher turn goes on counting.
        counts_for : str, optional
            The key that it counts for, where it stands under another: that of the session.
        """
        adopt(self, stored, run_id, turn, counts_for)

    def fail(self, manifest: Manifest) -> None:
        """Record that an output could not be made. What counted before goes on counting.

        Parameters
        ----------
        manifest : Manifest
            With outcome `failed` and the error.
        """
        check_names(manifest.asset, manifest.key, manifest.version)
        fail(self, manifest)

    def require_writable(self) -> None:
        """Write a small object and remove it.

        Raises
        ------
        PermanentFailure
            When the store can only be read: said before any work, not at its end.
        """
        name = f"leases/{new_attempt_id()}.json"
        self.write_json_atomic(name, {})
        self.backend.remove(name)

    # -- upkeep -------------------------------------------------------------------------------

    def verify(
        self,
        asset: str | None = None,
        key: str | None = None,
        *,
        progress: Callable[[float, str], None] | None = None,
    ) -> list[Defect]:
        """Read every committed file again and compare it with its checksum.

        Manifests, pointers, what outputs were made from, files that nobody committed and, without
        names, the registry's files are looked at too.

        Parameters
        ----------
        asset, key : str, optional
            Only these.
        progress : callable, optional
            Called with the fraction done and a few words.

        Returns
        -------
        list of Defect
            Empty where all is well.

        Raises
        ------
        PermanentFailure
            When the store has nothing of that name.
        """
        return find_defects(self, asset, key, progress)

    def repair(self, defects: list[Defect]) -> list[Repair]:
        """Let an intact attempt count where the one that counts is damaged; no output is removed.

        Parameters
        ----------
        defects : list of Defect
            From `verify`.

        Returns
        -------
        list of Repair
            One for each output whose counting attempt is damaged.
        """
        return repair(self, defects)

    def gc(
        self, *, older_than_h: float = 24.0, snapshots_d: float = 30.0, dry_run: bool = True
    ) -> list[Garbage]:
        """Find, and if asked remove, what no reader can see or need.

        Parameters
        ----------
        older_than_h : float
            Hours since the last write to it; younger things may be in the making.
        snapshots_d : float
            Days for which earlier versions of the lab's tables are kept.
        dry_run : bool
            Only list.

        Returns
        -------
        list of Garbage
            What is (or was) there.

        Raises
        ------
        PermanentFailure
            When an age is negative or no number.
        """
        return collect_garbage(self, older_than_h, snapshots_d=snapshots_d, dry_run=dry_run)

    def lease(self, name: str, seconds: float, timeout_s: float | None = None) -> Lease:
        """Ask for the right to do something alone for a while.

        Parameters
        ----------
        name : str
            What for.
        seconds : float
            When the right ends if its holder is not heard of.
        timeout_s : float, optional
            How long to wait for it; `seconds` by default.

        Returns
        -------
        Lease
            Not yet acquired.
        """
        return Lease(self, name, seconds, timeout_s)
