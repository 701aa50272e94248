"""What Alyx should hold of one recording, from what the store holds of it. No server is called.

All of it depends on the stored outputs only (no clock, no run), so that comparing twice gives the
same and nothing is sent twice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuro_assets import __version__
from neuro_assets.alyx.registration.model import (
    TASK_PREFIX,
    OutgoingFile,
    TargetState,
    TaskState,
)
from neuro_assets.alyx.registration.outputs import (
    CHECK_COLUMNS,
    Output,
    extended_qc,
    is_complete,
    judged,
    newest_of,
    version_of_package,
    worst,
)
from neuro_assets.alyx.registration.repository import md5_of
from neuro_assets.checks.criteria import Verdict
from neuro_assets.outcomes import PermanentFailure
from neuro_assets.recording_key import RecordingKey

if TYPE_CHECKING:
    from neuro_assets.config import AlyxConfig
    from neuro_assets.parameters.alyx_registration import AlyxRegistrationParameters
    from neuro_assets.registry.registry import RecordingRecord

PROCESS = "process"
UNITS = "units"

UNITS_FILE = "clusters.table.pqt"
"""ONE's name for units is `clusters`, and its loader spreads the columns of an attribute called
`table` over the object: `one.load_object(eid, 'clusters', collection=...)` gives one field for
each column. `.pqt` is the only ending that Alyx takes for parquet."""

CHECKS_FILE = "_neuroassets_checks.table.pqt"
"""With a namespace, since `checks` is our own object and not one of ONE's."""


def target_state(
    record: RecordingRecord,
    config: AlyxConfig,
    parameters: AlyxRegistrationParameters,
    outputs: Sequence[Output],
    folder: Path,
    today: date | None = None,
) -> TargetState:
    """Make what Alyx should hold of a recording.

    Parameters
    ----------
    record : RecordingRecord
        With `eid`, and `pid` where there is an insertion.
    config : AlyxConfig
        For repository and links.
    parameters : AlyxRegistrationParameters
        What is registered.
    outputs : sequence of Output
        See `outputs_of`.
    folder : Path
        Empty folder for files that are made here.
    today : date, optional
        For the names of revisions; the present day, UTC, by default.

    Returns
    -------
    TargetState
        The same for the same outputs.

    Raises
    ------
    PermanentFailure
        The recording is not in Alyx.
    """
    if record.eid is None:
        raise PermanentFailure(
            f"{record.key} has no session in Alyx, as far as this platform knows: it is found "
            "when the session is created there and the sensors look again"
        )
    label = label_of(record.home)
    qc = worst(judged(outputs)) if parameters.aggregate_qc else Verdict.NOT_SET
    return TargetState(
        key=record.key,
        label=label,
        eid=record.eid,
        pid=record.pid,
        repository=config.write_repository or "",
        files=tuple(_files(record, outputs, parameters.collection, folder)),
        qc=qc.name,
        extended_qc=extended_qc(label, outputs) if parameters.extended_qc else {},
        summary=_summary(outputs),
        task=task_of(record.home, outputs, config),
        today=today or datetime.now(UTC).date(),
    )


def label_of(key: str) -> str:
    """Give probe and qualifier of a recording.

    Parameters
    ----------
    key : str
        Partition key.

    Returns
    -------
    str
        `probe00`, or `probe00-g1`.
    """
    parsed = RecordingKey.parse(key)
    return f"{parsed.probe}-{parsed.qualifier}" if parsed.qualifier else parsed.probe


def _files(
    record: RecordingRecord, outputs: Sequence[Output], name: str, folder: Path
) -> list[OutgoingFile]:
    """Choose the files that are registered: the units' table, and the table of all criteria."""
    collection, rows = _collection(record, name), judged(outputs)
    files = []
    units = next((each for each in outputs if each.asset == UNITS and is_complete(each)), None)
    if units is not None and units.stored is not None:
        behind = {ref.asset for ref in units.stored.manifest.inputs} | {UNITS}
        qc = worst(row for row in rows if row["asset"] in behind).name
        path = units.stored.local() / "units.parquet"
        files.append(_outgoing(collection, UNITS_FILE, path, version_of_package([units]), qc))
    if rows:
        path = folder / CHECKS_FILE
        _write_checks(rows, path)
        version = version_of_package(outputs)
        files.append(_outgoing(collection, CHECKS_FILE, path, version, "NOT_SET"))
    return files


def _collection(record: RecordingRecord, name: str) -> str:
    """`alf/<insertion>/neuro_assets`: Alyx links datasets to the insertion that is named there."""
    parsed = RecordingKey.parse(record.home)
    insertion = record.metadata.insertion if record.metadata else None
    named = insertion is not None and re.fullmatch(r"[A-Za-z0-9_-]+", insertion.name)
    probe = named[0] if named else parsed.probe
    # Two recordings of one probe in one session are two collections.
    return f"alf/{probe}/{name}" + (f"_{parsed.qualifier}" if parsed.qualifier else "")


def _outgoing(collection: str, name: str, path: Path, version: str, qc: str) -> OutgoingFile:
    return OutgoingFile(
        collection=collection,
        name=name,
        source=path,
        size=path.stat().st_size,
        md5=md5_of(path),
        version=version,
        qc=qc,
    )


def _write_checks(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write the same bytes for the same rows: another hash would be another revision."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    # ONE's loader fails where a parquet file has no metadata at all.
    schema = pa.schema(
        [(name, pa.type_for_alias(kind)) for name, kind in CHECK_COLUMNS.items()],
        metadata={"one_metadata": "{}"},
    )
    table = pa.Table.from_pylist(list(rows), schema=schema)
    pq.write_table(table, path, compression="zstd")


def _summary(outputs: Sequence[Output]) -> dict[str, Any]:
    if not any(each.stored or each.failed for each in outputs):
        return {}
    return {
        "version": version_of_package(outputs),
        "outputs": {each.asset: each.state for each in outputs},
    }


def task_of(key: str, outputs: Sequence[Output], config: AlyxConfig) -> TaskState | None:
    """Give the state of the processing of a recording.

    Parameters
    ----------
    key : str
        The recording.
    outputs : sequence of Output
        Its outputs.
    config : AlyxConfig
        For links.

    Returns
    -------
    TaskState or None
        `Complete` where every output is made or rightly skipped; `Errored` where something failed
        and nothing was made; else `Incomplete`. None before anything was tried.
    """
    if not any(each.stored or each.failed for each in outputs):
        return None
    ended = all(each.stored is not None and not each.failed for each in outputs)
    useless = any(each.failed for each in outputs) and not any(
        is_complete(each) for each in outputs
    )
    status = "Complete" if ended else "Errored" if useless else "Incomplete"
    newest = newest_of(outputs)
    run_id = newest.run_id if newest else None
    return task_state(key, status, config, version=version_of_package(outputs), run_id=run_id)


def task_state(
    key: str,
    status: str,
    config: AlyxConfig,
    *,
    version: str = __version__,
    run_id: str | None = None,
    job: str = PROCESS,
) -> TaskState:
    """Name the task of a recording and a job.

    Parameters
    ----------
    key : str
        The recording.
    status : str
        One of Alyx's.
    config : AlyxConfig
        With `dagster_url`, for the link.
    version : str
        Of this package.
    run_id : str, optional
        Dagster's run.
    job : str
        The job.

    Returns
    -------
    TaskState
        `neuro_assets_process_probe00`.
    """
    label = label_of(key)
    link = (
        f"{config.dagster_url.rstrip('/')}/runs/{run_id}" if config.dagster_url and run_id else None
    )
    return TaskState(
        name=f"{TASK_PREFIX}{job}_{label}", status=status, version=version, log=link, label=label
    )
