"""Texts of `--input` and `--output`."""

from __future__ import annotations

from pathlib import Path

import pytest

from rtsep.errors import UsageError
from rtsep.io.open import open_input, open_output


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("mic", "portaudio", ""),
        ("default", "portaudio", ""),
        ("3", "portaudio", "3"),
        ("USB Audio", "portaudio", "USB Audio"),
        ("USB Audio: - (hw:1,0)", "portaudio", "USB Audio: - (hw:1,0)"),
        ("jack", "jack", ""),
        ("jack:system", "jack", "system"),
        ("jack:system:capture_1", "jack", "system:capture_1"),
        ("jackson.wav", "file", "jackson.wav"),
        ("pulse:", "pulse", ""),
        ("pulse", "pulse", ""),
        ("pipewire:Built-in", "pulse", "Built-in"),
        ("song.flac", "file", "song.flac"),
        ("./song", "file", "song"),
        ("/music/a: b", "file", "/music/a: b"),
        ("-", "pipe", ""),
        ("-:int16:44100:2", "pipe", "int16:44100:2"),
        ("demo", "demo", ""),
        ("demo:ballad", "demo", "ballad"),
        ("test:sine:1000", "test", "sine:1000"),
    ],
)
def test_inputs(text: str, kind: str, name: str) -> None:
    end = open_input(text)
    assert (end.kind, end.name, str(end)) == (kind, name, text)


def test_a_file_that_exists_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_input("USB").kind == "portaudio"
    (tmp_path / "USB").touch()
    assert open_input("USB").kind == "file"


def test_a_folder_does_not_hide_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("jack", "pulse", "songs"):
        (tmp_path / name).mkdir()
    assert [open_output(name).kind for name in ("jack", "pulse", "songs")] == ["jack", "pulse", "file"]


def test_outputs() -> None:
    assert open_output("speakers").kind == "portaudio"
    assert open_output("null").kind == "null"
    assert open_output("out.wav").kind == "file"
    assert open_output("jack").kind == "jack"
    assert open_output("pulse:b").name == "b"


@pytest.mark.parametrize("text", ["", "  ", "null"])
def test_no_inputs(text: str) -> None:
    with pytest.raises(UsageError):
        open_input(text)


@pytest.mark.parametrize("text", ["", "demo", "demo:dance", "test:sine"])
def test_no_outputs(text: str) -> None:
    with pytest.raises(UsageError):
        open_output(text)
