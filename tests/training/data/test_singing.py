"""A sung melody is in tune and in time; songs and covers follow from the seed and keep to the training split."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rtsep.training.data.augment import Mixer
from rtsep.training.data.sources import CACHE_RATE, Clip, Corpus, load

pytest.importorskip("scipy", reason="needs scipy: pip install 'rtsep[train]'")
if importlib.util.find_spec("pyworld") is None:
    pytest.skip("needs pyworld: pip install 'rtsep[train]'", allow_module_level=True)

from rtsep.training.data import bank, covers, performance, singer, singing, world

SUNG_HZ = 220.0


def _vowel(hz: np.ndarray, formants: tuple[float, ...] = (700.0, 1200.0, 2800.0)) -> np.ndarray:
    """Harmonics of a pitch contour (samples,) under three formants."""
    phase, sound = 2 * np.pi * np.cumsum(hz) / CACHE_RATE, np.zeros(len(hz))
    for k in range(1, int(12000 / hz.max())):
        gain = sum(np.exp(-0.5 * ((k * hz.mean() - f) / 250) ** 2) for f in formants) + 0.03 / k
        sound += gain * np.sin(k * phase)
    return 0.1 * sound


def _bank() -> Clip:
    """Twenty syllables of 0.5 s: noise of 60 ms, a vowel of one of three kinds, silence of 0.1 s after every fourth."""
    rng, parts = np.random.default_rng(0), []
    for i in range(20):
        vowel = _vowel(
            np.full(int(0.4 * CACHE_RATE), SUNG_HZ), ((700, 1200, 2800), (300, 2300, 3000), (400, 800, 2600))[i % 3]
        )
        parts += [
            0.02 * rng.standard_normal(int(0.06 * CACHE_RATE)),
            vowel * np.minimum(1, np.arange(len(vowel)) / 960),
        ]
        parts += [np.zeros(int(0.2 * CACHE_RATE))] if i % 4 == 3 else []
    sound = (np.concatenate(parts) * 16384).astype(np.int16)[None]
    return Clip("bank_a", "bank", False, sound)


@pytest.fixture(scope="module")
def person(tmp_path_factory: pytest.TempPathFactory) -> bank.Bank:
    return bank.read_bank(_bank(), tmp_path_factory.mktemp("world"))


def _melody() -> list[performance.Sung]:
    notes = [(0.5, 1.0, 57), (1.0, 1.5, 60), (1.5, 2.7, 64), (3.5, 3.8, 62), (3.8, 4.6, 59)]
    return performance.phrases([(s, e, p, 90) for s, e, p in notes], 0.0, 5.0)


def test_syllables_are_found(person: bank.Bank):
    assert 15 <= len(person.syllables) <= 25
    assert abs(person.pitch - 57) < 0.2
    onsets = [s.vowel - s.begin for s in person.syllables]
    assert 6 <= np.median(onsets) <= 20  # the noise lasts 12 frames


def test_phrases():
    notes = _melody()
    assert [(n.begin, n.end) for n in notes] == [(100, 200), (200, 300), (300, 540), (700, 760), (760, 920)]
    assert [n.first for n in notes] == [True, False, False, True, False]
    assert [n.last for n in notes] == [False, False, True, False, True]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_voice_is_in_tune_and_in_time(person: bank.Bank, seed: int):
    rng, notes = np.random.default_rng(seed), _melody()
    who = singer.Singer([person], formants=1.1, breathy_db=0.0, tilt_db=0.0, press_db=1.0)
    sound = singer.sing(rng, who, notes, 1000)
    assert sound.shape == (5 * CACHE_RATE,)
    f0, _ = world.module().harvest(sound.astype(np.float64), CACHE_RATE, frame_period=5.0)
    cents = []
    for note in notes:
        quarter = (note.end - note.begin) // 4
        found = f0[note.begin + quarter : note.end - quarter]
        assert (found > 0).mean() > 0.9
        cents += list(1200 * np.log2(found[found > 0] / (440 * 2 ** ((note.pitch - 69) / 12))))
    assert np.median(np.abs(cents)) < 30
    level = (sound.reshape(1000, -1) ** 2).mean(1)
    inside = np.concatenate([level[n.begin : n.end] for n in notes])
    assert level[560:600].max() < 1e-3 * inside.mean()  # the rest of the score, but for a breath
    assert level[930:].max() < 1e-6 * inside.mean()


def test_formants_move(person: bank.Bank):
    frames = person.frames
    centres = []
    for factor in (0.85, 1.0, 1.2):
        power = np.abs(np.fft.rfft(world.synthesize(frames, factor))) ** 2
        hz = np.fft.rfftfreq(2 * len(power) - 2, 1 / CACHE_RATE)
        band = (hz > 200) & (hz < 5000)
        centres.append((power * hz)[band].sum() / power[band].sum())
    assert 0.8 < centres[0] / centres[1] < 0.95
    assert 1.08 < centres[2] / centres[1] < 1.25


def test_analysis_and_back():
    hz = 200 * 2 ** (np.sin(np.arange(CACHE_RATE) / CACHE_RATE * 12) / 12)
    sound = _vowel(hz).astype(np.float32)
    again = world.synthesize(world.analyse(sound, CACHE_RATE))[: len(sound)]
    f0, at = world.module().harvest(again.astype(np.float64), CACHE_RATE)
    true = np.interp(at, np.arange(len(hz)) / CACHE_RATE, hz)
    assert np.median(np.abs(1200 * np.log2(f0[40:-40] / true[40:-40]))) < 10
    assert abs(10 * np.log10((again**2).mean() / (sound**2).mean())) < 1.5


def test_backing_keeps_to_the_scale():
    melody = [(0.5 * i, 0.5 * i + 0.5, p, 90) for i, p in enumerate([60, 62, 64, 65, 67, 69, 71, 72] * 2)]
    notes = performance.phrases(melody, 0.0, 9.0)
    heard = set()
    for seed in range(12):
        second = performance.backing(np.random.default_rng(seed), notes)
        heard |= {n.pitch % 12 for n in second}
        assert all(a.pitch != b.pitch for a, b in zip(notes, second, strict=False))
    assert heard == {0, 2, 4, 5, 7, 9, 11}


def test_covers(tmp_path: Path, corpus_folder: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(covers, "SECONDS", 3.0)
    corpus = load(corpus_folder, cache_folder)
    assert covers.make_covers(corpus, tmp_path / "a", 3, 0) == 3
    covers.make_covers(corpus, tmp_path / "b", 3, 0)
    names = sorted(p.relative_to(tmp_path / "a").as_posix() for p in (tmp_path / "a").rglob("*.opus"))
    assert names == [
        "vocals/cover_eir_a_000.opus",
        "vocals16k/cover_mir1k_x_1_000.opus",
        "vocals16k/cover_mir1k_x_1_001.opus",
    ]
    a, b = (load_both(tmp_path / kind, corpus_folder, tmp_path / f"cache_{kind}") for kind in "ab")
    assert {v.name: v.narrow for v in a} == {
        "cover_eir_a_000": False,
        "cover_mir1k_x_1_000": True,
        "cover_mir1k_x_1_001": True,
    }
    assert all(np.array_equal(x.sound, y.sound) for x, y in zip(a, b, strict=True))
    top = np.abs(np.fft.rfft(a[1].read(0, a[1].frames))) ** 2
    assert top[int(len(top) * 8200 / 24000) :].sum() < 1e-4 * top.sum()


def load_both(folder: Path, corpus_folder: Path, cache: Path) -> list[Clip]:
    """The covers in a folder as training finds them, beside accompaniments."""
    (folder / "accompaniment").symlink_to(corpus_folder / "accompaniment")
    return load(folder, cache).voices


def test_songs(
    tmp_path: Path, corpus_folder: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch, person: bank.Bank
):
    """A score goes in, an aligned pair comes out, the same for the same seed; FluidSynth is left out."""
    pytest.importorskip("mido", reason="needs mido: pip install 'rtsep[train]'")
    melody = [(0.5 * i, 0.5 * i + 0.45, 57 + i % 5, 90) for i in range(100)]
    tracks = {"MELODY": melody, "PIANO": [(s, e, p - 12, v) for s, e, p, v in melody]}
    noise = 0.1 * np.random.default_rng(0).standard_normal((2, 30 * CACHE_RATE)).astype(np.float32)
    monkeypatch.setattr(singing, "read_song", lambda data: (tracks, 0.5))
    monkeypatch.setattr(singing, "render", lambda midi, font, folder, seconds: noise.copy())
    monkeypatch.setattr(singing, "SECONDS", 32.0)
    monkeypatch.setattr(singing, "read_bank", lambda clip, cache: person)
    persons = singing.people(load(corpus_folder, cache_folder).voices)
    assert set(persons) == {"bank"}
    made = [singing.make_song([5, 7], b"", persons, tmp_path, tmp_path, tmp_path) for _ in range(2)]
    name, voice, music = made[0]
    assert name == "bank"
    assert voice.shape[1] == music.shape[1] == 32 * CACHE_RATE
    assert np.array_equal(voice, made[1][1])
    assert np.array_equal(music, made[1][2])
    peak = max(float(np.abs(s).max()) for s in (voice, music, voice + music))
    assert peak == pytest.approx(singing.PEAK, abs=1e-3)
    assert abs(20 * np.log10(singing.rms(voice.mean(0)) / singing.rms(music.mean(0)))) < 12


def _clip(name: str, *, narrow: bool = False) -> Clip:
    return Clip(name, name.split("_", maxsplit=1)[0], narrow, np.ones((1, 100), np.int16))


def test_made_songs_have_a_share_of_their_own():
    real, slim, made = (
        (_clip("eir_a"), _clip("eir_a")),
        (_clip("mir1k_a", narrow=True), _clip("mir1k_a", narrow=True)),
        (_clip("score_001_kumi"), _clip("score_001_kumi")),
    )
    without = Mixer(Corpus([_clip("bank_a")], [_clip("band_a")], [real, slim]), seed=0)
    assert without.pairs == [(0.4, [real]), (0.6, [slim])]
    assert [w for w, _ in without.voices] == [0.35, 0.2, 0.4]
    assert [w for w, _ in without.accompaniments] == [0.65, 0.15, 0.2]
    voices = [_clip("bank_a"), _clip("cover_eir_a_000")]
    with_made = Mixer(Corpus(voices, [_clip("band_a")], [real, slim, made]), seed=0)
    assert with_made.pairs == [(0.3, [real]), (0.5, [slim]), (0.2, [made])]
    assert (0.35, [voices[1]]) in with_made.voices
    assert (0.4, [voices[0]]) in with_made.voices


@pytest.mark.parametrize("module", ["singing", "scores"])
def test_what_is_missing_is_said_in_one_line(module: str, tmp_path: Path):
    pytest.importorskip("mido", reason="needs mido: pip install 'rtsep[train]'")
    arguments = [
        "none.zip",
        *(["data"] if module == "singing" else []),
        str(tmp_path),
        "--font",
        str(tmp_path / "no.sf2"),
    ]
    done = subprocess.run(
        [sys.executable, "-m", f"rtsep.training.data.{module}", *arguments], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_cover_moves_the_pitch():
    sound = _vowel(np.full(CACHE_RATE, SUNG_HZ)).astype(np.float32)
    shifts = []
    for seed in range(4):
        result = covers.cover(np.random.default_rng(seed), sound, CACHE_RATE)
        f0, _ = world.module().harvest(result.astype(np.float64), CACHE_RATE)
        shifts.append(12 * np.log2(np.median(f0[f0 > 0]) / SUNG_HZ))
    assert np.abs(shifts).max() < covers.SHIFT + 0.3
    assert np.std(shifts) > 0.3
