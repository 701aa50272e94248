"""The protocol that every source of sessions follows.

What sources hand over is in `neuro_assets.registry.descriptions`. Nothing here decides what has
to be done about a session, or knows Dagster.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol, runtime_checkable

from neuro_assets.registry.descriptions import Changes, Known, Reconciliation, SessionDescription


@runtime_checkable
class SessionSource(Protocol):
    """Something that knows sessions: a folder tree, an Alyx database."""

    @property
    def name(self) -> str:
        """Name of the source in `lab.yaml`."""
        ...

    def changes(
        self,
        cursor: str | None = None,
        *,
        limit: int | None = None,
        again: Collection[str] = (),
        known: Collection[str] = (),
    ) -> Changes:
        """List what changed since a cursor.

        Parameters
        ----------
        cursor : str or None
            From the last call; None for the first.
        limit : int, optional
            Describe at most so many sessions now that are not in `known`.
        again : collection of str
            Ids of sessions to describe in any case.
        known : collection of str
            Ids of sessions that are registered.

        Returns
        -------
        Changes
            The same cursor and the same state of the source give the same answer.

        Raises
        ------
        TransientFailure
            When the source could not be read: a failed read is never an empty list.
        """
        ...

    def describe(self, session_id: str) -> SessionDescription:
        """Describe one session as it is now.

        Parameters
        ----------
        session_id : str
            As in `Changes.seen`.

        Returns
        -------
        SessionDescription
            With probes, datasets, and whether it is ready.

        Raises
        ------
        PermanentFailure
            When there is no such session.
        TransientFailure
            When the source could not be read.
        """
        ...

    def reconcile(self, known: Mapping[str, Known], cursor: str | None = None) -> Reconciliation:
        """Compare everything that is there with what is registered.

        Finds what `changes` cannot see: deletions, edits that leave no trace in times, sessions
        that were missed. Decides nothing: what it names is looked at again by `changes`.

        Parameters
        ----------
        known : mapping of str to Known
            Registered sessions of this source, by id.
        cursor : str or None
            From the last call; None for the first.

        Returns
        -------
        Reconciliation
            Sessions to look at again.

        Raises
        ------
        TransientFailure
            When the source could not be read.
        """
        ...
