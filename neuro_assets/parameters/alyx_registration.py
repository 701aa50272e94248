"""Parameters of the registration in Alyx; what is compared and sent is decided elsewhere.

What Alyx says is no input of a version, but which Alyx it is, and whether anything is sent, are.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from neuro_assets.parameters.base import NamedSet, StepParameters


class AlyxRegistrationParameters(StepParameters):
    """What is registered of a recording, and where."""

    step: ClassVar[str] = "alyx_registration"
    sets: ClassVar[dict[str, NamedSet]] = {
        "default": NamedSet(source="neuro_assets: files, quality, outcomes and task"),
        "files_only": NamedSet(
            source="neuro_assets: for labs whose people judge quality themselves",
            values={"aggregate_qc": False, "extended_qc": False},
        ),
    }

    collection: str = Field("neuro_assets", pattern=r"^[A-Za-z0-9_-]+$")
    """folder of our files below `alf/<probe>`, beside those of other sortings"""
    aggregate_qc: bool = True
    """whether our worst criterion raises the quality of session and insertion; it is never
    lowered"""
    extended_qc: bool = True
    """whether each criterion is written beside the quality (_neuroassets_...)"""
    url: str = ""
    """address of the Alyx server; taken from the section `alyx`"""
    repository: str = ""
    """data repository; taken from the section `alyx`"""
    write: bool = False
    """whether anything is sent; taken from the section `alyx`"""
    place: str = ""
    """folder or prefix of that repository; taken from the section `alyx`"""
    dagster_url: str = ""
    """address for the links in tasks; taken from the section `alyx`"""
