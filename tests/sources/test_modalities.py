"""A raw modality is one descriptor: a toy one goes from its scan to a step and to `status`."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta

import dagster as dg
import pandas as pd
import pytest
from labs import SmallLab
from spikeglx_files import write

from neuro_assets.assets.external_assets import external_assets
from neuro_assets.assets.runner import step_asset
from neuro_assets.assets.step import Need, step
from neuro_assets.cli.lab import Lab
from neuro_assets.formats.modalities import MODALITIES, RECORDING, Found, Modality, RawFiles
from neuro_assets.formats.model import Problem
from neuro_assets.outcomes import PermanentFailure
from neuro_assets.parameters.base import StepParameters
from neuro_assets.registry.records import SessionInfo
from neuro_assets.resources.io_managers import PARQUET, StoreResource, io_managers
from neuro_assets.science.result import StepResult
from neuro_assets.service.session_registration import register_folder, register_sessions
from neuro_assets.sources.folders.source import LocalSessionSource

KEY = "M1_20240512_1_probe00"
TEXT = """
sources: [{name: rig, path: data, settle_minutes: 0}]
store: {url: store}
"""


def scan(folder, listing, readers):
    files = [found for found in listing.files if found.path.endswith(".toy")]
    empty = tuple(
        Problem(kind="empty_file", path=found.path, detail="copy it again")
        for found in files
        if not found.size
    )
    if not files or empty:
        return Found(problems=empty)
    paths, sizes = tuple(f.path for f in files), tuple(f.size for f in files)
    return Found((RawFiles(format="toy", files=paths, sizes=sizes),))


def text_of(item, folder, **_):
    return "".join((folder / path).read_text() for path in item.files)


TOY = Modality(
    name="toy",
    description="Lines that a toy wrote.",
    kinds=frozenset({"text"}),
    scan=scan,
    identify=lambda item: item.sizes,
    version=lambda item, folder, use_file_hash=False: f"v-{text_of(item, folder)}",
    ready=lambda item, folder: () if text_of(item, folder).endswith("end") else ("no end yet",),
    files=lambda item: item.files,
    open=text_of,
    shown=lambda item: {"toy_files": len(item.files)},
)


class ToyParameters(StepParameters):
    step = "toy_length"
    algorithm_version = "1"


def toy_step():
    @step(
        name="toy_length", group="behavior", kinds={"parquet"}, needs=[Need("raw_toy")],
        parameters=ToyParameters(), io_manager_key=PARQUET,
    )  # fmt: skip
    def toy_length(step):
        """Length of what the toy wrote."""
        length = len(step.inputs["raw_toy"].open())
        return StepResult(tables={"toy_length": pd.DataFrame({"length": [length]})})

    return toy_length


@pytest.fixture
def lab(tmp_path, monkeypatch):
    monkeypatch.setitem(MODALITIES, "toy", TOY)
    write(tmp_path / "data/M1/a_g0_t0.imec0.ap.bin")
    (tmp_path / "data/M1/lines.toy").write_text("one end")
    return SmallLab(tmp_path, TEXT)


def tick(lab, now=None):
    source = LocalSessionSource(lab.folder / "data", name="rig", settle_s=0)
    return register_sessions(lab.registry, source.survey()[0], now=now)


def run(lab, name="toy_length"):
    assets = [*external_assets(), step_asset(toy_step(), lab.config)]
    resources = io_managers(StoreResource(lab.config.store), lab.config.roots)
    defs = dg.Definitions(
        assets=assets, resources=resources, jobs=[dg.define_asset_job("toys", [name])]
    )
    return defs.get_job_def("toys").execute_in_process(
        instance=lab.instance, partition_key=KEY, raise_on_error=False
    )


def register(lab):
    lab.instance.add_dynamic_partitions("session_probe", [KEY])
    found = register_folder(
        lab.folder, lab.config, lab.registry, lab.folder / "data/M1", use_hash=False
    )
    return found.keys


def test_a_toy_modality_is_found_versioned_and_opened_by_a_step(lab):
    assert register(lab) == [KEY]
    data = lab.registry.get(KEY).raw_data("toy")
    assert (data.version, data.missing) == ("v-one end", ())
    assert run(lab).success
    stored = lab.store.current("toy_length", KEY)
    assert stored.table("toy_length")["length"].tolist() == [7]
    assert {ref.asset: ref.version for ref in stored.manifest.inputs} == {"raw_toy": "v-one end"}


def test_its_version_is_reported_when_it_changes_and_only_then(lab):
    from neuro_assets.service.events import raw_events

    def reported(actions):
        return [
            (event.partition, event.tags["dagster/data_version"])
            for action in actions
            for event in raw_events(action)
            if event.asset_key == dg.AssetKey("raw_toy")
            and isinstance(event, dg.AssetMaterialization)
        ]

    assert reported(tick(lab)) == [(KEY, "v-one end")]
    (lab.folder / "data/M1/lines.toy").write_text("two end")
    assert reported(tick(lab)) == [(KEY, "v-two end")]
    # An hour on, nobody repeats what a killed tick may not have handed over.
    later = datetime.now(UTC) + timedelta(hours=2)
    assert reported(tick(lab, now=later)) == []


def test_what_it_waits_for_keeps_no_recording_waiting_and_is_shown(lab, capsys, monkeypatch):
    from neuro_assets.assets.inventory import inventory
    from neuro_assets.cli.status import _print_states

    (lab.folder / "data/M1/lines.toy").write_text("one")
    (action,) = tick(lab)
    assert action.record.state == "ready"
    assert action.record.modalities["toy"].missing == ("no end yet",)
    assert action.report_modalities == ()
    states = inventory(lab.store, lab.registry.all(), [toy_step()])
    _print_states(Lab(lab.folder / "lab.yaml", lab.config), lab.registry.all(), states)
    shown = capsys.readouterr().out
    assert "toy" in shown
    assert "no end yet" in shown


def test_a_changed_modality_makes_its_step_out_of_date(lab):
    from neuro_assets.assets.inventory import inventory

    register(lab)
    assert run(lab).success
    (lab.folder / "data/M1/lines.toy").write_text("two end")
    tick(lab)
    (state,) = inventory(lab.store, lab.registry.all(), [toy_step()])
    assert state.out_of_date == ("input: raw_toy",)


def test_a_broken_file_of_it_is_a_problem_of_the_session(lab):
    (lab.folder / "data/M1/lines.toy").write_text("")
    (action,) = tick(lab)
    assert [p.kind for p in action.record.problems] == ["empty_file"]
    assert action.record.modalities == {}


# --- where raw data are: a root of lab.yaml and a path below it ---------------------------------


def test_records_hold_no_absolute_path_and_a_moved_root_is_followed(lab):
    register(lab)
    record = lab.registry.get(KEY)
    assert str(lab.folder) not in record.model_dump_json()
    assert (record.session.root, record.session.path) == ("rig", "M1")
    shutil.move(lab.folder / "data", lab.folder / "moved")
    moved = lab.with_text(TEXT.replace("path: data", "path: moved"))
    folder = record.session.folder(moved.config.roots)
    assert MODALITIES[RECORDING].open(record.raw, folder)["ap"].recording.get_num_samples() == 300


def test_a_copied_store_does_not_delete_the_files_of_the_original(lab):
    from neuro_assets.registry.raw_deletion import deletable_files

    register(lab)
    with pytest.raises(PermanentFailure, match="names no source 'rig'"):
        lab.registry.get(KEY).session.folder({"other": "/"})
    outside = LocalSessionSource(lab.folder / "data/M1", bare_root=True).survey()[0][0]
    outside = outside.model_copy(update={"root": "", "path": "", "subject": "M9"})
    with pytest.raises(PermanentFailure, match="names no source 'rig'"):
        deletable_files(lab.store, lab.registry, KEY, {"other": "/"})
    shutil.rmtree(lab.folder / "store/registry")
    (action,) = register_sessions(lab.registry, [outside])
    assert action.record.session.path == str(lab.folder / "data/M1")
    with pytest.raises(PermanentFailure, match="below no source"):
        deletable_files(lab.store, lab.registry, action.record.key, lab.config.roots)


def test_records_of_the_first_format_are_read():
    old = {"subject": "M1", "date": "2024-05-12", "number": "1", "source": "rig"}
    below = SessionInfo.model_validate({**old, "folder": "/data/a/M1", "session_id": "a/M1"})
    assert (below.root, below.path) == ("rig", "a/M1")
    alyx = SessionInfo.model_validate({**old, "folder": "/data/a/M1", "session_id": "4f3c"})
    assert (alyx.root, alyx.path) == ("", "/data/a/M1")
