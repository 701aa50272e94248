"""`lab.yaml`: every mistake is one line that names the right key, and nothing is guessed."""

from __future__ import annotations

from importlib import resources

import pytest
import typer

from neuro_assets.assets.catalog import all_steps
from neuro_assets.cli.setup import doctor
from neuro_assets.config import ConfigError, parse_config, read_config
from neuro_assets.parameters.lfp import LfpParameters


def test_the_template_is_a_valid_configuration_with_the_defaults():
    text = resources.files("neuro_assets").joinpath("templates/lab.yaml").read_text("utf-8")
    written, default = parse_config(text), parse_config("")
    assert written.sorters == default.sorters
    assert written.store == default.store
    assert written.processing == default.processing
    assert written.raw_deletion.enabled is False


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("stroe: {url: x}", "stroe: unknown key; did you mean 'store'"),
        ("store: {ulr: x}", "store.ulr: unknown key; did you mean 'url'"),
        ("sources: [{pth: x}]", "did you mean 'path'"),
        ("sources: [{name: rig 1, path: x}]", "sources.0.name: 'rig 1' names no source: letters"),
        ("sources: [{name: ../rig, path: x}]", "sources.0.name: '../rig' names no source"),
        ("steps: {bad_chanels: {}}", "did you mean 'bad_channels'"),
        ("steps: {lfp: {set: abi}}", "no parameter set 'abi'"),
        ("steps: {lfp: {parameters: {lowpas_hz: 3}}}", "did you mean 'lowpass_hz'"),
        ("steps: {lfp: {parameters: {lowpass_hz: fast}}}", "lowpass_hz"),
        ("sorters: []", "at least one sorter set"),
        ("sorters: [{name: a}, {name: a}]", "same name"),
        ("steps: {units: {parameters: {source: ks5}}}", "names no sorter set: 'ks5'"),
        ("sorters: [{name: 'Bad Name'}]", "sorters.0.name"),
        ("lab: [", "not valid YAML at line"),
        ("- a", "keys and values"),
    ],
)
def test_a_mistake_is_named(text, words):
    with pytest.raises(ConfigError) as caught:
        all_steps(parse_config(text))
    assert words in str(caught.value)


def test_two_mistakes_are_two_lines():
    with pytest.raises(ConfigError) as caught:
        parse_config("stroe: 1\nlabb: 2")
    assert len(str(caught.value).splitlines()) == 2


def test_relative_paths_count_from_the_folder_of_the_file(tmp_path):
    (tmp_path / "lab.yaml").write_text("store: {url: out}\nsources: [{path: ../raw data}]")
    config = read_config(tmp_path / "lab.yaml")
    assert config.store.url == str(tmp_path / "out")
    assert config.sources[0].path == str(tmp_path.parent / "raw data")


def test_an_s3_url_is_left_as_it_is(tmp_path):
    assert parse_config("store: {url: 's3://b/p'}", base=tmp_path).store.url == "s3://b/p"


def test_the_resolved_text_gives_the_same_configuration(tmp_path):
    config = parse_config("lab: x\nsources: [{path: y}]", base=tmp_path)
    assert parse_config(config.model_dump_json()) == config


def test_a_parameter_changes_the_digest_and_the_same_value_does_not():
    default = parse_config("").step(LfpParameters)
    same = parse_config("steps: {lfp: {parameters: {}}}").step(LfpParameters)
    other = parse_config("steps: {lfp: {parameters: {lowpass_hz: 250}}}").step(LfpParameters)
    assert same.digest == default.digest
    assert other.digest != default.digest


def test_the_doctor_names_a_step_that_does_not_exist(tmp_path, monkeypatch, capsys):
    (tmp_path / "lab.yaml").write_text("steps: {bad_chanels: {}}")
    monkeypatch.setenv("NEURO_ASSETS_LAB", str(tmp_path))
    with pytest.raises(typer.Exit):
        doctor()
    assert "did you mean 'bad_channels'" in " ".join(capsys.readouterr().out.split())
