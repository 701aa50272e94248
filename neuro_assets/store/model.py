"""What the store writes down about an output, as plain data: manifest, pointers, version, names.

Nothing here touches a file; reading and writing is the business of `neuro_assets.store.store`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from neuro_assets.outcomes import Outcome, PermanentFailure
from neuro_assets.store.json_values import canonical, jsonable, of_strings, pretty

MANIFEST = "manifest.json"
"""Written last into an attempt: a folder without it does not exist for any reader."""

CURRENT, FAILURE = "current.json", "failure.json"
"""Pointers of an asset and key: to the attempt that counts, and to the last failure."""

RENAMED = "renamed.json"
"""In the place of the pointers of a key that a person renamed: its outputs count for another."""

WHOLE_LAB = "lab"
"""Key of an output that is made once for all recordings (a cohort table)."""

SESSION_PREFIX = "session-"
"""Begin of the keys of outputs that are made once for all recordings of a session."""

_CHECKSUM = "checksum"
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
_MOST_CHARACTERS = 200


def checked_name(name: str, what: str) -> str:
    """Refuse anything that is not safe as one folder name of the store.

    Parameters
    ----------
    name : str
        An asset, key, version, attempt, run or table name.
    what : str
        Which of them, for the message.

    Returns
    -------
    str
        The same name.

    Raises
    ------
    PermanentFailure
        When it could leave its folder, hide itself, or be too long for a file system.
    """
    if is_safe_name(name):
        return name
    raise PermanentFailure(
        f"{name[:80]!r} is not a safe {what}: letters, digits, '_', '.' and '-' only, no leading "
        f"'.', no '..', at most {_MOST_CHARACTERS} characters "
        "(neuro_assets.recording_key.safe_name makes one)"
    )


def is_safe_name(name: str) -> bool:
    """Tell whether `checked_name` takes a name.

    Parameters
    ----------
    name : str
        As found in the store.

    Returns
    -------
    bool
        False for what the store never made.
    """
    fits = len(name) <= _MOST_CHARACTERS and ".." not in name
    return fits and _NAME.fullmatch(name) is not None


def checked_path(path: str) -> str:
    """Refuse a path that is not plainly inside the folder that it is relative to.

    Parameters
    ----------
    path : str
        Relative path with `/`.

    Returns
    -------
    str
        The same path.

    Raises
    ------
    ValueError
        When it is empty, absolute, or not in its shortest form.
    """
    pure = PurePosixPath(path)
    if not path or pure.is_absolute() or ".." in pure.parts or str(pure) != path or path == ".":
        raise ValueError(f"{path!r} is not a path inside an output")
    if "\0" in path or "\\" in path:
        raise ValueError(f"{path!r} holds a character that not every store can keep")
    return path


def now() -> datetime:
    """Tell the time, in UTC."""
    return datetime.now(UTC)


Plain = BeforeValidator(jsonable)
RelativePath = Annotated[str, AfterValidator(checked_path)]


def _named(name: str) -> str:
    """Refuse, as a value, what `checked_name` refuses."""
    if is_safe_name(name):
        return name
    raise ValueError(f"{name[:80]!r} is no name of the store")


class _Record(BaseModel):
    """Immutable; a field that a newer release added is ignored, so that old readers go on."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class FileEntry(_Record):
    """One file of an output.

    Parameters
    ----------
    path : str
        Relative to the attempt's folder, with `/`.
    size : int
        Bytes.
    sha256 : str
        Checksum, 64 hexadecimal digits.
    """

    path: RelativePath
    size: int = Field(ge=0)
    sha256: str


class InputRef(_Record):
    """Which output exactly a step read.

    Parameters
    ----------
    asset : str
        Name of the asset.
    version : str
        Its version; for `raw_recording` the version of the raw data; empty where it was missing.
    attempt : str
        Its attempt; empty for raw data.
    digest : str
        Digest of its content, which is what counts; empty where it was missing.
    """

    asset: str
    version: str
    attempt: str = ""
    digest: str = ""


class Manifest(_Record):
    """Everything that is known about one output of one recording.

    Parameters
    ----------
    asset, key, version, attempt : str
        Where it stands in the store. `attempt` is filled in at commit.
    outcome : Outcome
        `complete`, `skipped` or `failed`.
    code_version : str
        `<algorithm version>-<hash of parameters>`.
    parameters : dict
        All of them, resolved.
    applied : list of dict
        The processing steps really applied, in order.
    inputs : list of InputRef
        What was read.
    inputs_missing : list of str
        Assets that the step could do without, and did.
    packages : dict
        Name to version.
    clock : str
        Which clock the times in it are on.
    metrics : dict
        Flat numbers; NaN is kept as null.
    started : datetime
        UTC.
    duration_s : float
        Seconds from start to commit, the writing included.
    peak_memory_bytes : int or None
        Largest resident memory of the process during the step.
    run_id : str or None
        Dagster's run.
    skip : dict or None
        `reason`, `detail`, `origin`.
    error : dict or None
        `type`, `message`.
    criteria : str
        Version of the criteria by which `checks` were judged.
    checks : list of dict
        Quality criteria with values and verdicts; see also `neuro_assets.store.judgement`.
    files : list of FileEntry
        Filled in at commit.
    digest : str
        Of the content, see `neuro_assets.store.digest`. Filled in at commit.
    turn : int
        The run's turn for this key: of two outputs the one of the higher turn counts.
    repeatable : bool
        Whether the same inputs would give the same content again.
    stored_in : str
        Where its files are, where that is another folder of the store: an output of an older
        format is adopted in place.
    extra : dict
        Anything else that an asset wants to be found again.
    """

    asset: str
    key: str
    version: str
    attempt: str = ""
    outcome: Outcome
    code_version: str = ""
    parameters: Annotated[dict[str, Any], Plain] = {}
    applied: Annotated[list[dict[str, Any]], Plain] = []
    inputs: list[InputRef] = []
    inputs_missing: list[str] = []
    packages: dict[str, str] = {}
    clock: str = ""
    metrics: Annotated[dict[str, Any], Plain] = {}
    started: datetime = Field(default_factory=now)
    duration_s: float = 0.0
    peak_memory_bytes: int | None = None
    run_id: str | None = None
    skip: Annotated[dict[str, Any] | None, Plain] = None
    error: Annotated[dict[str, Any] | None, Plain] = None
    criteria: str = ""
    checks: Annotated[list[dict[str, Any]], Plain] = []
    files: list[FileEntry] = []
    digest: str = ""
    turn: int = 0
    repeatable: bool = True
    stored_in: str = ""
    extra: Annotated[dict[str, Any], Plain] = {}

    @property
    def ref(self) -> InputRef:
        """How another manifest names this output as its input."""
        return InputRef(
            asset=self.asset, version=self.version, attempt=self.attempt, digest=self.digest
        )

    @property
    def size_bytes(self) -> int:
        """Sum over the files."""
        return sum(entry.size for entry in self.files)

    def to_json(self) -> bytes:
        """Render as indented JSON with a checksum of itself, for the file that people may open."""
        content = self.model_dump(mode="json")
        return pretty({**content, _CHECKSUM: hashlib.sha256(canonical(content)).hexdigest()})


def is_sealed(content: dict[str, Any]) -> bool:
    """Tell whether a manifest's JSON is as `Manifest.to_json` wrote it.

    Parameters
    ----------
    content : dict
        The parsed file.

    Returns
    -------
    bool
        True also for a manifest of store format 1, which holds no checksum.
    """
    values = {name: value for name, value in content.items() if name != _CHECKSUM}
    sealed = content.get(_CHECKSUM)
    return sealed is None or sealed == hashlib.sha256(canonical(values)).hexdigest()


class Pointer(_Record):
    """Content of `current.json`, `failure.json` and the runs' pointers: which attempt counts.

    Parameters
    ----------
    version, attempt : str
        The attempt pointed at.
    outcome : Outcome
        Its outcome, so that a status page reads no manifest.
    digest, turn : str, int
        Of its manifest.
    key : str
        Under which key the attempt stands, where that is not the pointer's own: the session's, or
        the first one of a recording that was renamed.
    owner : str
        `<asset>/<key>` that it was written for; empty in pointers of older releases.
    at : datetime
        When the pointer was written, UTC.
    """

    version: Annotated[str, AfterValidator(_named)]
    attempt: Annotated[str, AfterValidator(_named)]
    outcome: Outcome
    digest: str = ""
    turn: int = 0
    key: str = ""
    owner: str = ""
    at: datetime = Field(default_factory=now)

    def to_json(self) -> bytes:
        """Render as JSON."""
        return pretty(self.model_dump(mode="json"))


def version_of(
    asset: str,
    algorithm_version: str,
    configuration: Mapping[str, Any] | bytes,
    inputs: Sequence[InputRef],
    packages: Mapping[str, str] | bytes | None = None,
    *,
    key: str = "",
) -> str:
    """Hash what an output is made of.

    Parameters
    ----------
    asset : str
        Name of the asset.
    algorithm_version : str
        Version of its algorithm.
    configuration : mapping or bytes
        Every configuration value that it reads, resolved; the order does not matter. Or its
        canonical JSON.
    inputs : sequence of InputRef
        What it reads. The digests of the contents count, versions and attempts do not: the same
        content made again changes nothing. A missing input is left out or has an empty digest;
        both give the same hash, and another one than with the input.
    packages : mapping of str to str or bytes, optional
        Releases of the packages that can change the result. Or their canonical JSON.
    key : str, optional
        For outputs whose content depends on the key itself; empty where keys share the result.

    Returns
    -------
    str
        The first 16 hexadecimal digits of a SHA-256.
    """
    used = sorted([ref.asset, ref.digest] for ref in inputs if ref.digest)
    # The canonical JSON piece by piece: a caller with very many keys has rendered what they share.
    text = b'{"algorithm":%b,"asset":%b,"configuration":%b,"inputs":%b,"key":%b,"packages":%b}' % (
        of_strings(algorithm_version),
        of_strings(asset),
        _rendered(configuration),
        of_strings(used),
        of_strings(key),
        _rendered(packages or {}),
    )
    return hashlib.sha256(text).hexdigest()[:16]


def _rendered(part: Mapping[str, Any] | bytes) -> bytes:
    return part if isinstance(part, bytes) else canonical(part)
