"""How a step can end: the typed outcomes that every layer raises and records.

Only the vocabulary lives here. What is done with an outcome (manifest, check, retry) is
decided once, in `neuro_assets.assets.runner`.
"""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """State of one expected output of one recording."""

    COMPLETE = "complete"
    FAILED = "failed"
    SKIPPED = "skipped"
    RUNNING = "running"
    WAITING = "waiting"
    RAW_DATA_MISSING = "raw_data_missing"


class SkipReason(StrEnum):
    """Why a step was rightly not done. A reason is data: people count and filter by it."""

    RECORDING_TOO_SHORT = "recording_too_short"
    TOO_FEW_GOOD_CHANNELS = "too_few_good_channels"
    TOO_FEW_CHANNELS = "too_few_channels"
    NO_UNITS_FOUND = "no_units_found"
    NO_LFP_BAND = "no_lfp_band"
    NO_AUXILIARY = "no_auxiliary"
    NOT_SELECTED = "not_selected"
    NOT_IN_ALYX = "not_in_alyx"
    SKIPPED_UPSTREAM = "skipped_upstream"


class NeuroAssetsError(Exception):
    """Base of the errors that this package raises on purpose.

    Parameters
    ----------
    message : str
        One line: what is wrong and what to do about it.
    """


class Skipped(NeuroAssetsError):
    """The step has nothing to do for this recording, for a typed reason.

    Parameters
    ----------
    reason : SkipReason
        The type of the reason.
    detail : str
        One sentence with the numbers that led to it.
    origin : str, optional
        The asset where the chain of skips began, for `skipped_upstream`.
    """

    def __init__(self, reason: SkipReason, detail: str, origin: str | None = None) -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason
        self.detail = detail
        self.origin = origin


class PermanentFailure(NeuroAssetsError):
    """Trying again cannot help: the message says what a person has to do."""


class TransientFailure(NeuroAssetsError):
    """The surroundings failed (network, memory, a server): trying again may help."""
