"""Every layout, from files made up for it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from rtsep.cli.evaluate import split_of
from rtsep.errors import UsageError
from rtsep.evaluation.layouts import find_songs
from rtsep.evaluation.sound import load

from ..conftest import need
from . import songs

STEMS = ("drums", "bass", "other", "vocals")


def stems(seed: int) -> dict[str, np.ndarray]:
    voice, band = songs.make(seed, 2.0)
    return {"vocals": voice, "drums": 0.5 * band, "bass": 0.3 * band, "other": 0.2 * band}


def check(root: Path, layout: str, names: list[str], seed: int = 0, **options: object) -> None:
    """The layout is found by itself and by its name, and the first song's parts are those that were written."""
    found, listed = find_songs(root, **options)  # type: ignore[arg-type]
    assert (found, [song.name for song in listed]) == (layout, names)
    assert find_songs(root, layout, **options) == (found, listed)  # type: ignore[arg-type]
    voice, band = songs.make(seed, 2.0)
    song = load(listed[0])
    assert song.samplerate == songs.RATE
    np.testing.assert_allclose(song.vocals, voice, atol=1e-6)
    np.testing.assert_allclose(song.accompaniment, band, atol=1e-6)
    np.testing.assert_allclose(song.mixture, voice + band, atol=1e-6)


def test_folder(tmp_path: Path) -> None:
    for seed, name in enumerate(("a", "deep/er/b")):
        songs.write_song(tmp_path / name, seed, 2.0)
    check(tmp_path, "folder", ["a", "deep/er/b"])
    assert [song.name for song in find_songs(tmp_path, patterns=["*b"])[1]] == ["deep/er/b"]
    check(tmp_path / "a", "folder", ["a"])


def test_musdb18_folders(tmp_path: Path) -> None:
    for place, seed in (("train", 1), ("test", 0)):
        folder = tmp_path / place / f"Band - Song {seed}"
        parts = stems(seed)
        for name, sound in parts.items():
            songs.write(folder / f"{name}.wav", sound)
        songs.write(folder / "mixture.wav", sum(parts.values()))
    check(tmp_path, "musdb18", ["test/Band - Song 0"])
    check(tmp_path, "musdb18", ["train/Band - Song 1"], seed=1, split="train")
    assert len(find_songs(tmp_path, split="all")[1]) == 2


def test_musdb18_stem_files(tmp_path: Path) -> None:
    need(shutil.which("ffmpeg"), "ffmpeg is not installed")
    parts = stems(0)
    parts = {"mixture": np.asarray(sum(parts.values())), **{name: parts[name] for name in STEMS}}
    for name, sound in parts.items():
        songs.write(tmp_path / "parts" / f"{name}.wav", sound)
    target = tmp_path / "data" / "test" / "Band - Song.stem.mp4"
    target.parent.mkdir(parents=True)
    inputs = [word for name in parts for word in ("-i", str(tmp_path / "parts" / f"{name}.wav"))]
    maps = [word for number in range(5) for word in ("-map", str(number))]
    command = ["ffmpeg", "-v", "error", *inputs, *maps, "-c:a", "alac", "-f", "mp4", str(target)]
    subprocess.run(command, check=True)
    layout, found = find_songs(tmp_path / "data")
    assert (layout, [song.name for song in found]) == ("musdb18", ["test/Band - Song"])
    song = load(found[0])
    voice, band = songs.make(0, 2.0)
    np.testing.assert_allclose(song.vocals, voice, atol=1e-4)  # 16 bits in the file
    np.testing.assert_allclose(song.accompaniment, band, atol=2e-4)
    np.testing.assert_allclose(song.mixture, voice + band, atol=1e-4)


def test_dsd100(tmp_path: Path) -> None:
    for place, seed in (("Dev", 1), ("Test", 0)):
        parts = stems(seed)
        for name, sound in parts.items():
            songs.write(tmp_path / "Sources" / place / "001 - Band - Song" / f"{name}.wav", sound)
        songs.write(tmp_path / "Mixtures" / place / "001 - Band - Song" / "mixture.wav", sum(parts.values()))
    check(tmp_path, "dsd100", ["Test/001 - Band - Song"])
    check(tmp_path, "dsd100", ["Dev/001 - Band - Song"], seed=1, split="train")


def test_mir1k(tmp_path: Path) -> None:
    for name, seed in (("annar_1_01", 0), ("abjones_1_02", 1)):
        voice, band = songs.make(seed, 2.0)
        songs.write(tmp_path / "Wavfile" / f"{name}.wav", np.stack([band[0], voice[0]]))
    layout, found = find_songs(tmp_path)
    assert (layout, [song.name for song in found]) == ("mir1k", ["annar_1_01"])
    assert [song.name for song in find_songs(tmp_path, split="train")[1]] == ["abjones_1_02"]
    voice, band = songs.make(0, 2.0)
    song = load(found[0])
    np.testing.assert_allclose(song.vocals, voice[:1], atol=1e-7)
    np.testing.assert_allclose(song.accompaniment, band[:1], atol=1e-7)
    assert find_songs(tmp_path / "Wavfile")[0] == "mir1k"


def test_pack(tmp_path: Path) -> None:
    names = {"paired/eir_rubidium": 0, "paired/eir_potassium": 1, "paired16k/mir1k_annar_1": 2, "paired/eir_lithium": 3}
    for name, seed in names.items():
        songs.write_song(tmp_path / name, seed, 2.0)
    check(tmp_path, "pack", ["paired/eir_rubidium", "paired16k/mir1k_annar_1"], split_of=split_of)
    assert [song.name for song in find_songs(tmp_path, split="dev", split_of=split_of)[1]] == ["paired/eir_potassium"]
    assert [song.name for song in find_songs(tmp_path, split="train", split_of=split_of)[1]] == ["paired/eir_lithium"]


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"layout": "musdb81"}, ["unknown layout 'musdb81'", "did you mean 'musdb18'?", "mir1k"]),
        ({"layout": "dsd100"}, ["not the layout dsd100", "Mixtures/", "found song/"]),
        ({"layout": "mir1k"}, ["not the layout mir1k", "left the accompaniment", "found song/"]),
        ({"layout": "pack"}, ["not the layout pack", "paired/", "found song/"]),
        ({"layout": "musdb18"}, ["not the layout musdb18", "drums", "found song/"]),
        ({"split": "test"}, ["is not split", "--split"]),
        ({"split": "tset"}, ["unknown split 'tset'", "did you mean 'test'?"]),
        ({"patterns": ["x*"]}, ["x*", "song"]),
    ],
)
def test_what_does_not_fit(tmp_path: Path, options: dict[str, object], parts: list[str]) -> None:
    songs.write_song(tmp_path / "song", 0, 1.0)
    with pytest.raises(UsageError) as caught:
        find_songs(tmp_path, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def test_a_folder_of_nothing_known(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("no sound")
    with pytest.raises(UsageError, match=r"no layout that is known.*musdb18.*found readme.txt"):
        find_songs(tmp_path)
    with pytest.raises(UsageError, match="missing"):
        find_songs(tmp_path / "nowhere")


def test_songs_behind_links_and_odd_names(tmp_path: Path) -> None:
    songs.write_song(tmp_path / "elsewhere" / "deep", 0, 2.0)
    root = tmp_path / "set"
    songs.write_song(root / "plain", 1, 2.0)
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "circle").symlink_to(root)
    try:
        os.rename(root / "plain", os.fsencode(root) + b"/caf\xe9")
    except OSError:  # a file system that wants UTF-8
        pytest.skip("this file system has no such names")
    names = [song.name for song in find_songs(root)[1]]
    assert names == ["caf\\xe9", "linked/deep"]
    assert load(find_songs(root)[1][0]).samplerate == songs.RATE


def test_an_album_is_not_mir1k(tmp_path: Path) -> None:
    voice, band = songs.make(0, 2.0)
    for name in ("one", "two"):
        songs.write(tmp_path / f"{name}.wav", voice + band)
    with pytest.raises(UsageError, match="no layout that is known"):
        find_songs(tmp_path)
    assert find_songs(tmp_path, "mir1k")[0] == "mir1k"


def test_musdb18_songs_that_are_there_twice_or_lack_their_band(tmp_path: Path) -> None:
    parts = stems(0)
    for name, sound in parts.items():
        songs.write(tmp_path / "test" / "A" / f"{name}.wav", sound)
    songs.write(tmp_path / "test" / "A" / "accompaniment.wav", sum(parts.values()) - parts["vocals"])
    (tmp_path / "test" / "A.stem.mp4").write_bytes(b"the same, encoded")
    songs.write(tmp_path / "test" / "B" / "vocals.wav", parts["vocals"])
    songs.write(tmp_path / "test" / "B" / "mixture.wav", sum(parts.values()))
    layout, found = find_songs(tmp_path)
    assert layout == "musdb18"
    assert [(song.name, song.split) for song in found] == [("test/A", "test"), ("test/B", "test")]
    assert found[0].vocals[0].path.name == "vocals.wav"
    assert "drums.*, bass.*, other.* missing" in found[1].fault
