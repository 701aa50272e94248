"""A store of format 1 (`data/first_format.tar.xz`) is taken over in place.

It holds one small recording, processed and published by that release: complete and skipped
outputs, one version made twice, and a failure that is newer than its output.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from neuro_assets.assets.adopt_outputs import adopt_outputs
from neuro_assets.assets.catalog import all_steps
from neuro_assets.assets.inventory import OutputState, inventory
from neuro_assets.cli import app
from neuro_assets.config import LabConfig, parse_config
from neuro_assets.outcomes import PermanentFailure
from neuro_assets.registry.adopt_records import adopt_records
from neuro_assets.registry.registry import Registry
from neuro_assets.store import Store
from neuro_assets.store.local import LocalBackend
from neuro_assets.store.model import CURRENT
from neuro_assets.store.opening import open_store
from neuro_assets.store.store_identity import read_identity

DATA = Path(__file__).parent / "data" / "first_format.tar.xz"
KEY = "SIM-001_20250115_1_probe00"
LAB = """
lab: oldlab
store: {url: store}
steps:
  bad_channels: {set: demo}
  compressed_recording: {parameters: {level: 5}}  # what it was made with
sorters:
  - {name: tridesclous2, set: default}
"""


@pytest.fixture
def config(tmp_path: Path) -> LabConfig:
    with tarfile.open(DATA) as file:
        file.extractall(tmp_path, filter="data")
    return parse_config(LAB, base=tmp_path)


def committed(store: Store) -> dict[str, bytes]:
    """Every file of every attempt that was committed in format 1."""
    root = store.backend.local_root
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and len(path.relative_to(root).parts) > 4
    }


def upgrade(config: LabConfig) -> tuple[Store, int]:
    store = open_store(config.store, create=False, any_format=True)
    adopted = adopt_outputs(store, all_steps(config), lambda message: None)
    assert adopted.problems == []
    adopt_records(Registry(store))
    return open_store(config.store, create=False), adopted.n_outputs


SINCE = {"compressed_auxiliary"}
"""Steps that format 1 did not have."""


def states(config: LabConfig, store: Store) -> dict[str, OutputState]:
    found = inventory(store, {KEY: Registry(store).all()[KEY]}, all_steps(config))
    return {state.asset: state for state in found if state.asset not in SINCE}


def newer_algorithms(config: LabConfig) -> set[str]:
    return {step.name for step in all_steps(config) if step.parameters.algorithm_version != "1"}


def unexpected(config: LabConfig, found: dict[str, OutputState]) -> dict[str, tuple[str, ...]]:
    """Reasons to make outputs again, but for newer algorithms and what hangs on theirs."""
    return {
        name: state.out_of_date
        for name, state in found.items()
        if name not in newer_algorithms(config)
        and not all(why.startswith("through: ") for why in state.out_of_date)
    }


def test_everything_counts_as_before_and_nothing_is_copied_or_computed(config):
    before = committed(Store(config.store.url))
    store, n_outputs = upgrade(config)
    assert n_outputs == 10
    after = committed(store)
    assert {name: after[name] for name in before} == before, "what was committed is untouched"
    assert {Path(name).name for name in after.keys() - before.keys()} <= {"manifest.json"}
    found = states(config, store)
    assert {name: state.outcome.value for name, state in found.items()} == {
        "compressed_recording": "complete", "bad_channels": "complete",
        "recording_quality": "complete", "motion": "skipped", "sorting_tridesclous2": "skipped",
        "analyzer_tridesclous2": "skipped", "unit_quality_tridesclous2": "skipped",
        "units": "skipped", "lfp": "complete", "nwb": "complete",
    }  # fmt: skip
    # What failed is to be tried again, since recording_quality, which it needs now, is to be made.
    assert store.failure("lfp", KEY) is not None, "the failure of before is still known"
    reasons = {name: state.out_of_date for name, state in found.items() if state.out_of_date}
    newer = newer_algorithms(config)
    by_code = {n for n, why in reasons.items() if any(w.startswith("code: 1 to ") for w in why)}
    assert by_code == newer
    assert unexpected(config, found) == {}, "nothing is out of date that was not"
    for step in all_steps(config):
        if step.name in newer | SINCE:
            continue
        stored = found[step.name].stored
        version = step.version(stored.manifest.inputs, KEY, Registry(store).get(KEY))
        assert version == stored.version, "nothing is made again"


def test_the_adopted_outputs_open_and_are_found_by_their_new_version(config):
    store, _ = upgrade(config)
    for name, state in states(config, store).items():
        stored = state.stored
        assert stored.manifest.digest and stored.manifest.stored_in, name
        assert store.committed(name, KEY, stored.version) == stored
        stored.check()
    table = store.current("bad_channels", KEY).table("channels")
    assert len(table) == 8
    assert (store.current("compressed_recording", KEY).local() / "ap.zarr").is_dir()


def test_a_second_upgrade_changes_nothing(config):
    store, _ = upgrade(config)
    before = committed(store)
    _, n_outputs = upgrade(config)
    assert n_outputs == 0
    assert committed(store) == before


def command(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(arguments))
    return done.exit_code, " ".join(done.output.split())


def test_the_command_names_what_it_cannot_adopt_and_goes_on_when_it_is_mended(
    config, tmp_path, monkeypatch
):
    (tmp_path / "lab.yaml").write_text(LAB)
    monkeypatch.setenv("NEURO_ASSETS_LAB", str(tmp_path))
    assert isinstance(CliRunner().invoke(app, ["status"]).exception, PermanentFailure)
    lfp = Store(config.store.url).read_pointer("lfp", KEY, CURRENT)
    manifest = tmp_path / f"store/lfp/{KEY}/{lfp.version}/{lfp.attempt}/manifest.json"
    kept = manifest.read_bytes()
    manifest.write_text("{ damaged")
    code, text = command("upgrade-store")
    assert code == 1
    assert "not adopted" in text and f"lfp/{KEY}" in text
    manifest.write_bytes(kept)
    code, text = command("upgrade-store")
    assert code == 0
    assert "not adopted" not in text
    assert command("upgrade-store") == (0, "0 outputs and 0 recordings adopted.")
    store = open_store(config.store, create=False)
    found = states(config, store)
    assert unexpected(config, found) == {}
    assert store.failure("lfp", KEY) is not None, "the failure of before is still known"


def test_a_killed_upgrade_leaves_an_old_store_that_is_upgraded_again(config, monkeypatch):
    class Killed(BaseException):
        pass

    real = LocalBackend.write

    def kill(self, path, data):
        if path == f"registry/{KEY}.json":
            raise Killed
        real(self, path, data)

    with monkeypatch.context() as patch:
        patch.setattr(LocalBackend, "write", kill)
        with pytest.raises(Killed):
            upgrade(config)
    assert list(Registry(Store(config.store.url)).all()) == [KEY], "after the records were taken"
    with pytest.raises(PermanentFailure, match="has an older format"):
        open_store(config.store, create=False)
    store, _ = upgrade(config)
    assert Registry(store).all() == {KEY: Registry(store).get(KEY)}
    assert read_identity(store) is not None


def test_the_command_makes_no_store_of_an_empty_mount_point(config, tmp_path, monkeypatch):
    (tmp_path / "lab.yaml").write_text(LAB)
    monkeypatch.setenv("NEURO_ASSETS_LAB", str(tmp_path))
    (tmp_path / "store").rename(tmp_path / "disk")
    (tmp_path / "store").mkdir()
    failed = CliRunner().invoke(app, ["upgrade-store"])
    assert isinstance(failed.exception, PermanentFailure) and "mount it" in str(failed.exception)
    assert list((tmp_path / "store").iterdir()) == []
    (tmp_path / "store").rmdir()
    (tmp_path / "disk").rename(tmp_path / "store")
    assert command("upgrade-store") == (0, "10 outputs and 1 recordings adopted.")


def test_an_output_that_was_out_of_date_stays_so(config, tmp_path):
    edited = parse_config(
        LAB.replace("set: demo}", "set: demo}\n  lfp: {parameters: {lowpass_hz: 250}}"),
        base=tmp_path,
    )
    store, _ = upgrade(edited)
    current = store.current("lfp", KEY)
    step = next(step for step in all_steps(edited) if step.name == "lfp")
    assert step.version(current.manifest.inputs, KEY) != current.version


def test_verify_and_gc_know_where_adopted_files_are(config):
    store, _ = upgrade(config)
    assert store.verify() == []
    store.gc(older_than_h=0.0, dry_run=False)
    assert store.verify() == []
    for name, state in states(config, store).items():
        state.stored.check()
        assert state.stored.is_intact(), name
