"""What a source says of sessions, as plain data: what goes between sources and registry."""

from __future__ import annotations

from datetime import date

from neuro_assets.formats.model import Dataset, Frozen, Problem, RawFiles, RawRecording
from neuro_assets.registry.metadata import RecordingMetadata, RemoteFile, SubjectMetadata


class SessionDescription(Frozen):
    """One session as its source sees it now.

    Parameters
    ----------
    lab, subject : str
        As they are written at the source, not made safe.
    dataset : str
        In which the subject's label stands for one animal, where a label is all there is (BIDS).
    project : str
        Name of that project where `lab.yaml` declares it.
    date : datetime.date
        Day of the session.
    number : str
        Number of the day, as written (`001`).
    date_guessed : bool
        Whether nothing says the date, and it is taken from a file's time.
    session_id : str
        The source's own name for the session: the path below the root for folders, the eid for
        Alyx.
    source : str
        Name of the source.
    folder : str
        Absolute path of the session folder on this machine.
    root, path : str
        Where it is, as the registry keeps it: a name under `LabConfig.roots` and the path below
        that; without a root, `folder` itself.
    recordings : tuple of RawRecording
        Recordings that were found, with distinct labels.
    modalities : dict of str to RawFiles
        What the session holds of the other raw modalities, by name.
    datasets : tuple of Dataset
        Every file, with its size and, where known, its hash.
    ready : bool
        Whether all of it is complete: declared so (the flag), or nothing has changed for the
        settle time and everything agrees.
    missing : tuple of str
        What is waited for, one line each; empty when ready.
    settled : bool
        Whether nothing has changed for the settle time.
    waiting : dict of str to tuple of str
        By recording label, or name of a modality, what that waits for.
    problems : tuple of Problem
        What is there and is no recording, and why.
    eid : str or None
        Alyx's id of the session, where known.
    pids : dict of str to str
        Alyx's ids of the insertions, by probe name.
    expected : dict of str to tuple of str
        Probes that the source expects and that are no recording yet, with what each waits for.
    serials : dict of str to str
        Serial numbers that the source has for its probes, by probe name.
    versions : dict of str to str
        Versions of the raw data by recording label or modality, where the source has hashes of
        the files; without one it is made from the files themselves.
    remote_files : dict of str to tuple of RemoteFile
        By recording label or modality, files that have to be fetched before it can be opened.
    metadata : dict of str to RecordingMetadata
        What a database says, by probe name.
    hold : str
        Why nothing of this session may be processed though it is there (a database says so, or
        names and files contradict each other); empty without a reason.
    holds : dict of str to str
        The same for single probes, by probe name.
    source_token : str
        What the source says of the raw data now; compared by `reconcile`.
    """

    lab: str = ""
    subject: str
    dataset: str = ""
    project: str = ""
    date: date
    number: str
    date_guessed: bool = False
    session_id: str
    source: str
    folder: str
    root: str = ""
    path: str = ""
    recordings: tuple[RawRecording, ...] = ()
    modalities: dict[str, RawFiles] = {}
    datasets: tuple[Dataset, ...] = ()
    ready: bool
    missing: tuple[str, ...] = ()
    settled: bool = True
    waiting: dict[str, tuple[str, ...]] = {}
    problems: tuple[Problem, ...] = ()
    eid: str | None = None
    pids: dict[str, str] = {}
    expected: dict[str, tuple[str, ...]] = {}
    serials: dict[str, str] = {}
    versions: dict[str, str] = {}
    remote_files: dict[str, tuple[RemoteFile, ...]] = {}
    metadata: dict[str, RecordingMetadata] = {}
    hold: str = ""
    holds: dict[str, str] = {}
    source_token: str = ""

    def is_ready(self, recording: RawRecording) -> bool:
        """Tell whether one recording may be processed, whatever another one waits for.

        Parameters
        ----------
        recording : RawRecording
            One of `recordings`.

        Returns
        -------
        bool
            True when the session is ready, or has settled and this recording is complete.
        """
        return self.ready or (self.settled and not self.waiting.get(recording.label))

    def missing_of(self, recording: RawRecording) -> tuple[str, ...]:
        """Say what one recording waits for.

        Parameters
        ----------
        recording : RawRecording
            One of `recordings`.

        Returns
        -------
        tuple of str
            Empty when it is ready.
        """
        if self.is_ready(recording):
            return ()
        own = self.waiting.get(recording.label, ())
        # While files still change, that is what every recording of the session waits for.
        return own if self.settled else tuple(dict.fromkeys((*self.missing, *own)))


class Changes(Frozen):
    """What changed at a source since a cursor.

    Parameters
    ----------
    seen : tuple of str
        Ids of the sessions that were looked at: all that are there for a source that lists
        everything each time, those that moved for one that asks for changes.
    changed : tuple of SessionDescription
        Sessions that are new, changed, or became ready.
    vanished : tuple of str
        Ids of sessions that were there and are not any more.
    excluded : dict of str to str
        Sessions that the lab does not want (another project, a trial run), with the reason.
    not_ready : tuple of str
        Ids of sessions that still wait for something.
    problems : tuple of Problem
        Places that could not be read; sessions below them are neither seen nor vanished.
    cursor : str
        Give it back next time. Keeping an older one repeats work and loses nothing.
    complete : bool
        False when a limit left changed sessions for the next call.
    """

    seen: tuple[str, ...] = ()
    changed: tuple[SessionDescription, ...] = ()
    vanished: tuple[str, ...] = ()
    excluded: dict[str, str] = {}
    not_ready: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    cursor: str
    complete: bool = True


class Known(Frozen):
    """What the registry has of one session, for a comparison with its source.

    Parameters
    ----------
    row_token : str
        Token of what the source's list of sessions shows.
    source_token : str
        Token of its raw data, as in `SessionDescription`.
    qc : str
        Quality on Alyx's scale.
    waits : bool
        Whether one of its recordings is not ready, or held.
    gone : bool
        Whether all of its recordings vanished.
    pids : frozenset of str
        Insertions of its recordings.
    subject : SubjectMetadata or None
        Its animal.
    """

    row_token: str = ""
    source_token: str = ""
    qc: str = ""
    waits: bool = False
    gone: bool = False
    pids: frozenset[str] = frozenset()
    subject: SubjectMetadata | None = None


class Reconciliation(Frozen):
    """Outcome of a full comparison.

    Parameters
    ----------
    recheck : dict of str to str
        Ids of sessions to look at again, with the reason for each.
    n_listed : int
        Sessions that the source has.
    cursor : str
        Give it back next time.
    """

    recheck: dict[str, str] = {}
    n_listed: int = 0
    cursor: str = ""
