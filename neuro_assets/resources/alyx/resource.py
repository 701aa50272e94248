"""Alyx as a Dagster resource: address, token and deadlines, nothing else."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from neuro_assets.outcomes import PermanentFailure
from neuro_assets.resources.alyx.answers import TOKEN_VARIABLE

if TYPE_CHECKING:
    from neuro_assets.config import AlyxConfig
    from neuro_assets.resources.alyx.client import Alyx


class AlyxResource(dg.ConfigurableResource):
    """The lab's Alyx server.

    Without a token, the environment variable `ALYX_TOKEN` is read on use; a missing one is
    reported by the first request, so that definitions load without it.
    """

    url: str = Field(description="Address, https://alyx.example.org")
    token: str | None = Field(default=None, repr=False, description="Give it as dg.EnvVar")
    timeout_s: float = Field(default=30, gt=0, description="Longest silence of the server")
    deadline_s: float = Field(default=120, gt=0, description="Longest call, with its retries")

    @classmethod
    def of(cls, config: AlyxConfig) -> AlyxResource:
        """Make the resource of a configuration.

        Parameters
        ----------
        config : AlyxConfig
            Its `url`, `timeout_s` and `deadline_s`.

        Returns
        -------
        AlyxResource
            The user interface shows the variable's name in place of the token.

        Raises
        ------
        PermanentFailure
            There is no address.
        """
        if config.url is None:
            raise PermanentFailure("no Alyx is named: set url in the alyx section of lab.yaml")
        # Only a variable that is set: Dagster fails before our own message for one that is not.
        is_set = TOKEN_VARIABLE in os.environ
        return cls(
            url=config.url,
            token=dg.EnvVar(TOKEN_VARIABLE) if is_set else None,
            timeout_s=config.timeout_s,
            deadline_s=config.deadline_s,
        )

    def client(self, *, tries: int = 6) -> Alyx:
        """Make a client; nothing is connected yet.

        Parameters
        ----------
        tries : int
            Most requests that one call makes.

        Returns
        -------
        Alyx
            Can be sent to another process.
        """
        from neuro_assets.resources.alyx.client import Alyx

        return Alyx(
            self.url,
            self._current_token(),
            timeout_s=self.timeout_s,
            deadline_s=self.deadline_s,
            tries=tries,
        )

    def _current_token(self) -> str:
        if isinstance(self.token, dg.EnvVar):  # used outside a run
            return self.token.get_value("") or ""
        return self.token or os.environ.get(TOKEN_VARIABLE, "")
