"""What a step finds as its inputs: how a manifest names them, and what keeps it from its work."""

from collections.abc import Mapping

from neuro_assets.assets.step import Input
from neuro_assets.outcomes import Outcome, PermanentFailure, Skipped, SkipReason
from neuro_assets.resources.io_managers import Missing, Unreadable
from neuro_assets.sources.raw_input import RawInput
from neuro_assets.store import InputRef, Stored


def input_ref(asset: str, found: Input) -> InputRef:
    """How a manifest names an input; one that is not there has the version `missing`, no digest.

    Raw data that are there and waited for have a version: no skip for want of them is reused.

    Raises
    ------
    Exception
        What kept the input from being resolved.
    """
    if isinstance(found, Unreadable):
        raise found.error
    if isinstance(found, Stored):
        return found.ref
    if isinstance(found, Missing):
        return InputRef(asset=asset, version=found.version or "missing", digest=found.version)
    return InputRef(asset=asset, version=found.version, digest=found.version)


def is_without(found: Input) -> bool:
    """Tell whether a step has to do without an input."""
    if isinstance(found, Stored):
        return found.outcome is not Outcome.COMPLETE
    return isinstance(found, Missing)


def require(asset: str, found: Input) -> None:
    """Raise where a needed input is not there or was itself skipped."""
    if isinstance(found, Missing):
        raise PermanentFailure(f"{asset} of {found.key} is not in the store: {found.reason}")
    if not isinstance(found, Stored) or found.outcome is Outcome.COMPLETE:
        return
    skip = found.manifest.skip or {}
    if skip.get("origin"):
        raise Skipped(SkipReason.SKIPPED_UPSTREAM, skip["detail"], skip["origin"])
    words = f"{asset}: {skip.get('reason')}: {skip.get('detail')}"
    raise Skipped(SkipReason.SKIPPED_UPSTREAM, words, asset)


def gone_raw_data(inputs: Mapping[str, Input]) -> list[InputRef]:
    """List the raw data that a session never had, or lost since they were registered."""
    return [
        input_ref(asset, found)
        for asset, found in inputs.items()
        if (isinstance(found, Missing) and not found.is_expected)
        or (isinstance(found, RawInput) and found.lost)
    ]
