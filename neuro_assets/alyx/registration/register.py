"""Registering results in Alyx: what it should hold is compared with what it holds, and sent.

`compare` only looks. `register` sends, reads back, and goes on until nothing differs. The parts:
`target_state` (from the store), `remote_state` (from Alyx), `diff` (what to do), `apply`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from neuro_assets.alyx.registration.apply import Applied, apply
from neuro_assets.alyx.registration.changes import Change
from neuro_assets.alyx.registration.diff import difference
from neuro_assets.alyx.registration.model import RemoteState, TargetState
from neuro_assets.alyx.registration.remote_state import remote_state
from neuro_assets.outcomes import NeuroAssetsError, PermanentFailure, TransientFailure

if TYPE_CHECKING:
    from neuro_assets.alyx.client import Alyx
    from neuro_assets.alyx.registration.repository import WriteRepository

_ROUNDS = 8
"""Far more than needed: it ends as soon as a round changes nothing of what remains."""

_SHOWN = 3


def compare(client: Alyx, target: TargetState, repository: WriteRepository | None) -> list[Change]:
    """Find out what would be sent; nothing is, and nothing in Alyx changes by reading.

    Parameters
    ----------
    client : Alyx
        The database.
    target : TargetState
        What it should hold.
    repository : WriteRepository or None
        Where files are copied to.

    Returns
    -------
    list of Change
        Empty where nothing is to do.

    Raises
    ------
    PermanentFailure
        Nothing can be written for this recording; see `difference`.
    TransientFailure
        Alyx does not answer.
    """
    return difference(target, remote_state(client, target, repository))


def register(client: Alyx, target: TargetState, repository: WriteRepository | None) -> Applied:
    """Send what differs, until Alyx holds what it should.

    After everything that was sent, and after every error, Alyx is read again and only what is
    missing is sent: a registration that broke off in the middle is continued, and never repeated.

    Parameters
    ----------
    client : Alyx
        The database.
    target : TargetState
        What it should hold.
    repository : WriteRepository or None
        Where files are copied to.

    Returns
    -------
    Applied
        What was sent; all of it was read back.

    Raises
    ------
    PermanentFailure
        Alyx refused something, or does not show what was sent; what remains is named.
    TransientFailure
        Alyx does not answer; what was sent stays, and registering again sends the rest.
    """
    done, last = Applied(), Applied()
    changes: list[Change] = []
    error: NeuroAssetsError | None = None
    for _ in range(_ROUNDS):
        remote = remote_state(client, target, repository)
        remaining = difference(target, remote)
        # What Alyx shows counts, and not its response, which may be lost.
        done.sent += [change for change in last.sent if change not in remaining]
        done.ids |= last.ids
        if not remaining:
            _check_ids(done, remote)
            return done
        if remaining == changes:
            break
        changes, error, last = remaining, None, Applied()
        try:
            apply(client, changes, repository, last)
        except (TransientFailure, PermanentFailure) as failure:
            error = failure
    raise _unfinished(changes, error) from error


def _check_ids(applied: Applied, remote: RemoteState) -> None:
    """Compare the ids that Alyx named with those that it lists."""
    listed = {row.path: row.id for row in remote.datasets}
    for path, id in applied.ids.items():
        if listed.get(path) != id:
            raise PermanentFailure(
                f"Alyx registered {path} as dataset {id} and lists {listed.get(path, 'none')} "
                f"for session {remote.session.id}: look there for a second session of the day"
            )


def _unfinished(remaining: list[Change], error: NeuroAssetsError | None) -> NeuroAssetsError:
    """Name what could not be done, as the kind of error that prevented it."""
    more = len(remaining) - _SHOWN
    rest = "; ".join(map(str, remaining[:_SHOWN])) + (f"; and {more} more" if more > 0 else "")
    if error is None:
        return PermanentFailure(
            f"Alyx took everything and still does not show it; what remains: {rest}; does another "
            "program write there?"
        )
    kind = TransientFailure if isinstance(error, TransientFailure) else PermanentFailure
    return kind(f"{error}; what remains to be sent: {rest}")
