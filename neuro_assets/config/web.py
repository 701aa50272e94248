"""The section `web` of `lab.yaml`: under which names the user interface may be reached."""

from __future__ import annotations

from pydantic import field_validator

from neuro_assets.config.base import Strict


class WebConfig(Strict):
    """The user interface. It listens on 127.0.0.1; a proxy in front must ask for a password."""

    allowed_hosts: list[str] = []
    """Further names, with the port where it is not the usual one, under which browsers reach the
    user interface through a proxy: neuro.example.org, lab:8443"""

    @field_validator("allowed_hosts")
    @classmethod
    def _plain_names(cls, hosts: list[str]) -> list[str]:
        for host in hosts:
            if not host or any(mark in host for mark in "/*@? "):
                raise ValueError(f"{host!r} is not a host name; write neuro.example.org")
        return [host.lower() for host in hosts]
