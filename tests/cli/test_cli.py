"""The command line as a person meets it: exit codes, one-line errors, no traceback."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from commands import Done, call

from neuro_assets.store import Store


def one_error(done: Done) -> str:
    assert done.returncode != 0
    assert done.stderr.startswith("error: "), done.stderr
    return done.stderr


def test_the_program_itself_lists_its_commands_and_ends_with_its_code(tmp_path):
    program = [sys.executable, "-c", "from neuro_assets.cli import main; main()"]
    done = subprocess.run([*program, "--help"], capture_output=True, text=True, check=True)
    wrong = subprocess.run(
        [*program, "run", "no_such_thing"], cwd=tmp_path, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("error: ") and "Traceback" not in wrong.stderr
    for command in ("init", "doctor", "simulate", "run", "up", "demo", "status", "verify", "gc"):
        assert command in done.stdout


def test_init_writes_a_file_that_doctor_accepts_and_never_overwrites(tmp_path):
    assert call("init", folder=tmp_path).returncode == 0
    done = call("doctor", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "wrong" not in done.stdout
    assert "exists already" in one_error(call("init", folder=tmp_path))


def test_doctor_says_how_to_mend_each_thing(tmp_path):
    (tmp_path / "lab.yaml").write_text(
        "sources: [{path: /no/where}]\nsorters: [{name: ks9}]\nstore: {url: /proc/store}\n"
    )
    done = call("doctor", folder=tmp_path)
    assert done.returncode == 1
    for words in ("/no/where is not there; mount it", "no sorter 'ks9'", "/proc/store: No such"):
        assert words in " ".join(done.stdout.split()), done.stdout


def test_a_misspelt_key_is_named_with_the_right_one(tmp_path):
    (tmp_path / "lab.yaml").write_text("sorcers: []\n")
    error = one_error(call("status", folder=tmp_path))
    assert "sorcers: unknown key; did you mean" in error


def test_status_of_an_empty_lab_says_what_to_do(tmp_path):
    done = call("status", folder=tmp_path)
    assert done.returncode == 0
    assert "neuro-assets run FOLDER" in " ".join(done.stdout.split())
    assert json.loads(call("status", "--json", folder=tmp_path).stdout) == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("run", "no_such_thing"), "neither a folder nor a registered recording"),
        (("status", "no_such_key"), "no recording 'no_such_key'"),
        (("delete-raw", "no_such_key"), "not in the registry"),
    ],
)
def test_a_wrong_argument_is_one_line(tmp_path, words, expected):
    assert expected in one_error(call(*words, folder=tmp_path))


def test_an_empty_folder_is_said_to_hold_nothing(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no recording that is ready" in one_error(call("run", "empty", folder=tmp_path))


def test_bad_files_are_named_with_what_to_do_and_the_good_probe_is_registered(tmp_path):
    from neuro_assets.simulation import simulate_session

    session = simulate_session(
        tmp_path / "in", duration_s=1, n_channels=8, n_probes=3, video=False
    ).session
    first, second = sorted(session.rglob("*.ap.bin"))[:2]
    first.write_bytes(first.read_bytes()[:-1])
    second.write_bytes(b"")
    done = call("run", str(session), "--only", "compressed_recording", folder=tmp_path)
    output = " ".join(done.stdout.split())
    assert first.name in output and second.name in output
    assert done.returncode == 0, done.stdout + done.stderr
    assert "_probe02" in done.stdout
    states = json.loads(call("status", "--json", folder=tmp_path).stdout)
    made = [s["key"] for s in states if s["outcome"] == "complete"]
    assert len(made) == 1 and made[0].endswith("_probe02")


def test_verify_finds_a_flipped_bit_and_repair_makes_the_output_again(tmp_path):
    from neuro_assets.simulation import simulate_session

    simulated = simulate_session(tmp_path / "in", duration_s=1, n_channels=8, video=False)
    only = ("--only", "compressed_recording")
    (tmp_path / "lab.yaml").write_text("store: {url: store}\n")
    assert call("run", str(simulated.session), *only, folder=tmp_path).returncode == 0
    chunk = next((tmp_path / "store").rglob("ap.zarr/traces_seg0/0.0"))
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    found = call("verify", folder=tmp_path)
    assert found.returncode == 1 and "1 defects" in found.stdout and "--repair" in found.stdout
    mended = call("verify", "--repair", folder=tmp_path)
    assert "no intact copy" in mended.stdout and "Made again." in mended.stdout, mended.stdout
    store = Store(str(tmp_path / "store"))
    (key,) = store.keys("compressed_recording")
    current = store.current("compressed_recording", key).local()
    assert (current / "ap.zarr/traces_seg0/0.0").read_bytes() == whole


def test_the_package_and_the_definitions_import_nothing_heavy():
    """What takes seconds to import is imported inside functions."""
    heavy = ("torch", "spikeinterface", "pynwb", "numba", "scipy", "sklearn", "matplotlib", "zarr")
    for module, allowed in (("neuro_assets", set()),
                            ("neuro_assets.definitions", {"numpy"})):  # fmt: skip
        code = (
            f"import sys, {module}; print([m for m in {heavy + ('pandas',)!r} if m in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                              check=True)  # fmt: skip
        loaded = set(eval(done.stdout.strip().splitlines()[-1]))
        assert loaded <= allowed, module


def test_secrets_are_not_shown(tmp_path):
    env = {"AWS_ACCESS_KEY_ID": "AKIASECRETID", "AWS_SECRET_ACCESS_KEY": "verysecretvalue"}
    (tmp_path / "lab.yaml").write_text(
        "store: {url: 's3://bucket/x', endpoint_url: 'http://127.0.0.1:9'}\n"
    )
    done = call("doctor", folder=tmp_path, env=env)
    assert done.returncode == 1
    assert "verysecretvalue" not in done.stdout + done.stderr
