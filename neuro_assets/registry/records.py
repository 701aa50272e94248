"""What the registry keeps of a recording, as plain data.

Reading and writing records is done by `neuro_assets.registry.registry`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from neuro_assets.formats.modalities import MODALITIES, RECORDING
from neuro_assets.formats.model import Identity, Problem, RawFiles, RawRecording
from neuro_assets.outcomes import PermanentFailure
from neuro_assets.recording_key import RecordingKey
from neuro_assets.registry.metadata import RecordingMetadata, RemoteFile
from neuro_assets.store.json_values import canonical
from neuro_assets.store.model import SESSION_PREFIX, now

State = Literal["ready", "not_ready", "vanished", "held"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class SessionInfo(_Record):
    """The session that a recording belongs to, as its source names it.

    Parameters
    ----------
    lab, subject : str
        As they are written at the source, not made safe.
    dataset : str
        In which the subject's label stands for one animal, where a label is all there is (BIDS).
    project : str
        Name of that project where `lab.yaml` declares it; else its folder tells it apart.
    date : date
        Day of the session.
    number : str
        Number of the day.
    date_guessed : bool
        Whether the date is that of a file, because nothing else says one.
    source : str
        Name of the source in `lab.yaml`.
    root, path : str
        Where its files are: a name under `LabConfig.roots`, and the path below that. The roots
        themselves are in `lab.yaml` only, so that a copied store does not point at the files of
        the original. Without a root (a folder named on the command line) the path is absolute.
    session_id : str
        The source's own name for it; stays when the folder moves, where the source can tell.
    """

    lab: str = ""
    subject: str
    dataset: str = ""
    project: str = ""
    date: date
    number: Annotated[str, BeforeValidator(str)]
    date_guessed: bool = False
    source: str = "local"
    root: str = ""
    path: str = ""
    session_id: str = ""

    @model_validator(mode="before")
    @classmethod
    def _was_absolute(cls, values: Any) -> Any:
        """Read records of store format 1: their folder was absolute and ended with the id."""
        if isinstance(values, dict) and values.get("folder") and "path" not in values:
            folder, below = str(values["folder"]), str(values.get("session_id") or "")
            is_below = bool(below) and folder.endswith(f"/{below}")
            root = values.get("source", "local") if is_below else ""
            return {**values, "root": root, "path": below if is_below else folder}
        return values

    @property
    def store_key(self) -> str:
        """Under which key outputs of the whole session stand in the store: `session-<hash>`."""
        own = self.session_id or self.place or f"{self.subject}/{self.date}/{self.number}"
        digest = hashlib.sha256(canonical([self.source, own])).hexdigest()
        return f"{SESSION_PREFIX}{digest[:16]}"

    @property
    def place(self) -> str:
        """Root and path, for people; empty where no files are known."""
        return f"{self.root}:{self.path}" if self.root else self.path

    def folder(self, roots: Mapping[str, str]) -> Path:
        """Give the session folder on this machine.

        Parameters
        ----------
        roots : mapping of str to str
            As in `LabConfig.roots`.

        Returns
        -------
        Path
            Absolute.

        Raises
        ------
        PermanentFailure
            When `lab.yaml` has no such root.
        """
        if not self.root:
            return Path(self.path)
        if self.root not in roots:
            raise PermanentFailure(
                f"lab.yaml names no source {self.root!r}: add it with the folder that holds "
                f"{self.path}"
            )
        return Path(roots[self.root], self.path)


class RawData(_Record):
    """Raw data of one modality.

    Parameters
    ----------
    item : RawRecording or RawFiles
        How to open them.
    version : str
        Changes when the data do.
    missing : tuple of str
        What they wait for; empty when complete.
    remote_files : tuple of RemoteFile
        Files that have to be fetched before they can be opened.
    lost : str
        Which of its files are gone, where the rest is as it was registered; empty without any.
    """

    item: RawRecording | RawFiles
    version: str
    missing: tuple[str, ...] = ()
    remote_files: tuple[RemoteFile, ...] = ()
    lost: str = ""


class RecordingRecord(_Record):
    """Everything that is known about one recording before anything was computed.

    Parameters
    ----------
    key : str
        Partition key.
    session : SessionInfo
        Its session.
    recording : RawRecording or None
        How to open it; None for a probe that is expected and has no raw data yet.
    expected : str
        Label under which a database expects it, before there is a recording.
    raw_version : str
        Version of the raw data; empty without any.
    modalities : dict of str to RawData
        What its session holds of the other raw modalities, by name.
    state : str
        `ready`, `not_ready` (still being copied), `vanished` (its files, or its session in the
        database, are gone), `held` (see `hold` and `conflict`).
    missing : list of str
        What is missing until it is ready.
    hold : str
        Why no run is started though the data are there: quality CRITICAL, two sessions with one
        name, ...; empty without a reason.
    conflict : str
        The same from its folder: names and files contradict each other, or another recording.
    content : str
        Of its samples, when they were complete; see `neuro_assets.formats.raw_versions.content_of`.
    unreadable : bool
        Whether it vanished though its files are there: they cannot be read.
    renamed_to : str
        The key that its recording has now; results made under this one stay.
    first_key : str
        The key that it had before a person renamed it; empty where it has it still. See `home`.
    renaming_to : str
        The key that it is being given, until all of that is done.
    alias_of : str
        The key that a person gave instead: this record is nothing but the name, which stays taken.
    waiting_since : datetime or None
        Since when it is not ready, UTC.
    requested : str or None
        Version of the raw data for which a run was asked for last.
    requested_at : datetime or None
        When that was, UTC.
    requested_by : str
        Who starts that run: the discovery sensor or the command line.
    request : int
        Number of the request; a run's key is `<key>:<request>`.
    version_alias : str
        What its source calls the raw version, where another source named it first.
    reported : str
        Version of the raw data that was reported last.
    problems : list of Problem
        What is odd about it, for people.
    eid, pid : str or None
        Alyx's ids of session and insertion.
    metadata : RecordingMetadata or None
        What the lab's database says of it.
    remote_files : tuple of RemoteFile
        Files that have to be fetched before the recording can be opened.
    source_token : str
        What the source last said of the raw data of the session, for a comparison later.
    aliases : list of str
        Other names under which it was known.
    first_seen, updated : datetime
        UTC.
    raw_history : list of dict
        Earlier raw versions: `version`, `until`.
    """

    key: str
    session: SessionInfo
    recording: RawRecording | None = None
    expected: str = ""
    raw_version: str = ""
    modalities: dict[str, RawData] = {}
    state: State = "ready"
    missing: list[str] = []
    hold: str = ""
    conflict: str = ""
    content: str = ""
    unreadable: bool = False
    renamed_to: str = ""
    first_key: str = ""
    renaming_to: str = ""
    alias_of: str = ""
    waiting_since: datetime | None = None
    requested: str | None = None
    requested_at: datetime | None = None
    requested_by: str = ""
    request: int = 0
    version_alias: str = ""
    reported: str = ""
    problems: list[Problem] = []
    eid: str | None = None
    pid: str | None = None
    metadata: RecordingMetadata | None = None
    remote_files: tuple[RemoteFile, ...] = ()
    source_token: str = ""
    aliases: list[str] = []
    first_seen: datetime = Field(default_factory=now)
    updated: datetime = Field(default_factory=now)
    raw_history: list[dict[str, Any]] = []

    @model_validator(mode="before")
    @classmethod
    def _was_named(cls, values: Any) -> Any:
        """Read the names of store format 1."""
        old = {"told": "reported", "known_as": "version_alias", "announced": "expected"}
        if isinstance(values, dict) and old.keys() & values.keys():
            return {old.get(name, name): value for name, value in values.items()}
        return values

    @property
    def home(self) -> str:
        """Key under which its outputs stand in the store, and its results in Alyx."""
        return self.first_key or self.key

    @property
    def identity(self) -> Identity | None:
        """What the recording says of itself; None before there are raw data."""
        return MODALITIES[RECORDING].identify(self.recording) if self.recording else None

    @property
    def label(self) -> str:
        """Probe and qualifier, unique within its session."""
        if self.recording is not None or self.expected:
            return self.recording.label if self.recording else self.expected
        key = RecordingKey.parse(self.key)
        return f"{key.probe}-{key.qualifier}" if key.qualifier else key.probe

    @property
    def raw(self) -> RawRecording:
        """How to open the raw data.

        Raises
        ------
        PermanentFailure
            When there are none yet.
        """
        if self.recording is None:
            waits = "; ".join(self.missing) or "not there"
            raise PermanentFailure(f"{self.key} has no raw data yet: {waits}")
        return self.recording

    def raw_data(self, modality: str) -> RawData | None:
        """Give what there is of a raw modality.

        Parameters
        ----------
        modality : str
            Its name.

        Returns
        -------
        RawData or None
            None without any.
        """
        if modality != RECORDING:
            return self.modalities.get(modality)
        if self.recording is None:
            return None
        return RawData(
            item=self.recording,
            version=self.raw_version,
            missing=tuple(self.missing),
            remote_files=self.remote_files,
        )

    @property
    def lost(self) -> str:
        """What its session lost of the other modalities, one line; empty without any."""
        return "; ".join(data.lost for data in self.modalities.values() if data.lost)

    @property
    def reason(self) -> str:
        """Why it is not ready, one line; empty when it is."""
        if self.state == "ready":
            return ""
        if self.state == "vanished" and self.missing:
            return "; ".join(self.missing)
        return self.hold or self.conflict or "; ".join(self.missing) or self.state.replace("_", " ")
