"""Registering one recording, for tests that need a record and no source."""

from __future__ import annotations

from typing import Any

from neuro_assets.formats.model import RawRecording
from neuro_assets.outcomes import Outcome
from neuro_assets.registry.index import RecordIndex
from neuro_assets.registry.keys import Claim, claim_key
from neuro_assets.registry.records import RecordingRecord, SessionInfo
from neuro_assets.registry.registry import Registry
from neuro_assets.store import Pointer, Store


def register(
    registry: Registry, session: SessionInfo, recording: RawRecording, version: str, **more: Any
) -> RecordingRecord:
    """Make sure that a recording has a record; a known one is brought up to date."""
    values = {**more, "session": session, "recording": recording, "raw_version": version}

    def put(index: RecordIndex) -> str:
        claim = claim_key(index, session, recording)
        known = claim.known or RecordingRecord(key=claim.key, **values)
        problems = [claim.problem] if claim.problem else known.problems
        place = known.session.place
        aliases = [*known.aliases, place] if place != session.place else known.aliases
        changed = {"problems": problems, "aliases": aliases, **values}
        index.put(RecordingRecord.model_validate({**dict(known), **changed}))
        return claim.key

    key = registry.transact(put)
    return registry.all()[key]


def claim(registry: Registry, session: SessionInfo, recording: RawRecording) -> Claim:
    """Say which key a recording has or would get."""
    return claim_key(registry.refresh(), session, recording)


def have_output(store: Store, key: str) -> None:
    """Let a recording count as processed."""
    pointer = Pointer(version="v1", attempt="a", outcome=Outcome.COMPLETE)
    store.backend.write(f"lfp/{key}/current.json", pointer.to_json())
