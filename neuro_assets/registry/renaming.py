"""Giving a recording another key, in the registry: what stands in its way, and the transactions.

Everything that was ever made under a key stays where it is in the store, under the first key of
its recording (`RecordingRecord.home`); versions, manifests and what cites them stay as they are.
"""

from __future__ import annotations

from neuro_assets.config.base import nearest
from neuro_assets.outcomes import PermanentFailure
from neuro_assets.recording_key import RecordingKey, safe_name
from neuro_assets.registry.index import RecordIndex
from neuro_assets.registry.raw_deletion import copy_note, remove_note
from neuro_assets.registry.records import RecordingRecord
from neuro_assets.registry.registry import Registry
from neuro_assets.registry.turns import copy_last_turn
from neuro_assets.store.model import now
from neuro_assets.store.renaming import copy_pointers, move_pointers, pointers_of, remove_copies

RENAMING = "rename"


def is_switched(registry: Registry, old: str, new: str) -> bool:
    """Refuse a new name that cannot be given.

    Parameters
    ----------
    registry : Registry
        The lab's registry.
    old, new : str
        Keys.

    Returns
    -------
    bool
        Whether it was given before, and at most tidying is left.

    Raises
    ------
    PermanentFailure
        Says why it cannot be, in one line.
    """
    index = registry.refresh()
    switched = _is_switched(index, old, new)
    if not switched and index.records[old].renaming_to != new:
        for asset in registry.store.assets():
            if new in registry.store.keys(asset):
                owner = reserved_for(index, new)
                remove = f", or remove it with `{_command(new, owner)}`" if owner else ""
                raise PermanentFailure(
                    f"the store holds {asset} of {new}: choose another key{remove}"
                )
        for _ in pointers_of(registry.store, old):
            pass  # a damaged one stops here, before anything was changed
    return switched


def reserved_for(index: RecordIndex, key: str) -> str:
    """Tell for which recording a key is no more than reserved.

    Parameters
    ----------
    index : RecordIndex
        Of the registry.
    key : str
        Any.

    Returns
    -------
    str
        The key that the recording had at the reservation; empty where `key` is, or ever was, the
        key of a recording, or is unknown.
    """
    owner = index.taken(key)
    is_or_was = owner is None or key == owner.key or key in owner.aliases
    return "" if is_or_was else index.aliases.get(key, "")


def cut_renaming(key: str, new: str) -> str:
    """Say how to finish a renaming that was killed, and how to take it back.

    Parameters
    ----------
    key, new : str
        Keys, as in `RecordIndex.renaming`.

    Returns
    -------
    str
        For people.
    """
    return (
        f"{key} is being renamed to {new}; if that was cut, finish it: `{_command(key, new)}`, or, "
        f"as long as {key} is its key, take it back: `{_command(new, key)}`"
    )


def reserve(registry: Registry, old: str, new: str) -> bool:
    """Take the new key, and let no step of the recording begin; see `release`.

    Parameters
    ----------
    registry : Registry
        The lab's registry.
    old, new : str
        Keys, as `is_switched` let them pass.

    Returns
    -------
    bool
        Whether this call took it, and not one before.
    """

    def change(index: RecordIndex) -> bool:
        if _is_switched(index, old, new) or index.records[old].renaming_to == new:
            return False
        record = index.records[old]
        index.put(record.model_copy(update={"renaming_to": new}))
        index.put(_name_only(record, new, old, f"it is being given to {old}"))
        return True

    return registry.transact(change)


def release(registry: Registry, old: str, new: str) -> None:
    """Let the recording go on under its key; the new one may be given to any recording again.

    Parameters
    ----------
    registry : Registry
        The lab's registry.
    old, new : str
        Keys, after `reserve`.

    Raises
    ------
    PermanentFailure
        When the recording has the new key already.
    """

    def change(index: RecordIndex) -> None:
        if reserved_for(index, new) != old:
            raise PermanentFailure(f"{new} is the key of {old} already, or another's: keep it")
        if (record := index.records[old]).renaming_to == new:
            index.put(record.model_copy(update={"renaming_to": ""}))
            index.put(_name_only(record, new, old, f"{old} was to be renamed to it, and was not"))

    registry.transact(change)


def take_back(registry: Registry, old: str, new: str) -> None:
    """Undo a renaming that was cut before `switch`; done twice it is the same.

    Parameters
    ----------
    registry : Registry
        The lab's registry.
    old, new : str
        Keys, after `reserve`.

    Raises
    ------
    PermanentFailure
        When the recording has the new key already.
    """
    release(registry, old, new)  # first: who is still at it switches no more
    remove_copies(registry.store, new)
    remove_note(registry.store, new)


def switch(registry: Registry, old: str, new: str, by: str) -> None:
    """Let every reader see the recording under its new key, whole, in one transaction.

    Parameters
    ----------
    registry : Registry
        The lab's registry.
    old, new : str
        Keys, after `reserve`.
    by : str
        Who renames it, for the registry's log.
    """
    copy_pointers(registry.store, old, new)
    copy_last_turn(registry.store, old, new)
    copy_note(registry.store, old, new)

    def change(index: RecordIndex) -> None:
        if _is_switched(index, old, new):
            return
        record = index.records[old]
        if record.renaming_to != new:
            raise PermanentFailure(f"the renaming of {old} to {new} was taken back meanwhile")
        update = {
            "key": new,
            "first_key": record.home,
            "renaming_to": "",
            "aliases": [*record.aliases, old],
            # The sensor would repeat its last request under the new name.
            "requested_by": RENAMING if record.requested_by else "",
        }
        why = f"renamed to {new} by {by} on {now():%Y-%m-%d %H:%M} UTC"
        index.put(record.model_copy(update=update))
        index.put(_name_only(record, old, new, why).model_copy(update={"renaming_to": new}))

    registry.transact(change)


def tidy(registry: Registry, old: str, new: str) -> None:
    """Take from the old key in the store what nobody reads there any more.

    Parameters
    ----------
    registry : Registry
        The lab's registry.
    old, new : str
        Keys, after `switch`.
    """
    move_pointers(registry.store, old, new)
    remove_note(registry.store, old)


def _command(key: str, new: str) -> str:
    return f"neuro-assets rename {key} {new} --yes"


def _name_only(record: RecordingRecord, key: str, of: str, why: str) -> RecordingRecord:
    session = record.session
    return RecordingRecord(key=key, session=session, state="vanished", alias_of=of, missing=[why])


def _is_switched(index: RecordIndex, old: str, new: str) -> bool:
    record = index.records.get(old)
    if record is None:
        known = nearest(old, index.recordings())
        raise PermanentFailure(index.damaged.get(old) or f"no recording {old!r}{known}")
    if owner := reserved_for(index, old):
        raise PermanentFailure(f"{old} is only reserved for {owner}: rename that")
    if record.alias_of == new:
        return True
    if record.alias_of:
        raise PermanentFailure(f"{old} is {record.alias_of} now: rename that")
    if record.renaming_to == new:
        return False  # nothing that changed since it was granted may stop it half-way
    if record.renaming_to:
        raise PermanentFailure(cut_renaming(old, record.renaming_to))
    if before := next((key for key in record.aliases if index.renaming.get(key) == old), ""):
        raise PermanentFailure(f"finish its last renaming first: `{_command(before, old)}`")
    if why := _why_not(index, record, new):
        raise PermanentFailure(why)
    return False


def _why_not(index: RecordIndex, record: RecordingRecord, new: str) -> str:
    """Say why a recording cannot have a key; empty where it can."""
    try:
        parsed, before = RecordingKey.parse(new), RecordingKey.parse(record.key)
    except ValueError as error:
        return str(error)
    made = RecordingKey.make(
        parsed.subject, parsed.date, parsed.number, parsed.probe, parsed.qualifier
    )
    if str(made) != new:
        return f"{new!r} is not written as keys are: {made}"
    owner = reserved_for(index, new)
    if index.is_taken(new) and (not owner or index.records[owner].renaming_to == new):
        return f"{new} is, or was, the key of a recording, and is never given to another"
    if parsed.probe != before.probe:
        return f"{record.key} is of {before.probe}: its new key has to name that probe"
    own = safe_name(record.session.subject).casefold() == parsed.subject.casefold()
    if not own and (others := index.of_subject(parsed.subject)):
        return f"{parsed.subject} is another animal ({others[0].key})"
    if record.renamed_to:
        return f"the recording of {record.key} is {record.renamed_to} now: rename that"
    if record.state in ("held", "not_ready"):
        return f"{record.key} {'is held' if record.state == 'held' else 'waits'}: {record.reason}"
    return ""
