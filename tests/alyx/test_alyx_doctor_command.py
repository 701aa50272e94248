"""`neuro-assets doctor` as a person meets it: each mistake about Alyx is one line of its own."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from commands import call
from fake_alyx.server import TOKEN, AlyxServer
from scripted_http import html, lonely_home, says, scripted
from typer.testing import CliRunner

from neuro_assets.alyx import retry as asking
from neuro_assets.cli import setup
from neuro_assets.cli.app import app
from neuro_assets.config import CONFIG_VARIABLE, STORE_VARIABLE

WRONG_TOKEN = "another-token-fedcba9876543210"
LINE = re.compile(r"(well |wrong|note )  (.*)")


@dataclass
class Said:
    """What the doctor printed, and its exit code."""

    code: int
    lines: list[tuple[str, str]]

    @property
    def wrong(self) -> list[str]:
        return [words for mark, words in self.lines if mark == "wrong"]

    def of(self, subject: str) -> tuple[str, str]:
        """Mark and words of the only line about something."""
        [found] = [
            (mark, words.removeprefix(subject).strip())
            for mark, words in self.lines
            if words.startswith(f"{subject} ")
        ]
        return found


Doctor = Callable[..., Said]


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lonely_home(tmp_path, monkeypatch)
    monkeypatch.setenv("ALYX_TOKEN", TOKEN)
    monkeypatch.setenv(CONFIG_VARIABLE, "")  # the command sets it for what it starts
    monkeypatch.delenv(STORE_VARIABLE, raising=False)
    monkeypatch.setattr(asking, "_FIRST_WAIT_S", 0.0)
    monkeypatch.setattr(setup.console, "width", 1000)


@pytest.fixture
def server() -> Iterator[AlyxServer]:
    with AlyxServer() as alyx:
        alyx.add_lab("mainenlab")
        alyx.add_project("psychedelics")
        alyx.add_repository("mainen_lab_SR", lab="mainenlab", personal=True)
        alyx.add_session("M1", "2026-11-20", 1, lab="mainenlab", projects=["psychedelics"])
        yield alyx


@pytest.fixture
def lab(tmp_path: Path, server: AlyxServer) -> Path:
    folder = tmp_path / "lab"
    (folder / "data" / "M1").mkdir(parents=True)
    return folder


def configured(lab: Path, url: str, **alyx: Any) -> None:
    """Write a lab.yaml whose section `alyx` is right but for what is given."""
    section = {
        "url": url,
        "projects": ["psychedelics"],
        "labs": ["mainenlab"],
        "repositories": {"mainen_lab_SR": "data"},
        **alyx,
    }
    text = json.dumps({"store": {"url": "store"}, "sources": [], "alyx": section})
    (lab / "lab.yaml").write_text(text)


@pytest.fixture
def doctor(lab: Path, server: AlyxServer) -> Doctor:
    def ask(url: str = server.url, **alyx: Any) -> Said:
        configured(lab, url, **alyx)
        result = CliRunner().invoke(app, ["--lab", str(lab), "doctor"])
        assert result.exception is None or isinstance(result.exception, SystemExit), result
        for secret in (TOKEN, WRONG_TOKEN):
            assert secret not in result.output
        found = [LINE.fullmatch(line) for line in result.output.splitlines()]
        assert all(found), result.output
        return Said(result.exit_code, [match.groups() for match in found if match])

    return ask


def test_all_well_is_exit_code_0_and_says_what_was_looked_at(doctor, server):
    said = doctor()
    assert (said.code, said.wrong) == (0, [])
    assert said.of("alyx") == ("well ", f"{server.url} has 1 sessions")
    assert said.of("token") == ("well ", "accepted")
    assert said.of("project psychedelics") == ("well ", "is in Alyx")
    assert said.of("lab mainenlab") == ("well ", "is in Alyx")
    assert said.of("repository mainen_lab_SR")[1].endswith("data can be read")
    assert said.of("timezone")[0] == "well "


def test_a_lab_without_alyx_hears_nothing_of_it(doctor, lab, server):
    (lab / "lab.yaml").write_text("store: {url: store}\n")
    result = CliRunner().invoke(app, ["--lab", str(lab), "doctor"])
    assert result.exit_code == 0
    assert not re.search(r"^\S+ +(alyx|token|timezone)", result.output, re.M)
    assert server.log == []


def test_an_address_where_nothing_listens(doctor):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{listener.getsockname()[1]}"
    said = doctor(closed)
    assert said.code == 1
    [line] = said.wrong
    assert line.startswith("alyx ") and closed in line
    assert "refuses the connection: nothing listens there" in line
    assert "correct url in the alyx section of lab.yaml" in line


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (html(200), "Sign in to LabNet"),
        (html(404, b"<title>Not Found</title>"), "Not Found"),
        (says(200, {"version": 3}), "JSON that is not a page of rows"),
    ],
    ids=["login page", "nothing at this path", "another API"],
)
def test_an_address_of_something_that_is_no_alyx(doctor, act, words):
    with scripted() as other:
        other.acts[:] = [act]
        said = doctor(other.url)
    assert said.code == 1
    [line] = said.wrong
    assert line.startswith("alyx ")
    assert f"{other.url} is not an Alyx" in line and words in line
    assert "correct url in the alyx section of lab.yaml" in line
    assert not any(words.startswith("token ") for _, words in said.lines)


@pytest.mark.parametrize("token", [WRONG_TOKEN, None])
def test_a_wrong_token_is_not_a_wrong_address(doctor, server, monkeypatch, token):
    if token is None:
        monkeypatch.delenv("ALYX_TOKEN")
    else:
        monkeypatch.setenv("ALYX_TOKEN", token)
    said = doctor()
    assert said.code == 1
    assert said.of("alyx") == ("well ", f"{server.url} is an Alyx")
    [line] = said.wrong
    assert line.startswith("token ")
    assert "set ALYX_TOKEN to a token of that Alyx" in line


@pytest.mark.parametrize(
    ("wrong", "subject", "words"),
    [
        (
            {"projects": ["psychedelic"]},
            "project psychedelic",
            "Alyx has no project 'psychedelic'; the nearest is 'psychedelics'",
        ),
        ({"labs": ["Mainenlab"]}, "lab Mainenlab", "the nearest is 'mainenlab'"),
        (
            {"repositories": {"mainen_SR": "data"}},
            "repository mainen_SR",
            "Alyx has no data repository 'mainen_SR'; the nearest is 'mainen_lab_SR'",
        ),
        (
            {"repositories": {"mainen_lab_SR": "not_mounted"}},
            "repository mainen_lab_SR",
            "not_mounted is not a folder of this machine: mount it",
        ),
    ],
    ids=["project", "lab", "repository unknown to Alyx", "folder not there"],
)
def test_a_wrong_name_or_place_is_the_only_wrong_line(doctor, wrong, subject, words):
    said = doctor(**wrong)
    assert said.code == 1
    mark, line = said.of(subject)
    assert mark == "wrong"
    assert words in line and "correct lab.yaml" in line
    assert len(said.wrong) == 1
    assert said.of("token") == ("well ", "accepted")


def test_several_mistakes_at_once_are_a_line_each(doctor):
    said = doctor(
        projects=["psychedelics", "nope"],
        labs=["nope"],
        repositories={"mainen_lab_SR": "not_mounted", "nope": "data"},
    )
    assert said.code == 1
    assert len(said.wrong) == len(set(said.wrong)) == 4
    for subject in ("project nope", "lab nope", "repository nope", "repository mainen_lab_SR"):
        assert said.of(subject)[0] == "wrong"
    assert said.of("project psychedelics")[0] == "well "


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"timezone": "Europe/Lisboa"}, "alyx.timezone: unknown time zone 'Europe/Lisboa'"),
        ({"url": "alyx.example.org"}, "alyx.url: must begin with https://"),
        ({"write_repository": "x"}, "write_repository 'x' has no place under repositories"),
        ({"project": ["p"]}, "alyx.project: unknown key; did you mean 'projects'"),
    ],
)
def test_what_cannot_be_right_is_said_of_the_file_before_anything_is_asked(
    doctor, server, wrong, words
):
    said = doctor(**wrong)
    assert said.code == 1
    [(mark, line)] = said.lines
    assert mark == "wrong" and line.startswith("lab.yaml ") and words in line
    assert server.log == []


def test_a_login_in_the_address_is_refused_and_not_repeated(doctor):
    said = doctor("https://me:hush-hush@alyx.example.org")
    assert said.code == 1
    assert "ALYX_TOKEN" in said.wrong[0]
    assert not any("hush-hush" in words for _, words in said.lines)


def test_the_whole_command_ends_with_its_code_and_without_the_token(lab, server):
    configured(lab, server.url, projects=["psychedelic"])
    done = call("doctor", folder=lab, env={"ALYX_TOKEN": TOKEN})
    output = done.stdout + done.stderr
    assert done.returncode == 1, output
    assert "wrong  project psychedelic Alyx has no project" in done.stdout
    assert TOKEN not in output
