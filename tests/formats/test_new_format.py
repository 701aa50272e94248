"""A new file format is its module and one line in `formats.known_formats`."""

from __future__ import annotations

import sys
import types

import numpy as np
from spikeglx_files import write

from neuro_assets.formats import known_formats, scan_session
from neuro_assets.formats.completeness import what_is_missing
from neuro_assets.formats.model import Identity, RawRecording, Scan, Stream
from neuro_assets.formats.opening import open_raw


def scan(folder, listing):
    found = [
        RawRecording(
            format="toy",
            probe="probe07",
            identity=Identity(size_bytes=file.size),
            streams={
                "wideband": Stream(
                    name="wideband", files=(file.path,), n_channels=1, n_samples=file.size,
                    sampling_frequency=100.0, sizes=(file.size,),
                )
            },
        )
        for file in listing.files
        if file.path.endswith(".toy")
    ]  # fmt: skip
    return Scan(recordings=tuple(found))


def test_one_line_makes_a_format_known(tmp_path, monkeypatch):
    module = types.ModuleType("toy_format")
    module.open_stream = lambda recording, stream, folder: np.fromfile(
        folder / stream.files[0], dtype=np.uint8
    )
    monkeypatch.setitem(sys.modules, "toy_format", module)
    toy = known_formats.FileFormat(
        ("toy",), scan, "toy_format", length_check=lambda stream, folder: ["it is too short"]
    )
    monkeypatch.setattr(known_formats, "FORMATS", (*known_formats.FORMATS, toy))
    write(tmp_path / "a_g0_t0.imec0.ap.bin")
    (tmp_path / "x.toy").write_bytes(b"123")
    found = {each.label: each for each in scan_session(tmp_path).recordings}
    assert found.keys() == {"probe00", "probe07"}
    opened = open_raw(found["probe07"], tmp_path)["wideband"]
    assert opened.tolist() == [49, 50, 51]
    assert what_is_missing(found["probe07"], tmp_path) == ("it is too short",)
    assert what_is_missing(found["probe00"], tmp_path) == ()
