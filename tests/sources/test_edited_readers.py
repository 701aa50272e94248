"""An edit of `readers` reaches sessions that were seen before, and nothing else does."""

from __future__ import annotations

import json

import numpy as np
import probeinterface
import pytest

from neuro_assets.formats.options import ReaderEntry
from neuro_assets.service.session_registration import seen
from neuro_assets.sources.folders.source import LocalSessionSource

ENTRY = {
    "glob": "**/*.raw",
    "reader": "binary",
    "options": {"sampling_frequency": 15000, "num_channels": 4, "dtype": "int16"},
    "gain_uv": 0.1,
}
WIRING = {"positions_um": [[0, 0], [25, 0], [0, 25], [25, 25]]}


def put_probe(path, step):
    probe = probeinterface.Probe(ndim=2)
    probe.set_contacts(np.array([[0, 0], [step, 0], [0, step], [step, step]], float))
    probe.set_device_channel_indices(range(4))
    probeinterface.write_probeinterface(path, probe)


@pytest.fixture
def look(tmp_path):
    """Changes of one source at a time (s), each time from the cursor of the last."""
    folder = tmp_path / "data/M1_20240512"
    folder.mkdir(parents=True)
    (folder / "x.raw").write_bytes(np.arange(4000, dtype="int16").tobytes())
    cursors = [None]

    def at(time, *entries):
        readers = tuple(ReaderEntry.model_validate(entry) for entry in entries)
        source = LocalSessionSource(tmp_path / "data", readers=readers, clock=lambda: time)
        changes = source.changes(cursors[-1])
        cursors.append(changes.cursor)
        return [seen(one, use_hash=False) for one in changes.changed]

    return at


def test_an_edited_entry_describes_again_and_does_not_settle_anew(look):
    look(0)
    assert [one.description.ready for one in look(1000)] == [True]
    for time, gain in ((1001, 0.1), (1002, 0.5)):
        (one,) = look(time, ENTRY | {"wiring": WIRING, "gain_uv": gain})
        assert one.description.ready
        assert [r.gain_uv for r in one.description.recordings] == [gain]
        assert look(time, ENTRY | {"wiring": WIRING, "gain_uv": gain}) == []
    (one,) = look(1003)
    assert one.description.recordings == ()


def test_files_that_an_entry_names_are_looked_at(look, tmp_path):
    probe = tmp_path / "probe.json"
    put_probe(probe, 25)
    entry = ENTRY | {"probe_file": str(probe)}
    look(0, entry)
    (first,) = look(1000, entry)
    assert look(2000, entry) == []
    put_probe(probe, 50)
    (second,) = look(2001, entry)
    assert second.description.ready and first.versions != second.versions
    probe.write_text(json.dumps({}))
    (broken,) = look(2002, entry)
    assert broken.description.recordings == () and broken.description.problems
    probe.unlink()
    assert len(look(2003, entry)) == 1
    assert look(2004, entry) == []
