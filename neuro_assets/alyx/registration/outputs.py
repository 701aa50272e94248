"""What the store holds of one recording, as far as Alyx gets it: outcomes, criteria, versions.

What is made of it is in `target_state`. No server is called.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

from neuro_assets import __version__
from neuro_assets.alyx.registration.merge import own_prefix
from neuro_assets.checks.criteria import Verdict
from neuro_assets.outcomes import Outcome
from neuro_assets.store.judgement import judgement

if TYPE_CHECKING:
    from neuro_assets.store import Manifest, Store, Stored

CHECK_COLUMNS = {
    **dict.fromkeys(("asset", "criterion", "family"), "string"),
    "value": "double",
    "unit": "string",
    **dict.fromkeys(("warning", "fail", "critical"), "double"),
    "above": "bool",
    **dict.fromkeys(("verdict", "source"), "string"),
}
"""Columns of the table of checks, with their types."""


@dataclass(frozen=True)
class Output:
    """What there is of one asset of a recording.

    Parameters
    ----------
    asset : str
        Its name.
    stored : Stored or None
        The output that counts.
    failed : bool
        Whether the last try failed.
    """

    asset: str
    stored: Stored | None
    failed: bool = False

    @property
    def manifest(self) -> Manifest | None:
        """Of the output."""
        return self.stored.manifest if self.stored else None

    @property
    def state(self) -> str:
        """`complete`, `skipped: <reason>`, `failed` or `waiting`."""
        if self.failed:
            return Outcome.FAILED.value
        if self.stored is None:
            return Outcome.WAITING.value
        if self.stored.outcome is Outcome.SKIPPED:
            return f"{Outcome.SKIPPED.value}: {(self.stored.manifest.skip or {}).get('reason')}"
        return self.stored.outcome.value


def outputs_of(
    store: Store,
    key: str,
    assets: Iterable[str],
    inputs: Mapping[str, Any] | None = None,
) -> list[Output]:
    """Collect what there is of a recording.

    Parameters
    ----------
    store : Store
        The lab's store.
    key : str
        The recording.
    assets : iterable of str
        Assets of the job `process`; others are being made meanwhile.
    inputs : mapping, optional
        Outputs that a step was given; else those that count now.

    Returns
    -------
    list of Output
        In the order of the assets.
    """
    from neuro_assets.store import Stored

    outputs = []
    for asset in assets:
        found = store.current(asset, key) if inputs is None else inputs.get(asset)
        stored = found if isinstance(found, Stored) else None
        outputs.append(Output(asset, stored, store.failure(asset, key) is not None))
    return outputs


def judged(outputs: Iterable[Output]) -> list[dict[str, Any]]:
    """List the criteria of all complete outputs, with their verdicts.

    Parameters
    ----------
    outputs : iterable of Output
        The outputs.

    Returns
    -------
    list of dict
        With `CHECK_COLUMNS`.
    """
    rows = []
    for each in outputs:
        if each.stored is None or not is_complete(each):
            continue
        for check in judgement(each.stored):
            row = {name: check.get(name) for name in CHECK_COLUMNS}
            rows.append(row | {"asset": each.asset, "criterion": check["metric"]})
    return rows


def is_complete(output: Output) -> bool:
    """Whether there is an output with content, be it of an earlier try."""
    return output.stored is not None and output.stored.outcome is Outcome.COMPLETE


def worst(rows: Iterable[Mapping[str, Any]]) -> Verdict:
    """Give the worst verdict; NOT_SET where nothing was judged."""
    return max((Verdict[row["verdict"]] for row in rows), default=Verdict.NOT_SET)


def extended_qc(label: str, outputs: Iterable[Output]) -> dict[str, Any]:
    """Make our keys of `extended_qc`.

    Parameters
    ----------
    label : str
        Probe and qualifier.
    outputs : iterable of Output
        The outputs.

    Returns
    -------
    dict
        For each check `_neuroassets_<label>_<asset>_<family>` its verdict, and for each criterion
        `_neuroassets_<label>_<asset>_<metric>` its value, so that sessions can be listed by both.
    """
    prefix, keys = own_prefix(label), {}
    families: dict[str, list[dict[str, Any]]] = {}
    for row in judged(outputs):
        families.setdefault(f"{prefix}{row['asset']}_{row['family']}", []).append(row)
        if row["value"] is not None and isfinite(row["value"]):
            # Six digits, as everywhere: the exact number is in the table of checks.
            keys[f"{prefix}{row['asset']}_{row['criterion']}"] = float(f"{row['value']:.6g}")
    return keys | {name: worst(rows).name for name, rows in families.items()}


def newest_of(outputs: Iterable[Output]) -> Manifest | None:
    """Give the manifest of the output that was made last."""
    manifests = [each.manifest for each in outputs if each.manifest is not None]
    return max(manifests, key=lambda manifest: manifest.started, default=None)


def version_of_package(outputs: Iterable[Output]) -> str:
    """Tell the version of this package that made the outputs, the newest one's.

    Not the one that is installed now: after an update nothing was made again, and nothing has to
    be registered again.
    """
    newest = newest_of(outputs)
    return newest.packages.get("neuro-assets", __version__) if newest else __version__
