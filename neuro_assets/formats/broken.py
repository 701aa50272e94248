"""The one exception of the format modules: something on disk that cannot become a recording.

While scanning it becomes a `Problem`; while opening it is a permanent failure as it stands.
"""

from __future__ import annotations

from neuro_assets.formats.model import Problem
from neuro_assets.outcomes import PermanentFailure


class Broken(PermanentFailure):
    """A file that is not what it should be.

    Parameters
    ----------
    kind : str
        Short type, as in `Problem.kind`.
    detail : str
        One line that says what is wrong and what to do.
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail

    def at(self, path: str) -> Problem:
        """Make the problem that is reported for a path.

        Parameters
        ----------
        path : str
            Relative to the session folder.

        Returns
        -------
        Problem
            The same, as data.
        """
        return Problem(kind=self.kind, path=path, detail=self.detail)
