"""Which store this is: its identity file `store.json`, and the refusal of every other place.

No unmounted or foreign folder is made into a store. A lab remembers its stores beside `lab.yaml`.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from neuro_assets.outcomes import NeuroAssetsError, PermanentFailure
from neuro_assets.store.backend import IDENTITY_FILE
from neuro_assets.store.files import StoreFiles
from neuro_assets.store.json_values import pretty
from neuro_assets.store.local import LocalBackend
from neuro_assets.store.model import now

FORMAT = 2
"""Number of the store's format: layout, versions, registry and paths together."""

MEMORY_FOLDER = ".neuro_assets"
"""Folder beside `lab.yaml` in which a lab remembers its stores."""

_OLD_STORE = {"registry", "registry.parquet"}
_NO_CONTENT = {"lost+found"}

log = logging.getLogger(__name__)


class StoreIdentity(BaseModel):
    """Content of `store.json`.

    Parameters
    ----------
    id : str
        Random; a copy of the store has the same one.
    format : int
        See `FORMAT`.
    created : datetime
        UTC.
    exclusive_creation : bool
        Whether the second of two creations of one file fails here, as was tried.
    writer : str
        Where it does not: the only lab that may write the registry, its home's id first.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    format: int
    created: datetime
    exclusive_creation: bool
    writer: str = ""


class LabMemory:
    """What a lab remembers of its stores, and its own name as a writer.

    Parameters
    ----------
    folder : Path
        Made when something is remembered.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files = LocalBackend(folder)

    def expected(self, url: str) -> str:
        """Give the identity that a store had when the lab used it first; empty before."""
        return str(self._read()["stores"].get(url, ""))

    def remember(self, url: str, identity: str) -> None:
        """Keep the identity of a store."""
        with self.lock():
            content = self._read()
            content["stores"][url] = identity
            self._files.write("stores.json", pretty(content))

    @property
    def home(self) -> str:
        """Random id of this lab's folder."""
        with self.lock():
            content = self._read()
            if not content["home"]:
                content["home"] = secrets.token_hex(8)
                self._files.write("stores.json", pretty(content))
            return str(content["home"])

    @contextmanager
    def lock(self) -> Iterator[bool]:
        """Keep other processes of this lab waiting; False where the folder has no locks."""
        with self._files.lock("") as locked:
            yield locked

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads(self._files.read("stores.json"))
            return {"home": str(content["home"]), "stores": dict(content["stores"])}
        except FileNotFoundError:
            return {"home": "", "stores": {}}
        except (ValueError, KeyError, TypeError) as error:
            raise PermanentFailure(
                f"{self.folder / 'stores.json'} is damaged: restore it, or remove it if the "
                "store of lab.yaml is certainly the right one"
            ) from error


def read_identity(store: StoreFiles) -> StoreIdentity | None:
    """Read a store's identity.

    Parameters
    ----------
    store : StoreFiles
        The store.

    Returns
    -------
    StoreIdentity or None
        None where there is no identity file.

    Raises
    ------
    PermanentFailure
        When the file is damaged.
    """
    try:
        return StoreIdentity.model_validate_json(store.backend.read(IDENTITY_FILE))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise PermanentFailure(
            f"{IDENTITY_FILE} in the store {store.url} is damaged: restore it from a backup"
        ) from error


def admit(
    store: StoreFiles,
    *,
    expected: str = "",
    memory: LabMemory | None = None,
    create: bool = True,
    any_format: bool = False,
) -> StoreIdentity | None:
    """Make sure that a store is the lab's, and make a new one where there was none.

    Parameters
    ----------
    store : StoreFiles
        Guarded from now on: once it is not there any more, it is not written to.
    expected : str
        Identity that `lab.yaml` asks for; else the one that the lab remembers.
    memory : LabMemory, optional
        Of the lab.
    create : bool
        Whether an empty place becomes a store.
    any_format : bool
        Accept an older format and a store without identity, for the upgrade.

    Returns
    -------
    StoreIdentity or None
        None for an empty place that was to stay empty, and before an upgrade.

    Raises
    ------
    PermanentFailure
        When the place is not the lab's store, or of another format.
    """
    expected = expected or (memory.expected(store.url) if memory else "")
    identity = read_identity(store)
    if identity is None:
        names = set(store.backend.names("")) - _NO_CONTENT
        if IDENTITY_FILE in names:  # another first use was faster
            return admit(
                store, expected=expected, memory=memory, create=create, any_format=any_format
            )
        _refuse_absence(store, expected, memory, names, any_format=any_format)
        if any_format or not create:
            return None
        identity = establish(store, memory)
    if expected and identity.id != expected:
        raise PermanentFailure(
            f"{store.url} is the store {identity.id}, and this lab uses {expected}: mount the "
            f"right one or correct store.url in lab.yaml{_forget(memory)}"
        )
    if not any_format:
        _check_format(store, identity)
    store.backend.guarded = identity.id
    if memory is not None and memory.expected(store.url) != identity.id:
        _remember(store, identity, memory)
    return identity


def establish(store: StoreFiles, memory: LabMemory | None = None) -> StoreIdentity:
    """Write the identity of a new store; the one that is there where another was faster.

    Parameters
    ----------
    store : StoreFiles
        An empty place, or one that is being upgraded.
    memory : LabMemory, optional
        Of the lab that becomes the writer where creation is not exclusive.

    Returns
    -------
    StoreIdentity
        As it stands in the store.
    """
    return write_identity(store, new_identity(store, memory))


def new_identity(store: StoreFiles, memory: LabMemory | None = None) -> StoreIdentity:
    """Make the identity of a new store without writing it.

    Parameters
    ----------
    store, memory : StoreFiles, LabMemory
        As in `establish`.

    Returns
    -------
    StoreIdentity
        With a new id.
    """
    exclusive = has_exclusive_creation(store)
    return StoreIdentity(
        id=secrets.token_hex(16),
        format=FORMAT,
        created=now(),
        exclusive_creation=exclusive,
        writer="" if exclusive else writer_name(memory),
    )


def write_identity(store: StoreFiles, identity: StoreIdentity) -> StoreIdentity:
    """Write an identity where there is none, and give the one that stands in the store then.

    Parameters
    ----------
    store : StoreFiles
        The store.
    identity : StoreIdentity
        From `new_identity`.

    Returns
    -------
    StoreIdentity
        Another one where another process was faster.

    Raises
    ------
    PermanentFailure
        When the store does not give it back.
    """
    store.backend.create(IDENTITY_FILE, pretty(identity.model_dump(mode="json")))
    found = read_identity(store)
    if found is None:
        raise PermanentFailure(f"{store.url} does not give back what is written to it")
    return found


def has_exclusive_creation(store: StoreFiles) -> bool:
    """Try whether creating a file a second time fails.

    Parameters
    ----------
    store : StoreFiles
        A small file is written and removed.

    Returns
    -------
    bool
        False for servers that ignore the condition and overwrite.
    """
    path = f"leases/probe-{secrets.token_hex(8)}.json"
    try:
        first = store.backend.create_exclusively(path, b"1\n")
        second = store.backend.create_exclusively(path, b"2\n")
        return first and not second and store.backend.read(path) == b"1\n"
    finally:
        store.backend.remove(path)


def writer_name(memory: LabMemory | None) -> str:
    """Name this lab as a writer: its id, then machine and folder for people."""
    host = socket.gethostname()
    if memory is None:
        return f"user-{os.getuid()}@{host}"
    return f"{memory.home} {host}:{memory.folder.parent}"


@contextmanager
def only_writer(
    store: StoreFiles, identity: StoreIdentity, memory: LabMemory | None
) -> Iterator[None]:
    """Write alone where the store itself cannot keep two writers apart.

    Parameters
    ----------
    store : StoreFiles
        The store.
    identity : StoreIdentity
        Of the store.
    memory : LabMemory or None
        Of this lab; its processes take turns by a lock.

    Yields
    ------
    None
        At once where creation is exclusive.

    Raises
    ------
    PermanentFailure
        When another lab is the writer.
    """
    if identity.exclusive_creation:
        yield
        return
    if identity.writer.split(" ")[0] != writer_name(memory).split(" ")[0]:
        raise PermanentFailure(
            f"the server of {store.url} cannot keep two writers apart, so only "
            f"{identity.writer} may register recordings there: run this in that lab"
        )
    own = Path(tempfile.gettempdir()) / f"neuro_assets-{os.getuid()}"
    with (memory or LabMemory(own)).lock() as locked:
        if not locked:
            raise PermanentFailure("put lab.yaml on a disk with locks: its store has none either")
        yield


def _refuse_absence(
    store: StoreFiles,
    expected: str,
    memory: LabMemory | None,
    names: set[str],
    *,
    any_format: bool,
) -> None:
    if expected:
        raise PermanentFailure(
            f"{store.url} is not this lab's store {expected}: it has no {IDENTITY_FILE}. Mount it, "
            f"or correct store.url in lab.yaml{_forget(memory)}"
        )
    if names & _OLD_STORE:
        if any_format:
            return
        raise PermanentFailure(
            f"the store {store.url} has an older format: run `neuro-assets upgrade-store`"
        )
    if any_format:
        raise PermanentFailure(
            f"there is no store at {store.url}, so nothing to upgrade: mount it, or correct "
            "store.url in lab.yaml"
        )
    if names - {"leases"}:
        raise PermanentFailure(
            f"{store.url} is no store and holds other files ({', '.join(sorted(names)[:3])}): "
            "give the store an empty folder in lab.yaml"
        )


def _check_format(store: StoreFiles, identity: StoreIdentity) -> None:
    if identity.format > FORMAT:
        raise PermanentFailure(
            f"the store {store.url} has format {identity.format}, this release knows up to "
            f"{FORMAT}: install a newer neuro-assets"
        )
    if identity.format < FORMAT:
        raise PermanentFailure(
            f"the store {store.url} has format {identity.format}: run `neuro-assets upgrade-store`"
        )


def _remember(store: StoreFiles, identity: StoreIdentity, memory: LabMemory) -> None:
    try:
        memory.remember(store.url, identity.id)
    except (NeuroAssetsError, OSError) as error:
        log.warning(
            "%s; write `id: %s` under `store` in lab.yaml, so that no other store is taken for %s",
            error, identity.id, store.url,
        )  # fmt: skip


def _forget(memory: LabMemory | None) -> str:
    if memory is None:
        return ""
    return f". Where another store is really wanted, remove {memory.folder / 'stores.json'}"
