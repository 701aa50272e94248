"""The asset `lab_configuration`: which `lab.yaml` is in force, shown in the browser."""

from __future__ import annotations

import dagster as dg

from neuro_assets.executors.frozen_config import ConfigText

LAB_CONFIGURATION = "lab_configuration"


def lab_configuration(loaded: ConfigText) -> dg.AssetSpec:
    """Describe the configuration that was loaded, and what its latest change was.

    Parameters
    ----------
    loaded : ConfigText
        What is in force in this process.

    Returns
    -------
    AssetSpec
        Nothing computes it; its metadata are those of the load.
    """
    columns = [dg.TableColumn(name) for name in ("field", "old", "new")]
    changes = dg.MetadataValue.table(
        [dg.TableRecord(change) for change in loaded.changes], schema=dg.TableSchema(columns)
    )
    return dg.AssetSpec(
        LAB_CONFIGURATION,
        description="The `lab.yaml` in force: new runs use it, runs in progress and their retries "
        "keep the one that they began with.",
        group_name="lab",
        kinds={"yaml"},
        metadata={
            "loaded_at": loaded.loaded_at or "-",
            "refused": loaded.error or "no",
            "latest_change_at": loaded.changed_at or "-",
            "latest_change": changes,
            "lab_yaml": dg.MetadataValue.md(f"```yaml\n{loaded.text}\n```"),
        },
    )
